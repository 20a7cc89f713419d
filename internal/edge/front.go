package edge

import (
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"postern/internal/eas"
)

// The paths, of which nothing but the letter case may differ: no cleaning, no redirect, no escapes.
const (
	pathEAS              = "/Microsoft-Server-ActiveSync"
	documentEAS          = "/default.eas"
	pathAutodiscoverXML  = "/autodiscover/autodiscover.xml"
	pathAutodiscoverJSON = "/autodiscover/autodiscover.json"
)

// serve is the front: it refuses what is not for this gate or not in one way readable, removes what a client must not say, and hands on.
func (e *Edge) serve(w http.ResponseWriter, r *http.Request) {
	defer drainBody(w, r)
	host := hostName(r.Host)
	tenant, ours := e.cfg.Hosts[host]
	if !ours {
		// RFC 9110, section 15.5.20.
		closeWith(w, http.StatusMisdirectedRequest)
		return
	}
	if !plainTarget(r.RequestURI) || !plainPort(r.Host) {
		closeWith(w, http.StatusBadRequest)
		return
	}
	// Long enough for a slow phone, far too short for holding connections with bodies that never come; forward sets it on while a body arrives.
	setReadDeadline(w, bodyTimeout)
	conn, ok := r.Context().Value(connectionKey{}).(*connection)
	if !ok {
		conn = newConnection(r.TLS)
	}
	// From here on the address is the phone's, whoever stands between.
	remote := e.proxies.remote(r)
	r.RemoteAddr = net.JoinHostPort(remote, "0")
	why, path := conflict(r.Header), r.URL.EscapedPath()
	cleanHeader(r.Header)
	head, headed := [sha256.Size]byte{}, false
	if why == "" && isEAS(path) {
		if head, headed = headOf(conn, r); headed {
			if k := conn.recall(&head); k != nil {
				e.serveKnown(w, r, k)
				return
			}
		}
	}
	q := &request{host: host, authority: r.Host, tenant: tenant, conn: conn, remote: remote, conflict: why, head: head, headed: headed}
	switch {
	case isEAS(path):
		q.protocol = protocolEAS
		e.serveEAS(w, r, q)
	case q.conflict != "":
		closeWith(w, http.StatusBadRequest)
	case strings.EqualFold(path, pathAutodiscoverXML):
		e.autodiscoverXML(w, r, tenant)
	case strings.EqualFold(path, pathAutodiscoverJSON) || strings.HasPrefix(strings.ToLower(path), pathAutodiscoverJSON+"/v1.0/"):
		e.autodiscoverJSON(w, r, tenant)
	case e.front.serves(path):
		q.protocol = protocolOAuth
		e.serveOAuth(w, r, q)
	case e.isEWS(path):
		q.protocol = protocolEWS
		e.serveEWS(w, r, q)
	default:
		answer(w, "", http.StatusNotFound, "", nil)
	}
}

// isEAS reports whether a path is that of Exchange ActiveSync: IIS serves it with a slash at the end, and under the name of its document, alike.
func isEAS(path string) bool {
	if len(path) < len(pathEAS) || !strings.EqualFold(path[:len(pathEAS)], pathEAS) {
		return false
	}
	rest := path[len(pathEAS):]
	return rest == "" || rest == "/" || strings.EqualFold(rest, documentEAS)
}

// drainBody reads what is left of a short body. Over HTTP/2 an answer before the end of the request resets the stream (RFC 9113, section 8.1), which some
// clients take for a failure; over HTTP/1.1 net/http does this itself.
func drainBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 {
		setReadDeadline(w, leftoverTimeout)
		_, _ = io.CopyN(io.Discard, r.Body, 64<<10) // what does not come in time is not waited for
	}
}

// setReadDeadline limits how long the connection, or with HTTP/2 the stream, may take for what is read next; 0 takes the limit away. A server that cannot
// do that, such as one of a test, has none.
func setReadDeadline(w http.ResponseWriter, d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = http.NewResponseController(w).SetReadDeadline(at)
}

// closeWith answers a bare status and ends the connection: what comes after a request that could not be understood is not looked at.
func closeWith(w http.ResponseWriter, status int) {
	w.Header().Set("Connection", "close")
	answer(w, "", status, "", nil)
}

// malformed answers a request that cannot be read, in the words of the protocol where it has some, and records that.
func (e *Edge) malformed(w http.ResponseWriter, q *request, bad *eas.RequestError) {
	ref := e.recordMalformed(q, bad.Reason)
	if q.conflict != "" {
		w.Header().Set("X-Postern-Reference", ref)
		closeWith(w, bad.HTTPStatus)
		return
	}
	status, contentType, body := eas.Refusal(q.eas.Command, q.eas.Version, bad.Status)
	if status != http.StatusOK {
		status = bad.HTTPStatus
	}
	answer(w, ref, status, contentType, body)
}
