package lab

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"postern/internal/eas"
)

const alice = "alice@contoso.com"

// start runs an Exchange over TLS with one mailbox.
func start(t *testing.T, opts ExchangeOptions) (*Exchange, *httptest.Server) {
	t.Helper()
	e := NewExchange(opts)
	e.AddMailbox(alice, "secret")
	srv := httptest.NewUnstartedServer(e.Handler())
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return e, srv
}

// profile makes a mail profile of a new iPhone for the server.
func profile(t *testing.T, srv *httptest.Server, opts MailOptions) *Mail {
	t.Helper()
	if opts.User == "" {
		opts.User = alice
	}
	m, err := NewPhone(IPhone("Alice's iPhone", "")).Mail(srv.URL, srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Reconnect)
	return m
}

// must fails the test unless the command did what it was asked.
func must(t *testing.T) func(Result, error) Result {
	return func(r Result, err error) Result {
		t.Helper()
		if err != nil || !r.OK() {
			t.Fatalf("%v, error %v", r, err)
		}
		return r
	}
}

// eventually waits for a condition of another goroutine.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s: did not happen", what)
}

func TestSetUp(t *testing.T) {
	bearer, basic := Bearer(Token(alice, time.Now(), nil)), Basic(alice, "secret")
	for _, test := range []struct {
		name        string
		personality Personality
		credential  Credential
		opts        MailOptions
	}{
		{"online plain", Online, bearer, MailOptions{}},
		{"online base64", Online, bearer, MailOptions{Base64: true}},
		{"on premises", OnPremises, basic, MailOptions{}},
		{"on premises bearer", OnPremises, bearer, MailOptions{Version: eas.Version160}},
		{"on premises domain user", OnPremises, Basic(`CONTOSO\alice`, "secret"), MailOptions{User: `CONTOSO\alice`}},
		{"on premises 14.1 base64", OnPremises, basic, MailOptions{Version: eas.Version141, Base64: true}},
		{"on premises 14.0", OnPremises, basic, MailOptions{Version: eas.Version140}},
		{"on premises 12.1 base64", OnPremises, basic, MailOptions{Version: eas.Version121, Base64: true}},
		{"on premises 12.0", OnPremises, basic, MailOptions{Version: eas.Version120}},
		{"on premises 2.5", OnPremises, basic, MailOptions{Version: eas.Version25}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, srv := start(t, ExchangeOptions{Personality: test.personality})
			if err := e.Deliver(alice, "Hello", "A first message."); err != nil {
				t.Fatal(err)
			}
			m := profile(t, srv, test.opts)
			results, err := m.SetUp(t.Context(), test.credential)
			if err != nil {
				t.Fatal(err)
			}
			last := results[len(results)-1]
			if len(results) != 8 || len(last.Messages) != 1 || last.Messages[0].Subject != "Hello" {
				t.Fatalf("results %v", results)
			}
			if body := last.Messages[0].Body; body != "A first message." && test.opts.Version != eas.Version25 {
				t.Errorf("body %q", body)
			}
			must(t)(m.Settings(t.Context()))
			must(t)(m.Send(t.Context(), alice, "Grüße", "to myself"))
			if r := must(t)(m.Sync(t.Context())); len(r.Messages) != 1 || r.Messages[0].Subject != "Grüße" {
				t.Errorf("sync after send: %v", r)
			}
			if r := must(t)(m.Sync(t.Context())); len(r.Body) != 0 {
				t.Errorf("quiet sync: %v", r)
			}
			if r := must(t)(m.Sync(t.Context())); len(r.Body) != 0 {
				t.Errorf("sync without body: %v", r)
			}
			checkSeen(t, e, results)
		})
	}
}

// checkSeen compares what the phone got with what Exchange says that it answered.
func checkSeen(t *testing.T, e *Exchange, results []Result) {
	t.Helper()
	seen := e.Seen()
	last := seen[len(seen)-1]
	if last.Command != eas.Sync || last.BodySize != 0 || last.Mailbox != alice || !last.Done || last.HTTPStatus != 200 {
		t.Errorf("last request: %+v", last)
	}
	if !strings.Contains(last.Header.Get("Cookie"), "X-BackEndCookie=") {
		t.Error("the phone does not send the cookie back")
	}
	if last.Header.Get("Authorization") != "" || last.Scheme == "" {
		t.Errorf("authorization: %q %q", last.Header.Get("Authorization"), last.Scheme)
	}
	if n := e.Counts()[eas.Provision]; n != 2 {
		t.Errorf("%d Provision", n)
	}
	for i, r := range results[:len(results)-1] { // the last is two requests
		if len(r.Body) != seen[i].AnswerSize || r.HTTPStatus != seen[i].HTTPStatus || r.Status != seen[i].Status {
			t.Errorf("request %d: phone %v, Exchange %+v", i, r, seen[i])
		}
	}
}

