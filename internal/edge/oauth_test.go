package edge_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/edge"
	"postern/internal/oauth"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

const (
	apple       = "f8d98a96-0999-43f5-8af3-69971c7bb423"
	destination = "https://outlook.office365.com/"
)

// provider is an identity provider that says yes, and remembers what it was asked.
type provider struct {
	mu     sync.Mutex
	forms  []string
	uri    string
	header http.Header
	answer http.HandlerFunc
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.forms, p.uri, p.header = append(p.forms, string(body)), r.RequestURI, r.Header.Clone()
	answer := p.answer
	p.mu.Unlock()
	answer(w, r)
}

func (p *provider) taken() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.forms
	p.forms = nil
	return out
}

func (p *provider) asked() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.uri
}

func (p *provider) says(answer http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// tokenFor answers with a bearer token for a user.
func tokenFor(user string) (string, http.HandlerFunc) {
	token := strings.TrimPrefix(bearer(map[string]any{"upn": user, "aud": destination, "jti": trust.NewID("jti")}), "Bearer ")
	return token, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Set-Cookie", "fpc=1")
		w.Header().Set("X-Ms-Request-Id", "1-2-3")
		_, _ = io.WriteString(w, `{ "token_type":"Bearer",  "expires_in":"3599","access_token":"`+token+`","refresh_token":"S3cretRefresh" }`)
	}
}

// oauthWorld is a world whose edge has an OAuth front, with Exchange Web Services switched on.
func oauthWorld(t *testing.T) (*world, *provider) {
	t.Helper()
	p := &provider{}
	_, p.answer = tokenFor(alice)
	idp := httptest.NewTLSServer(p)
	t.Cleanup(idp.Close)
	roots := x509.NewCertPool()
	roots.AddCert(idp.Certificate())
	authorize, err := url.Parse("https://login.example/common/oauth2/authorize")
	must(t, err)
	token, err := url.Parse(idp.URL + "/common/oauth2/token")
	must(t, err)
	w := newWorld(t, options{config: func(c *edge.Config) {
		key, err := c.Registry.GrantKey(context.Background(), trust.Principal{Kind: "edge", Name: gateHost})
		must(t, err)
		c.EWS = true
		c.OAuth = &edge.OAuth{Authorize: authorize, Token: token, TokenRoots: roots, Tickets: true, Key: key,
			Front: oauth.Front{Resources: []string{"https://" + gateHost + "/"}, Destination: destination, Clients: []string{apple}}}
	}})
	return w, p
}

// ticket makes a ticket for a device.
func (w *world) ticket(d trust.Device) (string, registry.Ticket) {
	w.t.Helper()
	secret, k, _, err := w.reg.CreateTicket(context.Background(), root, d.ID)
	must(w.t, err)
	w.sync()
	return secret, k
}

// settled gives a device the state that it has after enrolment.
func (w *world) settled(owner string) trust.Device {
	w.t.Helper()
	d := w.addDevice(trust.Owner{Mail: owner}, "")
	_, err := w.reg.SetDeviceState(context.Background(), root, d.ID, trust.Active, "")
	must(w.t, err)
	w.sync()
	return d
}

// signIn posts a form to the token endpoint, at a ticket's address if there is one.
func (w *world) signIn(c *http.Client, ticket, form string) reply {
	w.t.Helper()
	path := "/proxyservice/oauth2/token"
	if ticket != "" {
		path = "/proxyservice/oauth2/t/" + ticket + "/token"
	}
	return w.do(c, call{path: path, body: form, agent: "Preferences/2027.0.6.101 CFNetwork/3892.100.1 Darwin/27.0.0", version: "none",
		header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}})
}

const (
	codeForm    = "grant_type=authorization_code&client_id=" + apple + "&code=S3cretCode&redirect_uri=com.apple.Preferences%3A%2F%2Foauth-redirect&resource=https%3A%2F%2Fmail.contoso.com%2F"
	refreshForm = "grant_type=refresh_token&client_id=" + apple + "&refresh_token=S3cretRefresh&resource=https%3A%2F%2Fmail.contoso.com%2F"
)

