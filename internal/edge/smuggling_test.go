package edge_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// The suite of what is tried to get mail past the gate, or another user's, by the bytes of a request alone: over a connection with a good certificate, so that
// nothing but the form of the request is to blame.

// wire is what is sent on one connection, and what is answered. Whatever gets through to Exchange has to be the one command that the edge has decided about.
type wire struct {
	name     string
	text     string
	statuses []int // of the answers, in order; after a refusal for its form the connection ends
	upstream int   // commands that Exchange gets
}

// wires are made of command k, by a phone with certificate.
type wires struct{ k call }

// path is the request target of the command.
func (ws wires) path() string { return "/Microsoft-Server-ActiveSync?" + ws.k.query }

// head is a request head without its last line, from the target on.
func (ws wires) head(target string, lines ...string) string {
	return "POST " + target + " HTTP/1.1\r\nHost: " + gateHost + "\r\nAuthorization: " + ws.k.auth + "\r\nMS-ASProtocolVersion: 16.1\r\nUser-Agent: " + iphone + "\r\n" +
		strings.Join(append(lines, "\r\n"), "\r\n")
}

// empty is the command without body, at a target, with more header lines.
func (ws wires) empty(target string, lines ...string) string {
	return ws.head(target, append(lines, "Content-Length: 0")...)
}

const (
	hidden  = "GET /hidden HTTP/1.1\r\nHost: " + gateHost + "\r\n\r\n" // answered 404 where it is taken for a request
	chunked = "5\r\nhello\r\n0\r\n\r\n"
)

