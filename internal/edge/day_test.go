package edge_test

import (
	"crypto/sha256"
	"errors"
	"maps"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/internal/eas"
	"postern/internal/lab"
)

// office is a gateway before an Exchange of the lab, with one managed phone.
type office struct {
	*world
	exchange *lab.Exchange
	mail     *lab.Mail
}

func newOffice(t *testing.T, p lab.Personality, phone lab.PhoneConfig, o lab.MailOptions) *office {
	t.Helper()
	e := lab.NewExchange(lab.ExchangeOptions{Personality: p, MinHeartbeat: time.Second})
	e.AddMailbox(alice, "secret")
	srv := httptest.NewUnstartedServer(e.Handler())
	srv.EnableHTTP2 = p == lab.Online
	srv.StartTLS()
	t.Cleanup(srv.Close)
	w := newWorld(t, options{upstream: srv.URL})
	_, c := w.managed(alice, "")
	o.User, o.Address = alice, w.addr
	if !o.NoCertificate {
		o.Identity = &c
	}
	m, err := lab.NewPhone(phone).Mail("https://"+gateHost, w.roots, o)
	must(t, err)
	t.Cleanup(m.Reconnect)
	return &office{w, e, m}
}

// credential is what a phone signs in with at an Exchange.
func credential(p lab.Personality) lab.Credential {
	if p == lab.Online {
		return lab.Bearer(lab.Token(alice, time.Now(), nil))
	}
	return lab.Basic(alice, "secret")
}

// day has the phone do what phones do in a day, and returns what came back.
func (o *office) day(t *testing.T, p lab.Personality) []lab.Result {
	t.Helper()
	ctx := t.Context()
	results, err := o.mail.SetUp(ctx, credential(p))
	must(t, err)
	did := func(r lab.Result, err error) {
		t.Helper()
		must(t, err)
		results = append(results, r)
	}
	did(o.mail.Settings(ctx))
	for range 2 {
		pinged := make(chan struct{})
		go func() {
			defer close(pinged)
			r, err := o.mail.Ping(ctx, time.Minute)
			if err != nil || r.Status != 2 {
				t.Errorf("Ping: %v, %v", r, err)
			}
			results = append(results, r)
		}()
		o.eventually(func() bool { return o.exchange.Waiting() == 1 })
		must(t, o.exchange.Deliver(alice, "News", strings.Repeat("body ", 2000)))
		<-pinged
		did(o.mail.Sync(ctx))
	}
	did(o.mail.Sync(ctx)) // nothing new: no body, in one direction or both
	did(o.mail.Send(ctx, "bob@contoso.com", "Answer", "text"))
	for _, c := range eas.Commands() {
		switch c {
		case eas.Options, eas.Provision, eas.Ping, eas.Sync, eas.FolderSync, eas.Settings, eas.SendMail:
		default:
			// Whatever the server makes of it: the bytes are what counts.
			did(o.mail.Do(ctx, c, []byte("\x03\x01\x6a\x00\x00\x14\x45\x4b\x03"+c.String()+"\x00\x01\x01\xff")))
		}
	}
	did(o.mail.FolderSync(ctx))
	return results
}