// refusal is what OAuth says of a refusal.
func refusal(t *testing.T, r reply) string {
	t.Helper()
	var e struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Description == "" || r.header.Get("Content-Type") != "application/json" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("not an answer of OAuth: %q, %v, %v", r.body, err, r.header)
	}
	return e.Error
}

func TestAuthorizeRedirects(t *testing.T) {
	w, p := oauthWorld(t)
	c := w.phone(nil, true)
	const head, tail = "response_type=code&client_id=" + apple + "&redirect_uri=com.apple.Preferences://oauth-redirect&resource=", "&state=6F%2B&code_challenge=E9&code_challenge_method=S256"
	for _, path := range []string{"/proxyservice/oauth2/authorize", "/ProxyService/OAuth2/Authorize", "/proxyservice/oauth2/t/" + strings.Repeat("a", 32) + "/authorize"} {
		r := w.do(c, call{method: "GET", path: path, query: head + "https://mail.contoso.com/" + tail})
		if want := "https://login.example/common/oauth2/authorize?" + head + url.QueryEscape(destination) + tail; r.status != http.StatusFound || r.header.Get("Location") != want {
			t.Errorf("%s: %d to %q", path, r.status, r.header.Get("Location"))
		}
	}
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	for name, k := range map[string]call{"a form": {body: head + "https://mail.contoso.com/" + tail}, "query and form": {query: head + "https://mail.contoso.com/", body: tail[1:]}} {
		k.path, k.header = "/proxyservice/oauth2/authorize", form
		r := w.do(c, k)
		if want := "https://login.example/common/oauth2/authorize?" + head + url.QueryEscape(destination) + tail; r.status != http.StatusSeeOther || r.header.Get("Location") != want {
			t.Errorf("%s: %d to %q", name, r.status, r.header.Get("Location"))
		}
	}
	for name, k := range map[string]call{
		"another resource in a form":    {body: head + "https://graph.microsoft.com" + tail, header: form},
		"a resource in query and form":  {query: "resource=https://mail.contoso.com/", body: head + "https://graph.microsoft.com" + tail, header: form},
		"a form too long":               {body: head + "https://mail.contoso.com/" + tail + "&x=" + strings.Repeat("a", 20000), header: form},
		"the query alone, and no type":  {query: head + "https://mail.contoso.com/" + tail},
		"a form in the clothes of JSON": {body: head + "https://mail.contoso.com/" + tail, header: map[string]string{"Content-Type": "application/json"}},
		"another method":                {method: "PUT", body: head + "https://mail.contoso.com/" + tail, header: form},
	} {
		k.path = "/proxyservice/oauth2/authorize"
		if r := w.do(c, k); r.status != 400 && r.status != 405 || r.header.Get("Location") != "" {
			t.Errorf("%s: %d to %q", name, r.status, r.header.Get("Location"))
		}
	}
	r := w.do(c, call{method: "GET", path: "/proxyservice/oauth2/authorize", query: head + "https://graph.microsoft.com" + tail})
	if _, codes := w.reasons(r.reference); r.status != 400 || r.header.Get("Location") != "" || codes[0] != "oauth_resource_not_allowed" || !strings.Contains(r.body, r.reference) {
		t.Errorf("another resource: %d %q %v", r.status, r.body, codes)
	}
	for _, path := range []string{"/proxyservice/oauth2/", "/proxyservice/oauth2/authorize/", "/proxyservice/oauth2/t//token", "/proxyservice/oauth2/t/a/b/token", "/proxyservice/oauth2/token%2f", "/proxyservice/oauth2/introspect"} {
		if r := w.do(c, call{path: path}); r.status != http.StatusNotFound && r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	if len(p.taken()) != 0 {
		t.Error("the identity provider was asked")
	}
}

// Answers and errors of the identity provider pass byte for byte; of the request only the resource is another.
func TestTokenPasses(t *testing.T) {
	w, p := oauthWorld(t)
	_, cert := w.managed(alice, "")
	ticket, _ := w.ticket(w.settled(alice))
	for name, c := range map[string]struct {
		client *http.Client
		ticket string
	}{"certificate": {w.phone(&cert, false), ""}, "certificate, HTTP/2": {w.phone(&cert, true), ""}, "ticket": {w.phone(nil, true), ticket}, "ticket in capitals": {w.phone(nil, false), strings.ToUpper(ticket)}} {
		for _, form := range []string{codeForm, refreshForm} {
			token, says := tokenFor(alice)
			p.says(says)
			r := w.signIn(c.client, c.ticket, form)
			want := `{ "token_type":"Bearer",  "expires_in":"3599","access_token":"` + token + `","refresh_token":"S3cretRefresh" }`
			if r.status != 200 || r.body != want || r.header.Get("Set-Cookie") != "" || r.header.Get("X-Ms-Request-Id") != "1-2-3" || r.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d %q %v", name, r.status, r.body, r.header)
			}
			forms := p.taken()
			if want := strings.Replace(form, "mail.contoso.com", "outlook.office365.com", 1); len(forms) != 1 || forms[0] != want {
				t.Errorf("%s: the identity provider got %q", name, forms)
			}
			if ua := p.header.Get("User-Agent"); !strings.HasPrefix(ua, "Preferences/") || p.header.Get("Content-Type") != "application/x-www-form-urlencoded" {
				t.Errorf("%s: header %v", name, p.header)
			}
		}
	}
	r := w.do(w.phone(&cert, true), call{path: "/proxyservice/oauth2/token", query: "api-version=1.0&client-request-id=1", body: refreshForm, version: "none",
		header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}})
	if uris := p.asked(); r.status != 200 || len(p.taken()) != 1 || uris != "/common/oauth2/token" {
		t.Errorf("with a query: %d, the identity provider was asked at %q", r.status, uris)
	}
	const refused = "{\"error\":\"invalid_grant\",\n \"error_description\":\"AADSTS70008\",\"claims\":\"{}\"}"
	p.says(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, refused)
	})
	if r := w.signIn(w.phone(&cert, true), "", refreshForm); r.status != 400 || r.body != refused || r.reference != "" {
		t.Errorf("an error of the identity provider: %d %q", r.status, r.body)
	}
	p.says(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://evil.example", http.StatusTemporaryRedirect)
	})
	p.taken()
	if r := w.signIn(w.phone(&cert, true), "", refreshForm); r.status != 503 || r.header.Get("Retry-After") == "" || refusal(t, r) != "temporarily_unavailable" || len(p.taken()) != 1 {
		t.Errorf("a redirect: %d %q", r.status, r.body)
	}
}