// framing are requests whose end two readers could find in different places (RFC 9112, sections 6 and 11.2).
func (ws wires) framing() []wire {
	path, head := ws.path(), ws.head
	return []wire{
		{"good, twice and a third path", head(path, "Content-Length: 5") + "hello" + head(path, "Transfer-Encoding: chunked") + chunked + hidden, []int{200, 200, 404}, 2},
		{"chunks with trailer, then another", head(path, "Transfer-Encoding: chunked") + "5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n" + hidden, []int{200, 404}, 1},
		{"length and chunked", head(path, "Content-Length: 5", "Transfer-Encoding: chunked") + chunked + hidden, []int{400}, 0},
		{"chunked and length", head(path, "Transfer-Encoding: chunked", "Content-Length: 0") + chunked + hidden, []int{400}, 0},
		{"length and chunked after a good one", head(path, "Content-Length: 5") + "hello" + head(path, "content-length: 5", "TRANSFER-encoding: Chunked") + chunked + hidden, []int{200, 400}, 1},
		{"two lengths", head(path, "Content-Length: 5", "Content-Length: 6") + "hello" + hidden, []int{400}, 0},
		{"the same length twice", head(path, "Content-Length: 5", "Content-Length: 5") + "hello" + hidden, []int{400}, 0},
		{"lengths in one line", head(path, "Content-Length: 5, 5") + "hello" + hidden, []int{400}, 0},
		{"length with a sign", head(path, "Content-Length: +5") + "hello" + hidden, []int{400}, 0},
		{"length in hexadecimal", head(path, "Content-Length: 0x5") + "hello" + hidden, []int{400}, 0},
		{"negative length", head(path, "Content-Length: -1") + hidden, []int{400}, 0},
		{"two encodings", head(path, "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + chunked + hidden, []int{501}, 0},
		{"unknown encoding", head(path, "Transfer-Encoding: xchunked") + chunked + hidden, []int{501}, 0},
		{"encoding after a tab", head(path, "Content-Length: 5", "Transfer-Encoding:\tchunked") + chunked + hidden, []int{400}, 0},
		{"encoding with a control character", head(path, "Content-Length: 5", "Transfer-Encoding: \x0bchunked") + chunked + hidden, []int{400}, 0},
		{"blank before the colon", head(path, "Transfer-Encoding : chunked") + chunked + hidden, []int{400}, 0},
		{"folded line", head(path, "X: y", " Transfer-Encoding: chunked") + chunked + hidden, []int{400}, 0},
		{"folded value", head(path, "X: y", "\tz", "Content-Length: 0") + hidden, []int{400}, 0},
		{"HTTP/1.0 with chunked", strings.Replace(head(path, "Transfer-Encoding: chunked"), "HTTP/1.1", "HTTP/1.0", 1) + chunked, []int{400}, 0},
		{"bare line ends", strings.ReplaceAll(head(path, "Content-Length: 5", "Transfer-Encoding: chunked"), "\r\n", "\n") + chunked, []int{400}, 0},
		{"the mark itself", head(path, "X-Postern-Framing: none", "Content-Length: 0"), []int{400}, 0},
		{"Connection names Authorization", head(path, "Connection: keep-alive, Authorization", "Content-Length: 0"), []int{400}, 0},
		{"head without end", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 200_000), []int{431}, 0},
	}
}

// targets are requests for something that some server takes for ActiveSync, or for another host.
func (ws wires) targets() []wire {
	path, query, empty := ws.path(), ws.k.query, ws.empty
	with := func(request, method string) string { return strings.Replace(request, "POST", method, 1) }
	return []wire{
		{"absolute form, elsewhere", empty("https://evil.example" + path), []int{421}, 0},
		{"absolute form, here", empty("https://"+gateHost+path) + hidden, []int{400}, 0},
		{"absolute form, plain HTTP", empty("http://"+gateHost+path) + hidden, []int{400}, 0},
		{"another host", strings.Replace(empty(path), gateHost, "evil.example", 1), []int{421}, 0},
		{"no host", strings.Replace(empty(path), "Host: "+gateHost+"\r\n", "", 1), []int{400}, 0},
		{"two hosts", empty(path, "Host: evil.example"), []int{400}, 0},
		{"asterisk", with(empty("*"), "OPTIONS"), []int{400}, 0},
		{"CONNECT", with(empty("evil.example:443"), "CONNECT"), []int{421}, 0},
		{"escaped path", empty("/Microsoft%2DServer-ActiveSync?" + query), []int{404}, 0},
		{"escaped slash", empty("/%2fMicrosoft-Server-ActiveSync?" + query), []int{404}, 0},
		{"escaped slash in between", empty("/owa%2f..%2fMicrosoft-Server-ActiveSync?" + query), []int{404}, 0},
		{"escaped twice", empty("/Microsoft%252DServer-ActiveSync?" + query), []int{404}, 0},
		{"path to be cleaned", empty("/x/../Microsoft-Server-ActiveSync?" + query), []int{404}, 0},
		{"dot segment", empty("/./Microsoft-Server-ActiveSync?" + query), []int{404}, 0},
		{"two slashes", empty("//Microsoft-Server-ActiveSync?" + query), []int{404}, 0},
		{"backslash", empty(`/owa\..\Microsoft-Server-ActiveSync?` + query), []int{400}, 0},
		{"path parameter", empty("/Microsoft-Server-ActiveSync;x=y?" + query), []int{404}, 0},
		{"slash at the end: the same path, the same decision", empty("/Microsoft-Server-ActiveSync/?" + query), []int{200}, 1},
		{"the document of the path: likewise", empty("/Microsoft-Server-ActiveSync/Default.eas?" + query), []int{200}, 1},
		{"two slashes at the end", empty("/Microsoft-Server-ActiveSync//?" + query), []int{404}, 0},
		{"escaped slash at the end", empty("/Microsoft-Server-ActiveSync%2f?" + query), []int{404}, 0},
		{"escape in the document", empty("/Microsoft-Server-ActiveSync/default%2eeas?" + query), []int{404}, 0},
		{"slash after the document", empty("/Microsoft-Server-ActiveSync/default.eas/?" + query), []int{404}, 0},
		{"document without slash", empty("/Microsoft-Server-ActiveSyncdefault.eas?" + query), []int{404}, 0},
		{"another document", empty("/Microsoft-Server-ActiveSync/default.aspx?" + query), []int{404}, 0},
		{"document after two slashes", empty("/Microsoft-Server-ActiveSync//default.eas?" + query), []int{404}, 0},
		{"dot segment at the end", empty("/Microsoft-Server-ActiveSync/.?" + query), []int{404}, 0},
		{"Exchange's own proxy path", empty("/Microsoft-Server-ActiveSync/Proxy/default.eas?" + query), []int{404}, 0},
		{"the web mail", empty("/owa/"), []int{404}, 0},
		{"web services, not switched on", empty("/EWS/Exchange.asmx"), []int{404}, 0},
		{"fragment", empty(path + "#&User=bob@contoso.com"), []int{400}, 0},
		{"a letter beyond ASCII that folds to s", empty("/Micro\u017foft-Server-ActiveSync?" + query), []int{400}, 0},
		{"the path in small letters: the same path, the same decision", empty("/microsoft-server-activesync?" + query), []int{200}, 1},
		{"GET of a command", with(empty(path), "GET"), []int{501}, 0},
		{"PUT of a command", with(empty(path), "PUT"), []int{501}, 0},
		{"method in small letters", with(empty(path), "post"), []int{501}, 0},
		{"method that Exchange does not know", with(empty(path), "PROPFIND"), []int{501}, 0},
	}
}

// identities are requests that say in two ways who they are, or bring the word of somebody who is not there.
func (ws wires) identities() []wire {
	path, query, empty := ws.path(), ws.k.query, ws.empty
	return []wire{
		{"two Authorizations", empty(path, "Authorization: Basic eDp5"), []int{200}, 0}, // Status 129: duplicate_credentials
		{"empty Authorization beside the other", empty(path, "Authorization:"), []int{200}, 0},
		{"two users", empty(path + "&User=bob@contoso.com"), []int{200}, 0}, // Status 101
		{"two users, in another letter case", empty(path + "&uSER=bob@contoso.com"), []int{200}, 0},
		{"two commands", empty(path + "&Cmd=Sync"), []int{200}, 0},
		{"two DeviceIds", empty(path + "&DeviceId=OTHER"), []int{200}, 0},
		{"parameter name with an escape", empty(path + "&%55ser=bob@contoso.com"), []int{200}, 0},
		{"semicolon as separator", empty(path + ";User=bob@contoso.com"), []int{200}, 0},
		{"a base64 query after a plain one: a parameter that nobody knows", empty("/Microsoft-Server-ActiveSync?" + query + "&jAAJBAp2MTQwRGV2aWNlAApTbWFydFBob25l"), []int{200}, 1},
		{"two versions", empty(path, "MS-ASProtocolVersion: 2.5"), []int{400}, 0},
		{"two policy keys", empty(path, "X-MS-PolicyKey: 1", "X-MS-PolicyKey: 2"), []int{200}, 0},
		{"two User-Agents", empty(path, "User-Agent: Outlook-iOS-Android/1.0"), []int{400}, 0},
		{"two identities", empty(path, "X-User-Identity: a@contoso.com", "X-User-Identity: b@contoso.com"), []int{400}, 0},
		{"two content types", empty(path, "Content-Type: text/xml", "Content-Type: application/vnd.ms-sync.wbxml"), []int{400}, 0},
		{"another expectation", empty(path, "Expect: money"), []int{417}, 0},
		{"the word of a proxy", empty(path, "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: evil.example", "Forwarded: for=10.0.0.1", "X-Real-IP: 10.0.0.1", "X-Client-IP: 10.0.0.1",
			"X-SSL-Client-Verify: SUCCESS", "X-Client-Cert: x", "X-ARR-ClientCert: x", "Client-Cert: x", "X-Forwarded-Client-Cert: x", "X-MS-Client-Principal-Name: bob",
			"X-CommonAccessToken: x", "X-IsFromCafe: 1", "X-EAS-Proxy: bob", "X-MobileIron-USER-UPN: bob", "X_Forwarded_For: 10.0.0.1", "MS_ASProtocolVersion: 2.5",
			"Front-End-Https: on", "X-Original-URL: /owa", "X-HTTP-Method-Override: DELETE", "Proxy-Authorization: Basic eDp5", "Via: 1.1 x"), []int{200}, 1},
	}
}

// passed are the headers of the plain command; nothing else may have come through.
var passed = []string{"Authorization", "Ms-Asprotocolversion", "User-Agent", "Content-Length"}

// TestSmuggling: what two readers could understand differently does not pass, and what follows it on the connection is not looked at. What passes is the
// command of which was decided, with the credentials that were looked at and no word of a stranger.
func TestSmuggling(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	k := command("FolderSync", alice, aliceEAS)
	ws := wires{k}
	for _, tt := range slices.Concat(ws.framing(), ws.targets(), ws.identities()) {
		t.Run(tt.name, func(t *testing.T) {
			w.takeSeen()
			got, header := w.raw(&c, tt.text, len(tt.statuses))
			if !slices.Equal(got, tt.statuses) {
				t.Errorf("answers %v, want %v", got, tt.statuses)
			}
			seen := w.takeSeen()
			if len(seen) != tt.upstream {
				t.Errorf("Exchange got %d commands, want %d", len(seen), tt.upstream)
			}
			for _, s := range seen {
				uri := strings.NewReplacer("ActiveSync/?", "ActiveSync?", "ActiveSync/Default.eas?", "ActiveSync?").Replace(s.uri) // one path in Exchange
				if s.body != "" && s.body != "hello" || s.header.Get("Authorization") != k.auth || !strings.HasPrefix(strings.ToLower(uri), strings.ToLower(ws.path())) {
					t.Errorf("Exchange got %+v", s)
				}
				for name := range s.header {
					if !slices.Contains(passed, name) && name != "Connection" && name != "Transfer-Encoding" {
						t.Errorf("Exchange got %s: %q", name, s.header[name])
					}
				}
			}
			if header.Get("Location")+header.Get("X-MS-Location") != "" {
				t.Errorf("redirected to %s", header.Get("Location"))
			}
		})
	}
}

// raw sends bytes and returns the statuses of the answers until the connection ends, or stays silent after as many as are expected.
func (w *world) raw(cert *tls.Certificate, text string, expected int) (statuses []int, header http.Header) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.addr)
	must(w.t, err)
	return w.rawOn(c, cert, text, expected)
}

// rawOn does the same on a connection.
func (w *world) rawOn(plain net.Conn, cert *tls.Certificate, text string, expected int) (statuses []int, header http.Header) {
	w.t.Helper()
	config := &tls.Config{RootCAs: w.roots, ServerName: gateHost, NextProtos: []string{"http/1.1"}}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	c := tls.Client(plain, config)
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	// In pieces, as networks do.
	for i := 0; i < len(text); i += 7 {
		if _, err := io.WriteString(c, text[i:min(i+7, len(text))]); err != nil {
			break
		}
	}
	r := bufio.NewReader(c)
	for {
		if len(statuses) >= expected {
			_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses, header
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		statuses, header = append(statuses, resp.StatusCode), resp.Header
		if resp.Close {
			return statuses, header
		}
	}
}
