package edge_test

import (
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestNoGuessedType: an answer without Content-Type gets none on its way, however it is framed.
func TestNoGuessedType(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	for _, chunked := range []bool{false, true} {
		w.answerWith(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header()["Content-Type"] = nil
			_, _ = rw.Write([]byte("<html>"))
			if chunked {
				rw.(http.Flusher).Flush()
			}
		})
		for _, h2 := range []bool{false, true} {
			got := w.do(w.phone(&c, h2), command("FolderSync", alice, aliceEAS))
			if got.status != 200 || got.body != "<html>" || len(got.header.Values("Content-Type")) > 0 {
				t.Errorf("chunked %v, h2 %v: status %d, %q, %v", chunked, h2, got.status, got.body, got.header)
			}
		}
	}
}

// TestBytes sends commands with all that phones send, and compares what arrives on both sides.
func TestBytes(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	w.answerWith(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rw.Header().Set("Content-Type", "application/vnd.ms-sync.wbxml")
		rw.Header().Set("X-MS-RP", "2.5,16.1")
		rw.Header().Set("Location", "https://elsewhere.example/")
		rw.Header().Add("Set-Cookie", "X-BackEndCookie=1; path=/")
		rw.Header().Add("Set-Cookie", "second=2")
		_, _ = rw.Write([]byte("\x00\xff"))
		rw.(http.Flusher).Flush()
		_, _ = rw.Write(body)
	})
	// Version 16.1, FolderSync, locale 0x0409, a DeviceId, a policy key, a device type, and User as alice.
	raw := "\xa1\x09\x09\x04\x08" + aliceEAS + "\x04\x01\x02\x03\x04\x06iPhone\x01\x03???\x08" + string(rune(len(alice))) + alice
	queries := map[string]string{
		"plain, in odd order":   "DeviceType=iPhone&user=alice%40contoso.com&DEVICEID=" + aliceEAS + "&Cmd=FolderSync&x=%2f%2F+~",
		"base64, padded":        base64.StdEncoding.EncodeToString([]byte(raw)),
		"base64, escaped":       url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(raw))),
		"base64, URL, unpadded": base64.RawURLEncoding.EncodeToString([]byte(raw)),
	}
	if !strings.Contains(queries["base64, escaped"], "%2F") {
		t.Fatal("nothing is escaped")
	}
	body := "\x03\x01\x6a\x00" + strings.Repeat("mail\r\n\x00", 100_000)
	for name, query := range queries {
		for _, h2 := range []bool{false, true} {
			k := call{query: query, body: body, auth: basic(alice), path: "/microsoft-server-activesync", header: map[string]string{"X-MS-PolicyKey": "67305985",
				"X-User-Identity": alice, "Cookie": "a=1; b=2", "Content-Type": "application/vnd.ms-sync.wbxml", "Accept-Encoding": "gzip", "MS-ASAcceptMultiPart": "T",
				"X-Forwarded-For": "10.0.0.1", "X-Postern-Device": "dev-1", "Forwarded": "for=1", "Via": "1.1 x", "X-Idempotency-Key": "1", "X-Original-URL": "/owa"}}
			got := w.do(w.phone(&c, h2), k)
			if got.status != 200 || got.body != "\x00\xff"+body || got.header.Get("X-MS-RP") != "2.5,16.1" || got.header.Get("Location") != "" || len(got.header.Values("Set-Cookie")) != 2 {
				t.Fatalf("%s: status %d, %d bytes, header %v", name, got.status, len(got.body), got.header)
			}
			seen := w.takeSeen()
			if len(seen) != 1 {
				t.Fatalf("%s: %d requests upstream", name, len(seen))
			}
			s := seen[0]
			if s.uri != "/microsoft-server-activesync?"+query || s.body != body || s.host == gateHost {
				t.Errorf("%s: upstream got %s for %s, body equal: %v", name, s.uri, s.host, s.body == body)
			}
			for _, h := range []string{"X-MS-PolicyKey", "X-User-Identity", "Cookie", "Content-Type", "Accept-Encoding", "MS-ASAcceptMultiPart"} {
				if s.header.Get(h) != k.header[h] {
					t.Errorf("%s: upstream got %s: %q", name, h, s.header.Get(h))
				}
			}
			if s.header.Get("Authorization") != k.auth || s.header.Get("User-Agent") != iphone {
				t.Errorf("%s: upstream got %v", name, s.header)
			}
			for _, h := range []string{"X-Forwarded-For", "X-Postern-Device", "Forwarded", "Via", "X-Idempotency-Key", "X-Original-URL"} {
				if s.header.Get(h) != "" {
					t.Errorf("%s: upstream got %s: %q", name, h, s.header.Get(h))
				}
			}
		}
	}
}