// Somebody else's code or refresh token, and whatever is no sign-in of a phone, never reaches the identity provider.
func TestStolenCredentialsStayOutside(t *testing.T) {
	w, p := oauthWorld(t)
	d, cert := w.managed(alice, "")
	good, bad := w.phone(&cert, true), w.phone(nil, true)
	ticket, k := w.ticket(d)
	_, other := w.managed(bob, "")
	type row struct {
		name           string
		client         *http.Client
		ticket, form   string
		status         int
		code, reason   string
		before, after_ func()
	}
	state := func(s trust.State) func() {
		return func() {
			_, err := w.reg.SetDeviceState(context.Background(), root, d.ID, s, "")
			must(t, err)
			w.sync()
		}
	}
	rows := []row{
		{name: "stolen code", client: bad, form: codeForm, code: "unauthorized_client", reason: "no_certificate_or_ticket"},
		{name: "stolen refresh token", client: bad, form: refreshForm, code: "unauthorized_client", reason: "no_certificate_or_ticket"},
		{name: "invented ticket", client: bad, ticket: strings.Repeat("a", 32), form: refreshForm, code: "unauthorized_client", reason: "ticket_unknown"},
		{name: "the id of a ticket", client: bad, ticket: k.ID, form: refreshForm, code: "unauthorized_client", reason: "ticket_unknown"},
		{name: "ticket of another device", client: w.phone(&other, true), ticket: ticket, form: refreshForm, code: "unauthorized_client", reason: "ticket_of_another_device"},
		{name: "quarantined", client: bad, ticket: ticket, form: refreshForm, code: "unauthorized_client", reason: "device_quarantined", before: state(trust.Quarantined), after_: state(trust.Active)},
		{name: "blocked", client: good, ticket: ticket, form: refreshForm, code: "unauthorized_client", reason: "device_blocked", before: state(trust.Blocked), after_: state(trust.Active)},
		{name: "another client", client: good, form: strings.Replace(codeForm, apple, "x", 1), code: "invalid_client", reason: "oauth_client_not_allowed"},
		{name: "another resource", client: good, form: strings.Replace(codeForm, "mail.contoso.com", "graph.microsoft.com", 1), code: "invalid_target", reason: "oauth_resource_not_allowed"},
		{name: "another scope", client: good, form: codeForm + "&scope=https://graph.microsoft.com/.default", code: "invalid_scope", reason: "oauth_resource_not_allowed"},
		{name: "password", client: good, form: "grant_type=password&username=a&password=b&client_id=" + apple, code: "unsupported_grant_type", reason: "oauth_grant_not_allowed"},
		{name: "client credentials", client: good, form: "grant_type=client_credentials&client_id=" + apple, code: "unsupported_grant_type", reason: "oauth_grant_not_allowed"},
		{name: "a form too long", client: good, form: codeForm + "&x=" + strings.Repeat("a", 40000), code: "invalid_request", reason: "oauth_request_malformed"},
		{name: "revoked ticket", client: bad, ticket: ticket, form: refreshForm, code: "unauthorized_client", reason: "ticket_revoked", before: func() {
			_, _, err := w.reg.RevokeTicket(context.Background(), root, k.ID)
			must(t, err)
			w.sync()
		}},
		{name: "retired", client: good, form: refreshForm, code: "unauthorized_client", reason: "device_retired", before: func() {
			_, err := w.reg.RetireDevice(context.Background(), root, d.ID, "")
			must(t, err)
			w.sync()
		}},
	}
	for _, k := range rows {
		if k.before != nil {
			k.before()
		}
		r := w.signIn(k.client, k.ticket, k.form)
		if got := refusal(t, r); r.status != 400 || got != k.code || r.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: %d %s, want %s", k.name, r.status, got, k.code)
		}
		dec, codes := w.reasons(r.reference)
		if len(codes) == 0 || codes[0] != k.reason || dec.Reasons[0].Remedy == "" {
			t.Errorf("%s: reasons %v, want %s", k.name, codes, k.reason)
		}
		if text, _ := json.Marshal(dec); strings.Contains(string(text), "S3cret") || strings.Contains(r.body, "S3cret") || k.ticket == ticket && strings.Contains(string(text), ticket) {
			t.Errorf("%s: a secret is kept or shown", k.name)
		}
		if k.after_ != nil {
			k.after_()
		}
		if forms := p.taken(); len(forms) != 0 {
			t.Errorf("%s: the identity provider was asked %q", k.name, forms)
		}
	}
	for name, c := range map[string]call{
		"GET":               {method: "GET", path: "/proxyservice/oauth2/token", query: refreshForm},
		"in the query":      {path: "/proxyservice/oauth2/token", query: "resource=x", body: refreshForm, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}},
		"JSON":              {path: "/proxyservice/oauth2/token", body: `{}`, header: map[string]string{"Content-Type": "application/json"}},
		"compressed":        {path: "/proxyservice/oauth2/token", body: refreshForm, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}},
		"client credential": {path: "/proxyservice/oauth2/token", body: refreshForm, auth: basic(alice), header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}},
	} {
		if r := w.do(w.phone(&other, true), c); r.status != 400 && r.status != 405 || len(p.taken()) != 0 {
			t.Errorf("%s: %d %q", name, r.status, r.body)
		}
	}
}