// compare says where a command and its answer are not the same on both sides of the gate.
func (o *office) compare(t *testing.T, results []lab.Result) {
	t.Helper()
	seen := map[string]lab.Seen{}
	for _, s := range o.exchange.Seen() {
		seen[s.ID] = s
	}
	for _, r := range results {
		s, ok := seen[r.Header.Get("Request-Id")]
		switch {
		case !ok:
			t.Errorf("%v: Exchange has not answered that", r)
			continue
		case r.Reference != "":
			t.Errorf("%v: the answer has the reference of a refusal", r)
		case s.Method != r.Sent.Method || s.Path != r.Sent.Path || s.RawQuery != r.Sent.RawQuery:
			t.Errorf("%v: sent %s %s?%s, got %s %s?%s", r, r.Sent.Method, r.Sent.Path, r.Sent.RawQuery, s.Method, s.Path, s.RawQuery)
		case s.Body != sha256.Sum256(r.Sent.Body) || s.BodySize != len(r.Sent.Body):
			t.Errorf("%v: sent a body of %d bytes, got another of %d", r, len(r.Sent.Body), s.BodySize)
		case s.Answer != sha256.Sum256(r.Body) || s.HTTPStatus != r.HTTPStatus:
			t.Errorf("%v: Exchange answered %d with %d bytes", r, s.HTTPStatus, s.AnswerSize)
		case r.OK() && r.Header.Get("Set-Cookie") == "":
			t.Errorf("%v: the cookie of Exchange is missing", r)
		}
		s.Header.Del("Content-Length") // the phone's own library adds it while sending
		s.Header.Del("Accept-Encoding")
		s.Header.Del("Connection") // is of the hop
		if !maps.EqualFunc(s.Header, r.Sent.Header, slices.Equal[[]string]) {
			t.Errorf("%v: sent %v\ngot %v", r, r.Sent.Header, s.Header)
		}
	}
}

// TestDay runs a day of each client through the edge: what the phone sends is what Exchange gets, and what Exchange answers is what the phone gets, to the byte.
func TestDay(t *testing.T) {
	apple, gmailApp := lab.IPhone("phone", ""), lab.GmailAndroid("phone", "")
	for _, tt := range []struct {
		name   string
		p      lab.Personality
		phone  lab.PhoneConfig
		o      lab.MailOptions
		family string
	}{
		{"Apple Mail at Exchange Online", lab.Online, apple, lab.MailOptions{}, "apple_mail"},
		{"Apple Mail on premises", lab.OnPremises, apple, lab.MailOptions{}, "apple_mail"},
		{"Apple Mail on premises, 14.1, base64", lab.OnPremises, apple, lab.MailOptions{Version: eas.Version141, Base64: true}, "apple_mail"},
		{"Gmail at Exchange Online", lab.Online, gmailApp, lab.MailOptions{Version: eas.Version161}, "gmail"},
		{"Gmail on premises, 12.1", lab.OnPremises, gmailApp, lab.MailOptions{Version: eas.Version121}, "gmail"},
		{"Samsung on premises, 14.1", lab.OnPremises, lab.SamsungEmail("phone", ""), lab.MailOptions{Version: eas.Version141}, "samsung"},
		{"Nine at Exchange Online, base64", lab.Online, lab.Nine("phone", ""), lab.MailOptions{Version: eas.Version161, Base64: true}, "nine"},
		{"Email+ at Exchange Online", lab.Online, lab.EmailPlus("phone", ""), lab.MailOptions{}, "email_plus"},
		{"Outlook on premises, as if it had a certificate", lab.OnPremises, lab.OutlookMobile("phone", ""), lab.MailOptions{}, "outlook"},
		{"a client that nobody knows, 2.5", lab.OnPremises, lab.UnknownClient("phone", ""), lab.MailOptions{Version: eas.Version25}, "other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newOffice(t, tt.p, tt.phone, tt.o)
			results := o.day(t, tt.p)
			o.compare(t, results[3:]) // before come three questions about how to sign in and what is spoken, which are the edge's affair
			for _, s := range o.exchange.Seen() {
				if s.Scheme == "" {
					t.Errorf("a request without Authorization reached Exchange: %s?%s", s.Method, s.RawQuery)
				}
			}
			o.sync()
			id, err := eas.ParseDeviceID(tt.phone.DeviceID)
			must(t, err)
			if p := o.index.ProfilesOfClient(id.String()); len(p) != 1 || p[0].Family != tt.family {
				t.Errorf("mail profiles: %+v, want one of %s", p, tt.family)
			}
			// What Provision or Settings say of the model is remembered, where the user agent does not say it.
			o.eventually(func() bool {
				p := o.index.ProfilesOfClient(id.String())
				return len(p) == 1 && p[0].Model != "" && strings.ReplaceAll(p[0].Model, ",", "C") == strings.ReplaceAll(tt.phone.Model, ",", "C")
			})
		})
	}
}

