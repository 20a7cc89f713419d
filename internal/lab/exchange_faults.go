package lab

import (
	"net"
	"net/http"
	"strings"
	"time"
)

// Fault is a way in which an Exchange does not answer as it should.
type Fault int

// The faults. Each but Slow takes the place of the answer, after the command was done.
const (
	Healthy       Fault = iota
	Slow                // the answer comes, two seconds late
	Throttled           // HTTP 503 with the headers of throttling (MS-ASHTTP, sections 2.2.2.1.1.2 and 3.1.5.2)
	OverBudget          // HTTP 503 without Retry-After
	NeedProvision       // HTTP 449, as before protocol 14.0
	Challenged          // HTTP 401 in the middle of a session, with the claims that a token has to have
	Moved               // HTTP 451 to another server
	Redirected          // HTTP 302 to another server
	Broken              // half an answer, and the end of the connection
	Reset               // no answer, and the connection is reset
	Failing             // HTTP 500
)

// challengeClaims is what Exchange Online asks of a token in addition, in base64.
const challengeClaims = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzk1NTk4ODAwIn19fQ=="

// Break gives an Exchange a fault for every command of signed-in phones from now on; Healthy ends that. elsewhere is the server, as a URL without path, to which
// Moved and Redirected lead.
func (e *Exchange) Break(f Fault, elsewhere string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault, e.elsewhere = f, elsewhere
}

// broken applies the fault of the moment to an answer. It reports whether nothing is left to be sent.
func (e *Exchange) broken(w http.ResponseWriter, seen *Seen, a *answer) (over bool) {
	e.mu.Lock()
	f, to := e.fault, e.elsewhere
	e.mu.Unlock()
	if seen.Mailbox == "" || a.code == statusCanceled {
		return false
	}
	instead := func(code int, headers ...string) {
		*a = bare(code)
		for i := 0; i < len(headers); i += 2 {
			a.header.Set(headers[i], headers[i+1])
		}
	}
	switch f {
	case Slow:
		time.Sleep(2 * time.Second)
	case Throttled:
		instead(http.StatusServiceUnavailable, "Retry-After", "17", "X-MS-ASThrottle", "CommandFrequency", "X-MS-BackOffDuration", "L/-470")
	case OverBudget:
		instead(http.StatusServiceUnavailable, "X-MS-ASThrottle", "OutOfBudgets")
	case NeedProvision:
		instead(449)
	case Challenged:
		*a = e.challenge()
		values := a.header["Www-Authenticate"]
		values[0] = strings.Replace(values[0], "Bearer ", `Bearer claims="`+challengeClaims+`", `, 1)
		a.header.Set("x-ms-diagnostics", invalidTokenText)
	case Moved:
		instead(451, "X-MS-Location", to+Path)
	case Redirected:
		instead(http.StatusFound, "Location", to+Path)
	case Failing:
		instead(http.StatusInternalServerError)
	case Broken, Reset:
		e.end(seen, bare(statusCanceled))
		cut(w, f == Reset)
		return true
	}
	return false
}

// cut ends the connection of a request: with a reset, or after half an answer. It does not return.
func cut(w http.ResponseWriter, reset bool) {
	if !reset {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("\x03\x01\x6a\x00half")) // whether it arrives is the phone's affair
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: the stream is reset
	}
	raw := conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		raw = t.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset instead of an end
	}
	_ = raw.Close()
}