// A token for somebody else is not handed over, and neither is one that comes for a device which has meanwhile lost its right.
func TestTokenIsForTheOwner(t *testing.T) {
	w, p := oauthWorld(t)
	d, cert := w.managed(alice, "")
	c := w.phone(&cert, true)
	token, says := tokenFor(bob)
	p.says(says)
	r := w.signIn(c, "", codeForm)
	if _, codes := w.reasons(r.reference); refusal(t, r) != "unauthorized_client" || codes[0] != "owner_mismatch" || strings.Contains(r.body, token) {
		t.Errorf("bob's token for alice's device: %d %q %v", r.status, r.body, codes)
	}
	token, says = tokenFor(alice)
	p.says(func(rw http.ResponseWriter, r *http.Request) {
		_, err := w.reg.SuspendDevice(context.Background(), root, d.ID, trust.SuspendLost, "")
		must(t, err)
		w.sync()
		says(rw, r)
	})
	r = w.signIn(c, "", refreshForm)
	if _, codes := w.reasons(r.reference); codes[0] != "device_suspended" || strings.Contains(r.body, token) {
		t.Errorf("suspended meanwhile: %d %q %v", r.status, r.body, codes)
	}
}

func TestTokenRates(t *testing.T) {
	w, p := oauthWorld(t)
	_, cert := w.managed(alice, "")
	c := w.phone(&cert, true)
	limited := 0
	for range 30 {
		if r := w.signIn(c, "", refreshForm); r.status == http.StatusTooManyRequests && r.header.Get("Retry-After") != "" {
			limited++
		}
	}
	if n := len(p.taken()); limited == 0 || n > 25 || n < 20 {
		t.Errorf("%d of 30 sent on, %d limited", n, limited)
	}
	stranger := w.phone(nil, true)
	for range 150 {
		w.signIn(stranger, "", refreshForm)
	}
	if r := w.signIn(stranger, "", refreshForm); r.status != http.StatusTooManyRequests || r.reference != "" {
		t.Errorf("a stranger without end: %d", r.status)
	}
	// The phone behind the same address is not disturbed.
	w.pass(time.Hour)
	if r := w.signIn(c, "", refreshForm); r.status != 200 {
		t.Errorf("the phone: %d %q", r.status, r.body)
	}
}