// TestChallengePasses: Exchange's own 401 is the phone's business.
func TestChallengePasses(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	w.answerWith(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Add("WWW-Authenticate", bearerChallenge+`, claims="eyJ4In0="`)
		rw.Header().Add("WWW-Authenticate", `Basic realm="mail"`)
		rw.WriteHeader(http.StatusUnauthorized)
	})
	got := w.do(w.phone(&c, false), command("Sync", alice, aliceEAS))
	if got.status != 401 || len(got.header.Values("WWW-Authenticate")) != 2 || !strings.Contains(got.header.Get("WWW-Authenticate"), "claims=") {
		t.Errorf("status %d, %v", got.status, got.header)
	}
}

// TestUpstreamFaults: an upstream that is down, or breaks off, is "try again later", and a command is sent once.
func TestUpstreamFaults(t *testing.T) {
	w := newWorld(t, options{upstream: "https://127.0.0.1:1"})
	_, c := w.managed(alice, "")
	got := w.do(w.phone(&c, false), command("FolderSync", alice, aliceEAS))
	if phoneSees(got) != later {
		t.Errorf("upstream down: %s", phoneSees(got))
	}
	if _, codes := w.reasons(got.reference); !slices.Contains(codes, "upstream_unreachable") {
		t.Errorf("reasons %q", codes)
	}

	w = newWorld(t, options{})
	_, c = w.managed(alice, "")
	phone := w.phone(&c, false)
	for _, body := range []string{"", "body"} {
		w.takeSeen()
		w.answerWith(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		k := command("Ping", alice, aliceEAS)
		k.body = body
		if got := w.do(phone, k); phoneSees(got) != later {
			t.Errorf("upstream breaks off: %s", phoneSees(got))
		}
		if n := len(w.takeSeen()); n != 1 {
			t.Errorf("the command was sent %d times", n)
		}
	}
	for _, length := range []string{"100", "1000000", ""} {
		w.answerWith(func(rw http.ResponseWriter, _ *http.Request) {
			if length != "" {
				rw.Header().Set("Content-Length", length)
			}
			_, _ = rw.Write([]byte("half"))
			rw.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		// What is short is read before it is passed on; of what is long, a part has gone out already.
		got, err := w.try(t.Context(), phone, command("Sync", alice, aliceEAS))
		if err == nil && (length != "100" || phoneSees(got) != later) {
			t.Errorf("half an answer of length %q was taken for a whole one: %v", length, got)
		}
	}
}

// TestUpstreamAnswers: what upstreams do in HTTP/1.1 reaches the phone as one answer.
func TestUpstreamAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		answer []string // parts, with a pause between them
		sees   string
		body   string
	}{
		"whole":             {[]string{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"}, mail, "answer"},
		"in pieces":         {[]string{"H", "TTP/1.1 200 OK\r\nContent-Le", "ngth: 6\r\n\r", "\nans", "wer"}, mail, "answer"},
		"until the end":     {[]string{"HTTP/1.0 200 OK\r\n\r\nanswer"}, mail, "answer"},
		"chunked":           {[]string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nans\r\n", "3\r\nwer\r\n0\r\n\r\n"}, mail, "answer"},
		"interim":           {[]string{"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"}, mail, "answer"},
		"too many interim":  {[]string{strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 9) + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"}, later, ""},
		"another protocol":  {[]string{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"}, later, ""},
		"nothing":           {[]string{""}, later, ""},
		"no HTTP":           {[]string{"220 smtp.contoso.com ESMTP\r\n"}, later, ""},
		"endless head":      {[]string{"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 200)}, later, ""},
		"more than it said": {[]string{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswerHTTP/1.1 200 OK\r\n\r\nevil"}, mail, "answer"},
		"empty":             {[]string{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, `http 200: ""`, ""},
		"no content but 5":  {[]string{"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"}, `http 204: ""`, ""},
		"no content, and 5": {[]string{"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "hello"}, `http 204: ""`, ""},
		"not modified":      {[]string{"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"}, later, ""},
		"no content":        {[]string{"HTTP/1.1 204 No Content\r\n\r\n"}, `http 204: ""`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			defer func() { _ = ln.Close() }()
			go func() {
				for conn, err := ln.Accept(); err == nil; conn, err = ln.Accept() {
					go func() {
						defer func() { _ = conn.Close() }()
						asked := make([]byte, 64<<10)
						n, _ := conn.Read(asked)
						if head := string(asked[:n]); !strings.Contains(head, "\r\nContent-Length: 0\r\n") || strings.Contains(head, "Transfer-Encoding") || !strings.HasSuffix(head, "\r\n\r\n") {
							t.Errorf("upstream got %q", head)
						}
						for _, part := range tt.answer {
							_, _ = conn.Write([]byte(part))
							time.Sleep(10 * time.Millisecond)
						}
					}()
				}
			}()
			w := newWorld(t, options{upstream: "http://" + ln.Addr().String()})
			_, c := w.managed(alice, "")
			for _, h2 := range []bool{false, true} {
				if got := w.do(w.phone(&c, h2), command("FolderSync", alice, aliceEAS)); phoneSees(got) != tt.sees || tt.body != got.body && tt.body != "" {
					t.Errorf("h2 %v: %s, body %q", h2, phoneSees(got), got.body)
				}
			}
		})
	}
}

// TestSilentCloser has an upstream that closes every connection after its answer, without saying so: no phone notices, and nothing is repeated.
func TestSilentCloser(t *testing.T) {
	var commands atomic.Int64
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				buf := make([]byte, 64<<10)
				if n, _ := conn.Read(buf); n > 0 {
					commands.Add(1)
					_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"))
				}
				_ = conn.Close()
			}()
		}
	}()
	w := newWorld(t, options{upstream: "http://" + ln.Addr().String()})
	_, c := w.managed(alice, "")
	phone := w.phone(&c, false)
	for range 50 {
		if got := w.do(phone, command("Ping", alice, aliceEAS)); phoneSees(got) != mail {
			t.Fatal(phoneSees(got))
		}
	}
	if n := commands.Load(); n != 50 {
		t.Errorf("50 commands were sent %d times", n)
	}
}

// TestHTTP2Upstream: a shared connection, once the upstream is known to speak HTTP/2.
func TestHTTP2Upstream(t *testing.T) {
	var connections atomic.Int64
	var w *world
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { exchange(rw, r) }))
	s.EnableHTTP2 = true
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.StartTLS()
	defer s.Close()
	w = newWorld(t, options{upstream: s.URL})
	_, c := w.managed(alice, "")
	phone := w.phone(&c, true)
	for range 20 {
		if got := w.do(phone, command("FolderSync", alice, aliceEAS)); phoneSees(got) != mail {
			t.Fatal(phoneSees(got))
		}
	}
	if n := connections.Load(); n > 3 {
		t.Errorf("%d connections for 20 commands", n)
	}
}

// TestProxyOfTheEnvironment runs TestBytes with proxies in the environment, which net/http reads once per process.
func TestProxyOfTheEnvironment(t *testing.T) {
	test := exec.Command(os.Args[0], "-test.run", "^TestBytes$")
	test.Env = append(os.Environ(), "HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1", "NO_PROXY=", "no_proxy=")
	if out, err := test.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestLargeMailStreams sends and gets more than fits into any buffer, part by part.
func TestLargeMailStreams(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	next := make(chan struct{})
	w.answerWith(func(rw http.ResponseWriter, _ *http.Request) {
		for range 3 {
			_, _ = rw.Write([]byte("part"))
			rw.(http.Flusher).Flush()
			<-next
		}
	})
	r, err := http.NewRequest("POST", "https://"+gateHost+"/Microsoft-Server-ActiveSync?"+command("ItemOperations", alice, aliceEAS).query, strings.NewReader(strings.Repeat("m", 5<<20)))
	must(t, err)
	r.Header.Set("Authorization", basic(alice))
	r.Header.Set("MS-ASProtocolVersion", "16.1")
	r.Header.Set("Expect", "100-continue")
	phone := w.phone(&c, false)
	phone.Transport.(*http.Transport).ExpectContinueTimeout = 5 * time.Second
	resp, err := phone.Do(r)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	for range 3 {
		part := make([]byte, 4)
		if _, err := io.ReadFull(resp.Body, part); err != nil || string(part) != "part" {
			t.Fatalf("%q, %v", part, err)
		}
		next <- struct{}{}
	}
	if seen := w.takeSeen(); len(seen) != 1 || len(seen[0].body) != 5<<20 {
		t.Error("the mail did not arrive whole")
	}
}

// TestMultipart: an answer in parts (MS-ASCMD, section 2.2.1.1.1), asked for by header or by the option in a base64 query, arrives byte for byte, whatever its
// length and however it is framed.
func TestMultipart(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	// MultiPartResponse: the number of parts, offset and length of each, and the parts: WBXML, and an attachment with every octet in it.
	multipart := func(attachment int) string {
		wbxml := "\x03\x01\x6a\x00\x00\x14ENM\x031\x00\x01\x01"
		var every [256]byte
		for i := range every {
			every[i] = byte(i)
		}
		data := strings.Repeat(string(every[:]), attachment/256)
		b := binary.LittleEndian.AppendUint32(nil, 2)
		for _, n := range []int{4 + 2*8, len(wbxml), 4 + 2*8 + len(wbxml), len(data)} {
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
		}
		return string(b) + wbxml + data
	}
	// Version 16.1, ItemOperations, no policy key, and the options AcceptMultiPart and User.
	raw := "\xa1\x13\x09\x04\x08" + aliceEAS + "\x00\x06iPhone\x07\x01\x02\x08" + string(rune(len(alice))) + alice
	for name, k := range map[string]call{
		"header": {query: command("ItemOperations", alice, aliceEAS).query, header: map[string]string{"MS-ASAcceptMultiPart": "T"}},
		"base64": {query: base64.StdEncoding.EncodeToString([]byte(raw))},
	} {
		for _, size := range []int{256, 14 << 10, 3 << 20} {
			for _, chunked := range []bool{false, true} {
				want := multipart(size)
				w.answerWith(func(rw http.ResponseWriter, _ *http.Request) {
					rw.Header().Set("Content-Type", "application/vnd.ms-sync.multipart")
					if !chunked {
						rw.Header().Set("Content-Length", strconv.Itoa(len(want)))
					}
					for part := range slices.Chunk([]byte(want), 10_007) {
						_, _ = rw.Write(part)
						rw.(http.Flusher).Flush()
					}
				})
				k.auth, k.body = basic(alice), "\x03\x01\x6a\x00fetch"
				for _, h2 := range []bool{false, true} {
					got := w.do(w.phone(&c, h2), k)
					if got.status != 200 || got.body != want || got.header.Get("Content-Type") != "application/vnd.ms-sync.multipart" {
						t.Errorf("%s, %d bytes, chunked %v, h2 %v: status %d, %d bytes, %v", name, len(want), chunked, h2, got.status, len(got.body), got.header)
					}
					if seen := w.takeSeen(); len(seen) != 1 || seen[0].uri != "/Microsoft-Server-ActiveSync?"+k.query || seen[0].header.Get("MS-ASAcceptMultiPart") != k.header["MS-ASAcceptMultiPart"] {
						t.Errorf("%s: upstream got %v", name, seen)
					}
				}
			}
		}
	}
}