func TestChallenges(t *testing.T) {
	const online = `Bearer client_id="00000002-0000-0ff1-ce00-000000000000", ` +
		`trusted_issuers="00000001-0000-0000-c000-000000000000@*", token_types="app_asserted_user_v1 service_asserted_app_v1", ` +
		`authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="invalid_token"`
	for _, test := range []struct {
		name        string
		personality Personality
		method      string
		header      string
		code        int
		challenge   string
	}{
		{"online nothing", Online, "OPTIONS", "", 451, ""},
		{"online nothing POST", Online, "POST", "", 451, ""},
		{"online empty Bearer", Online, "GET", "Bearer", 401, online},
		{"online Basic", Online, "OPTIONS", Basic(alice, "secret").header, 401, online},
		{"online bad token", Online, "OPTIONS", "Bearer x", 401, online},
		{"online expired", Online, "OPTIONS", "Bearer " + Token(alice, time.Now().Add(-2*time.Hour), nil), 401, online},
		{"online no mailbox", Online, "OPTIONS", "Bearer " + Token("bob@contoso.com", time.Now(), nil), 401, online},
		{"online app only", Online, "OPTIONS", "Bearer " + Token(alice, time.Now(), map[string]any{"upn": nil}), 401, online},
		{"online good", Online, "OPTIONS", "Bearer " + Token(alice, time.Now(), nil), 200, ""},
		{"online opaque", Online, "OPTIONS", "Bearer opaque", 200, ""},
		{"on premises nothing", OnPremises, "OPTIONS", "", 401, `Basic realm="mail"`},
		{"on premises wrong password", OnPremises, "OPTIONS", Basic(alice, "x").header, 401, `Basic realm="mail"`},
		{"on premises Basic", OnPremises, "OPTIONS", Basic(alice, "secret").header, 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, srv := start(t, ExchangeOptions{Personality: test.personality})
			if err := e.AddToken(alice, "opaque"); err != nil {
				t.Fatal(err)
			}
			req := httptest.NewRequestWithContext(t.Context(), test.method, srv.URL+Path, nil)
			if test.header != "" {
				req.Header.Set("Authorization", test.header)
			}
			w := httptest.NewRecorder()
			e.Handler().ServeHTTP(w, req)
			if w.Code != test.code || w.Header().Get("WWW-Authenticate") != test.challenge {
				t.Errorf("HTTP %d, %q", w.Code, w.Header().Get("WWW-Authenticate"))
			}
			location := w.Header().Get("X-MS-Location")
			if (test.code == 451) != (location == "https://outlook-cba.office365.com/Microsoft-Server-ActiveSync") {
				t.Errorf("X-MS-Location %q", location)
			}
			if versions := w.Header().Get("MS-ASProtocolVersions"); test.code == 200 && test.personality == Online && versions != "16.1" {
				t.Errorf("versions %q", versions)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	_, srv := start(t, ExchangeOptions{})
	bearer := Bearer(Token(alice, time.Now(), nil))

	old := profile(t, srv, MailOptions{Version: eas.Version141})
	old.SignIn(bearer)
	if r, err := old.FolderSync(t.Context()); err != nil || r.HTTPStatus != 200 || r.Status != 138 {
		t.Errorf("14.1 at Exchange Online: %v %v", r, err)
	}
	m := profile(t, srv, MailOptions{})
	m.SignIn(bearer)
	if r, err := m.FolderSync(t.Context()); err != nil || r.Status != 142 || !r.NeedsProvisioning() {
		t.Errorf("before Provision: %v %v", r, err)
	}
	must(t)(m.Provision(t.Context()))
	must(t)(m.FolderSync(t.Context()))
	m.policyKey++
	if r, err := m.FolderSync(t.Context()); err != nil || r.Status != 144 {
		t.Errorf("another policy key: %v %v", r, err)
	}
	m.policyKey--
	for _, test := range []struct {
		command eas.Command
		body    string
		status  int
	}{
		{eas.Search, "", 137},
		{eas.Sync, "rubbish", 102},
		{eas.FolderSync, "\x03\x01\x6A\x00\x00\x0D\x45\x01", 103}, // a Ping
		{eas.Ping, "", 3},                                         // nothing to repeat
		{eas.Sync, "", 13},                                        // likewise
		{eas.Ping, "\x03\x01\x6A\x00\x00\x0D\x45\x48\x0359\x00\x01\x01", 3}, // no folders
		{eas.Settings, "", 2},  // nothing asked
		{eas.Provision, "", 2}, // likewise
		{eas.SendMail, "\x03\x01\x6A\x00\x00\x15\x45\x51\x03a\x00\x01\x01", 107}, // not MIME
	} {
		if r, err := m.Do(t.Context(), test.command, []byte(test.body)); err != nil || r.HTTPStatus != 200 || r.Status != test.status {
			t.Errorf("%v %q: %v %v", test.command, test.body, r, err)
		}
	}
	if r, err := m.Ping(t.Context(), 59*time.Second); err != nil || r.Status != 5 || r.Document.Value("HeartbeatInterval") != "60" {
		t.Errorf("short heartbeat: %v %v", r, err)
	}
	if r, err := m.Ping(t.Context(), time.Hour); err != nil || r.Status != 5 || r.Document.Value("HeartbeatInterval") != "3540" {
		t.Errorf("long heartbeat: %v %v", r, err)
	}
}

func TestPing(t *testing.T) {
	e, srv := start(t, ExchangeOptions{MinHeartbeat: time.Second})
	m := profile(t, srv, MailOptions{})
	if _, err := m.SetUp(t.Context(), Bearer(Token(alice, time.Now(), nil))); err != nil {
		t.Fatal(err)
	}
	if r := must(t)(m.Ping(t.Context(), time.Second)); r.Status != 1 || r.Duration < time.Second {
		t.Errorf("expired Ping: %v after %v", r, r.Duration)
	}
	must(t)(m.Ping(t.Context(), time.Second)) // without body
	if seen := e.Seen(); seen[len(seen)-1].BodySize != 0 {
		t.Error("the second Ping has a body")
	}
	answers := make(chan Result, 1)
	go func() {
		r, err := m.Ping(context.Background(), time.Minute)
		if err != nil {
			t.Error(err)
		}
		answers <- r
	}()
	eventually(t, "Ping waits", func() bool { return e.Waiting() == 1 })
	if err := e.Deliver(alice, "News", "body"); err != nil {
		t.Fatal(err)
	}
	if r := <-answers; r.Status != 2 || r.Document.Value("Folders", "Folder") != inboxID {
		t.Errorf("Ping with news: %v", r)
	}
	if r := must(t)(m.Ping(t.Context(), time.Minute)); r.Status != 2 {
		t.Errorf("Ping before Sync: %v", r)
	}
	if r := must(t)(m.Sync(t.Context())); len(r.Messages) != 1 {
		t.Errorf("Sync: %v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := m.Ping(ctx, time.Minute)
		ended <- err
	}()
	eventually(t, "Ping waits again", func() bool { return e.Waiting() == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Ping: %v", err)
	}
	eventually(t, "Exchange notices", func() bool {
		seen := e.Seen()
		return e.Waiting() == 0 && seen[len(seen)-1].Canceled
	})
}

func TestHangingSyncAndLostAnswer(t *testing.T) {
	e, srv := start(t, ExchangeOptions{})
	m := profile(t, srv, MailOptions{})
	if _, err := m.SetUp(t.Context(), Bearer(Token(alice, time.Now(), nil))); err != nil {
		t.Fatal(err)
	}
	ask := func(key, wait string) *eas.Encoder {
		return eas.NewEncoder().Start(eas.PageAirSync, "Sync").Start(eas.PageAirSync, "Collections").
			Start(eas.PageAirSync, "Collection").Element(eas.PageAirSync, "SyncKey", key).
			Element(eas.PageAirSync, "CollectionId", inboxID).End().End().Element(eas.PageAirSync, "Wait", wait).End()
	}
	if r, err := m.encoded(t.Context(), eas.Sync, ask("1", "60")); err != nil || r.Status != 14 || r.Document.Value("Limit") != "59" {
		t.Errorf("Wait out of range: %v %v", r, err)
	}
	answers := make(chan Result, 1)
	go func() {
		r, err := m.encoded(context.Background(), eas.Sync, ask("1", "5"))
		if err != nil {
			t.Error(err)
		}
		answers <- r
	}()
	eventually(t, "Sync waits", func() bool { return e.Waiting() == 1 })
	if err := e.Deliver(alice, "News", "body"); err != nil {
		t.Fatal(err)
	}
	if r := <-answers; !r.OK() || len(r.Messages) != 1 {
		t.Errorf("hanging Sync: %v", r)
	}
	// The answer is lost: the key before gets the same message and the same new key.
	r := must(t)(m.encoded(t.Context(), eas.Sync, ask("1", "5")))
	if len(r.Messages) != 1 || r.Document.Value("Collections", "Collection", "SyncKey") != "2" {
		t.Errorf("repeated Sync: %v", r)
	}
	if r, err := m.encoded(t.Context(), eas.Sync, ask("7", "5")); err != nil || r.Status != 3 {
		t.Errorf("unknown key: %v %v", r, err)
	}
}

func TestManyMessages(t *testing.T) {
	e, srv := start(t, ExchangeOptions{})
	for range 150 {
		if err := e.Deliver(alice, "News", strings.Repeat("x", 500)); err != nil {
			t.Fatal(err)
		}
	}
	m := profile(t, srv, MailOptions{})
	results, err := m.SetUp(t.Context(), Bearer(Token(alice, time.Now(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	first := results[len(results)-1]
	if len(first.Messages) != 100 || first.Document.Find("Collections", "Collection", "MoreAvailable") == nil {
		t.Errorf("first window: %v", first)
	}
	if r := must(t)(m.Sync(t.Context())); len(r.Messages) != 50 || r.Document.Find("Collections", "Collection", "MoreAvailable") != nil {
		t.Errorf("second window: %v", r)
	}
	if err := e.Deliver("nobody@contoso.com", "", ""); err == nil {
		t.Error("a mailbox that does not exist took a message")
	}
}

func TestServeEndsWithContext(t *testing.T) {
	e := NewExchange(ExchangeOptions{})
	e.AddMailbox(alice, "")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx, ln) }()
	m, err := NewPhone(GmailAndroid("Pixel", "")).Mail("http://mail.contoso.com", nil, MailOptions{User: alice, Address: ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.SetUp(t.Context(), Bearer(Token(alice, time.Now(), nil))); err != nil {
		t.Fatal(err)
	}
	pinged := make(chan struct{})
	go func() {
		defer close(pinged)
		if r, err := m.Ping(context.Background(), time.Minute); err == nil && r.OK() {
			t.Errorf("Ping at shutdown: %v", r)
		}
	}()
	eventually(t, "Ping waits", func() bool { return e.Waiting() == 1 })
	cancel()
	<-pinged
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// FuzzExchange sends any bytes after a good signature: an answer always comes, and what says that it is WBXML is.
func FuzzExchange(f *testing.F) {
	e := NewExchange(ExchangeOptions{Personality: OnPremises, MinHeartbeat: time.Second})
	e.AddMailbox(alice, "secret")
	box := e.mailboxes[alice]
	e.partner(box, "a1").policyKey = 7
	f.Add("User=alice&DeviceId=a1&DeviceType=iPhone&Cmd=Sync", []byte("\x03\x01\x6A\x00\x45\x5C\x4F\x4B\x030\x00\x01\x52\x035\x00\x01\x01\x01\x01"))
	f.Add("User=alice&DeviceId=a1&DeviceType=iPhone&Cmd=SendMail", []byte("To: alice@contoso.com\r\n\r\n"))
	f.Add("User=alice&DeviceId=a1&DeviceType=iPhone&Cmd=FolderSync", []byte("\x03\x01\x6A\x00\x00\x07\x56\x52\x030\x00\x01\x01"))
	f.Add("User=alice&DeviceId=a1&DeviceType=iPhone&Cmd=Ping", []byte("\x03\x01\x6A\x00\x00\x0D\x45\x48\x031\x00\x01\x01"))
	f.Add("oRAJBAJhMQAGaVBob25l", []byte("\x03\x01\x6A\x00\x00\x12\x45\x01"))
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nothing waits
		req := httptest.NewRequestWithContext(ctx, http.MethodPost, Path, bytes.NewReader(body))
		req.URL.RawQuery = query
		req.Header.Set("Authorization", Basic(alice, "secret").header)
		req.Header.Set("Content-Type", eas.ContentTypeWBXML)
		req.Header.Set("X-MS-PolicyKey", "7")
		if strings.Contains(query, "Cmd=") {
			req.Header.Set("MS-ASProtocolVersion", "16.1")
		}
		w := httptest.NewRecorder()
		e.Handler().ServeHTTP(w, req)
		if w.Code == 0 || w.Body.Len() > 0 && w.Header().Get("Content-Type") != eas.ContentTypeWBXML {
			t.Errorf("HTTP %d, %d bytes of %q", w.Code, w.Body.Len(), w.Header().Get("Content-Type"))
		}
		if w.Body.Len() > 0 {
			if _, err := eas.Decode(w.Body.Bytes(), maxAnswer); err != nil {
				t.Errorf("answer: %v", err)
			}
		}
	})
}