// The three levels of assurance: a command with a token that came through a ticket and no certificate.
func TestAssuranceByToken(t *testing.T) {
	w, p := oauthWorld(t)
	d := w.settled(alice)
	ticket, k := w.ticket(d)
	token, says := tokenFor(alice)
	p.says(says)
	c := w.phone(nil, true)
	if r := w.signIn(c, ticket, codeForm); r.status != 200 {
		t.Fatalf("%d %q", r.status, r.body)
	}
	android := call{query: "Cmd=FolderSync&User=alice@contoso.com&DeviceId=androidc42&DeviceType=Android", agent: "Android-Mail/2026.1", auth: "Bearer " + token}
	facts := func(r reply) policy.AccessInput {
		dec, _ := w.reasons(r.reference)
		var in policy.AccessInput
		must(t, json.Unmarshal(dec.Input, &in))
		return in
	}
	r := w.do(c, android)
	if in := facts(r); phoneSees(r) != blocked || in.Assurance != "token" || in.Ticket != (policy.TicketFacts{Status: "live", ID: k.ID, Device: string(d.ID)}) || in.Device.ID != string(d.ID) || in.AssuranceUntil == 0 {
		t.Errorf("the built-in policy: %s, %+v", phoneSees(r), in)
	}
	w.team(`postern: {config: {access: {token_families: [gmail]}}}`)
	if r := w.do(c, android); phoneSees(r) != mail {
		t.Errorf("a policy that accepts tokens: %s", phoneSees(r))
	}
	another := android
	another.auth = bearer(map[string]any{"upn": alice})
	if r := w.do(c, another); phoneSees(r) != blocked || facts(r).Assurance != "claimed" {
		t.Errorf("a token from elsewhere: %s", phoneSees(r))
	}
	// A hanging command ends when its ticket does.
	held := make(chan struct{})
	w.answerWith(func(rw http.ResponseWriter, r *http.Request) {
		close(held)
		<-r.Context().Done()
	})
	ping := android
	ping.query = strings.Replace(ping.query, "FolderSync", "Ping", 1)
	ended := make(chan reply, 1)
	go func() { r, _ := w.try(context.Background(), c, ping); ended <- r }()
	<-held
	_, _, err := w.reg.RevokeTicket(context.Background(), root, k.ID)
	must(t, err)
	if r := <-ended; phoneSees(r) != blocked || facts(r).Ticket.Status != "revoked" || facts(r).Assurance != "claimed" {
		t.Errorf("a Ping after its ticket was revoked: %s", phoneSees(r))
	}
}