// TestOutlookWithoutCertificate: Outlook's requests come from Microsoft's cloud and bring no certificate. They are refused in the protocol's words, without a
// password prompt, and Exchange hears nothing of them.
func TestOutlookWithoutCertificate(t *testing.T) {
	o := newOffice(t, lab.OnPremises, lab.OutlookMobile("phone", ""), lab.MailOptions{NoCertificate: true})
	results, err := o.mail.SetUp(t.Context(), credential(lab.OnPremises))
	if last := results[len(results)-1]; !errors.Is(err, lab.ErrNotSetUp) || last.Status != 129 || last.Reference == "" {
		t.Errorf("%v, %v", last, err)
	}
	for _, s := range o.exchange.Seen() {
		if s.Mailbox != "" {
			t.Errorf("Exchange got %s of %s", s.Command, s.Mailbox)
		}
	}
}

// TestFaultsOfExchange: whatever ails the upstream, the phone sees what Exchange says, or "try again later", and a command is sent once.
func TestFaultsOfExchange(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fault  lab.Fault
		status int
		header string // with its value
		gate   bool   // the edge answers, with a reference
	}{
		{"healthy", lab.Healthy, 200, "", false},
		{"slow", lab.Slow, 200, "", false},
		{"throttled", lab.Throttled, 503, "Retry-After: 17", false},
		{"throttled, the reason", lab.Throttled, 503, "X-Ms-Asthrottle: CommandFrequency", false},
		{"over budget", lab.OverBudget, 503, "X-Ms-Asthrottle: OutOfBudgets", false},
		{"over budget, without time", lab.OverBudget, 503, "Retry-After: ", false},
		{"provision first", lab.NeedProvision, 449, "", false},
		{"token with claims", lab.Challenged, 401, `Www-Authenticate: Bearer claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzk1NTk4ODAwIn19fQ=="`, false},
		{"token refused, the diagnosis", lab.Challenged, 401, `X-Ms-Diagnostics: 2000001;reason="The token is invalid."`, false},
		{"failing", lab.Failing, 500, "", false},
		{"moved elsewhere", lab.Moved, 503, "X-Ms-Location: ", true},
		{"redirected elsewhere", lab.Redirected, 503, "Location: ", true},
		{"reset", lab.Reset, 503, "Retry-After: seconds", true},
		{"broken off", lab.Broken, 503, "Retry-After: seconds", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, p := range []lab.Personality{lab.Online, lab.OnPremises} { // over HTTP/2, and HTTP/1.1
				o := newOffice(t, p, lab.IPhone("phone", ""), lab.MailOptions{})
				_, err := o.mail.SetUp(t.Context(), credential(p))
				must(t, err)
				o.exchange.Break(tt.fault, "https://elsewhere.example")
				before := o.exchange.Counts()[eas.FolderSync]
				r, err := o.mail.FolderSync(t.Context())
				if err != nil || (r.HTTPStatus != tt.status || (r.Reference != "") != tt.gate) {
					t.Errorf("the phone gets %v, reference %q, %v", r, r.Reference, err)
				}
				name, value, _ := strings.Cut(tt.header, ": ")
				if n, err := strconv.Atoi(r.Header.Get(name)); value == "seconds" && err == nil && n >= 15 && n < 45 {
					value = strconv.Itoa(n) // another for every phone
				}
				if got := r.Header.Get(name); name != "" && (value == "" && got != "" || !strings.HasPrefix(got, value)) {
					t.Errorf("%s: %q, want %q", name, got, value)
				}
				if n := o.exchange.Counts()[eas.FolderSync] - before; n != 1 {
					t.Errorf("the command was sent %d times", n)
				}
			}
		})
	}
}