// A token proves nothing after its end, whatever it says of itself.
func TestAssuranceEnds(t *testing.T) {
	w, p := oauthWorld(t)
	w.team(`postern: {config: {access: {token_families: [gmail]}}}`)
	d := w.settled(alice)
	ticket, _ := w.ticket(d)
	token, says := tokenFor(alice)
	p.says(says)
	c := w.phone(nil, true)
	w.signIn(c, ticket, codeForm)
	android := call{query: "Cmd=FolderSync&User=alice@contoso.com&DeviceId=androidc42&DeviceType=Android", agent: "Android-Mail/2026.1", auth: "Bearer " + token}
	if r := w.do(c, android); phoneSees(r) != mail {
		t.Fatalf("%s", phoneSees(r))
	}
	_, err := w.reg.SuspendDevice(context.Background(), root, d.ID, trust.SuspendLost, "")
	must(t, err)
	w.sync()
	r := w.do(c, android)
	if _, codes := w.reasons(r.reference); phoneSees(r) != blocked || codes[0] != "device_suspended" {
		t.Errorf("suspended: %s %v", phoneSees(r), codes)
	}
	_, err = w.reg.ReinstateDevice(context.Background(), root, d.ID, "")
	must(t, err)
	w.sync()
	w.pass(time.Hour)
	r = w.do(c, android)
	if _, codes := w.reasons(r.reference); phoneSees(r) != blocked || codes[len(codes)-1] != "unmanaged_device" {
		t.Errorf("expired: %s %v", phoneSees(r), codes)
	}
}

// team has a team's data in force.
func (w *world) team(data string) {
	w.t.Helper()
	dir := w.t.TempDir()
	must(w.t, os.WriteFile(dir+"/data.yaml", []byte(data), 0o600))
	engine, err := policy.Load(context.Background(), policy.Options{Timeout: 5 * time.Second, Path: dir})
	must(w.t, err)
	w.active.Swap(engine)
}

// Of Exchange's challenge only the address changes, for the shared one, for a phone's own and in the answer to a command.
func TestChallengeLeadsHere(t *testing.T) {
	w, _ := oauthWorld(t)
	_, cert := w.managed(alice, "")
	want := strings.Replace(bearerChallenge, "https://login.microsoftonline.com/common/oauth2/authorize", "https://"+gateHost+"/proxyservice/oauth2/authorize", 1)
	for name, r := range map[string]reply{
		"no authorization": w.do(w.phone(nil, true), call{method: "GET"}),
		"empty Bearer":     w.do(w.phone(&cert, true), call{method: "GET", auth: "Bearer"}),
		"again":            w.do(w.phone(nil, true), call{method: "GET", auth: "Bearer"}),
	} {
		if r.status != 401 || r.header.Get("Www-Authenticate") != want {
			t.Errorf("%s: %d %q", name, r.status, r.header.Get("Www-Authenticate"))
		}
	}
	const claims = `Bearer realm="", authorization_uri="https://login.windows.net/common/oauth2/authorize", error="insufficient_claims", claims="eyJhIjoxfQ=="`
	w.answerWith(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Add("WWW-Authenticate", claims)
		rw.Header().Add("WWW-Authenticate", `Basic realm="mail"`)
		rw.Header().Set("X-MS-Diagnostics", "2000001;reason=\"x\"")
		rw.WriteHeader(http.StatusUnauthorized)
	})
	k := command("FolderSync", alice, "abc")
	k.auth = bearer(map[string]any{"upn": alice})
	r := w.do(w.phone(&cert, true), k)
	got := r.header.Values("Www-Authenticate")
	if want := strings.Replace(claims, "https://login.windows.net/common/oauth2/authorize", "https://"+gateHost+"/proxyservice/oauth2/authorize", 1); len(got) != 2 || got[0] != want || got[1] != `Basic realm="mail"` || r.header.Get("X-Ms-Diagnostics") != "2000001;reason=\"x\"" {
		t.Errorf("%d %q", r.status, got)
	}
}

func TestEWS(t *testing.T) {
	w, _ := oauthWorld(t)
	_, cert := w.managed(alice, "F2LXPHONE")
	w.answerWith(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer" {
			exchange(rw, r)
			return
		}
		_, _ = io.WriteString(rw, "answer")
	})
	soap := call{path: "/EWS/Exchange.asmx", body: "<soap/>", auth: basic(alice), agent: "MacOutlook/16.78", version: "none", header: map[string]string{"Content-Type": "text/xml"}}
	if r := w.do(w.phone(&cert, true), soap); r.status != 200 || r.body != "answer" {
		t.Errorf("with a certificate: %d %q", r.status, r.body)
	}
	got := w.takeSeen()
	if len(got) != 1 || got[0].uri != "/EWS/Exchange.asmx" || got[0].body != "<soap/>" {
		t.Errorf("upstream got %+v", got)
	}
	head := soap
	head.method, head.body = "HEAD", ""
	for _, h2 := range []bool{false, true} {
		if r := w.do(w.phone(&cert, h2), head); r.status != 200 || r.body != "" || r.header.Get("Content-Length") != "6" {
			t.Errorf("HEAD, h2 %v: %d %v", h2, r.status, r.header)
		}
	}
	w.takeSeen()
	r := w.do(w.phone(nil, true), soap)
	if dec, codes := w.reasons(r.reference); phoneSees(r) != http403 || !strings.Contains(strings.Join(codes, " "), "no_certificate") || !strings.Contains(string(dec.Input), `"protocol":"ews"`) {
		t.Errorf("without: %s %v", phoneSees(r), codes)
	}
	another := soap
	another.auth = basic(bob)
	if r := w.do(w.phone(&cert, true), another); phoneSees(r) != http403 {
		t.Errorf("for another user: %s", phoneSees(r))
	}
	for _, auth := range []string{"", "Bearer"} {
		ask := soap
		ask.auth = auth
		if r := w.do(w.phone(nil, true), ask); phoneSees(r) != signIn || r.header.Get("Www-Authenticate") == "" {
			t.Errorf("asking how to sign in with %q: %s", auth, phoneSees(r))
		}
	}
	for _, s := range w.takeSeen() {
		if s.header.Get("Authorization") != "Bearer" {
			t.Errorf("upstream got %+v", s)
		}
	}
	for _, path := range []string{"/EWS/../owa", "/EWS//x", "/EWS/a%2fb", "/ews", "/EWSx/y"} {
		odd := soap
		odd.path = path
		if r, err := w.try(context.Background(), w.phone(&cert, true), odd); err == nil && r.status < 400 {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	plain := newWorld(t, options{})
	_, cert = plain.managed(alice, "")
	if r := plain.do(plain.phone(&cert, true), soap); r.status != 404 {
		t.Errorf("switched off: %d", r.status)
	}
	if r := plain.do(plain.phone(&cert, true), call{path: "/proxyservice/oauth2/token", body: refreshForm}); r.status != 404 {
		t.Errorf("no OAuth front: %d", r.status)
	}
}
