package edge_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/internal/edge"
	"postern/internal/registry"
	"postern/internal/trust"
)

// TestDiscovery: a phone that is being set up, with a certificate or without, learns how to sign in and no more.
func TestDiscovery(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	query := command("FolderSync", alice, aliceEAS).query
	for name, k := range map[string]call{
		"iPhone asks":                {method: "GET", auth: "Bearer", header: map[string]string{"X-User-Identity": alice}},
		"empty Bearer with blank":    {method: "GET", auth: "Bearer "},
		"empty Bearer, POST":         {auth: "Bearer", body: "body that goes nowhere"},
		"empty Bearer, command":      {auth: "Bearer", query: query, body: "body that goes nowhere"},
		"empty Bearer, OPTIONS":      {method: "OPTIONS", auth: "Bearer", version: "none"},
		"no Authorization":           {method: "GET"},
		"no Authorization, OPTIONS":  {method: "OPTIONS", version: "none"},
		"no Authorization, command":  {query: query, body: "body"},
		"no Authorization, bare":     {body: "body"},
		"no Authorization, no agent": {query: query, agent: "x"},
	} {
		for _, cert := range []*tls.Certificate{nil, &c} {
			w.takeSeen()
			got := w.do(w.phone(cert, false), k)
			if got.status != 401 || !strings.Contains(got.header.Get("WWW-Authenticate"), "authorization_uri") || got.header.Get("X-MS-Diagnostics") == "" {
				t.Errorf("%s: status %d, %v", name, got.status, got.header)
			}
			if got.header.Get("Set-Cookie") != "" || got.body != "" {
				t.Errorf("%s: more than the challenge: %v %q", name, got.header, got.body)
			}
			for _, s := range w.takeSeen() {
				if s.header.Get("Authorization") != "Bearer" || s.body != "" || s.header.Get("X-User-Identity") != k.header["X-User-Identity"] {
					t.Errorf("%s: upstream got %+v", name, s)
				}
			}
		}
	}
}

// TestStrangersTryNoPasswords: OPTIONS with credentials goes to Exchange only with a certificate of ours; a stranger learns what the server speaks from the
// edge, and cannot tell a right password from a wrong one.
func TestStrangersTryNoPasswords(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	ask := func(cert *tls.Certificate, user string) reply {
		return w.do(w.phone(cert, true), call{method: "OPTIONS", auth: basic(user), version: "none"})
	}
	if got := ask(nil, alice); got.status != 200 || !strings.Contains(got.header.Get("MS-ASProtocolVersions"), "16.1") || got.header.Get("MS-ASProtocolCommands") == "" {
		t.Errorf("a stranger, before Exchange was heard: status %d, %v", got.status, got.header)
	}
	if seen := w.takeSeen(); len(seen) != 0 {
		t.Errorf("a stranger's credentials went upstream: %+v", seen)
	}
	if got := ask(&c, alice); got.status != 200 || got.header.Get("MS-ASProtocolVersions") != "16.1" {
		t.Errorf("a managed phone: status %d, %v", got.status, got.header)
	}
	if seen := w.takeSeen(); len(seen) != 1 {
		t.Errorf("a managed phone: upstream got %+v", seen)
	}
	if got := ask(nil, "somebody@contoso.com"); got.status != 200 || got.header.Get("MS-ASProtocolVersions") != "16.1" || len(w.takeSeen()) != 0 {
		t.Errorf("a stranger, after: status %d, %v", got.status, got.header)
	}
}

// TestSomebodyElsesProfileIsNotTaken: a managed user who knows the DeviceId of another cannot stand in his way by naming him.
func TestSomebodyElsesProfileIsNotTaken(t *testing.T) {
	for _, renewed := range []bool{false, true} {
		w := newWorld(t, options{})
		device, hers := w.managed(alice, "")
		_, mallory := w.managed("mallory@contoso.com", "")
		mine := command("FolderSync", alice, aliceEAS)
		if renewed {
			if got := w.do(w.phone(&hers, false), mine); phoneSees(got) != mail {
				t.Fatalf("before: the phone sees %s", phoneSees(got))
			}
			hers = w.enrol(device, leaf{}, &hers)
		}
		for range 3 {
			got := w.do(w.phone(&mallory, false), mine)
			if phoneSees(got) != blocked {
				t.Errorf("Mallory sees %s", phoneSees(got))
			}
			w.sync()
		}
		if got := w.do(w.phone(&hers, false), mine); phoneSees(got) != mail {
			_, codes := w.reasons(got.reference)
			t.Errorf("renewed %v: Alice sees %s: %v", renewed, phoneSees(got), codes)
		}
	}
}

// TestChallengeIsShared: phones without Authorization cause one request upstream in a minute, and an upstream without challenge is a fault.
func TestChallengeIsShared(t *testing.T) {
	w := newWorld(t, options{})
	for range 10 {
		w.do(w.phone(nil, false), call{method: "GET"})
	}
	if n := len(w.takeSeen()); n != 1 {
		t.Errorf("%d requests upstream", n)
	}
	for _, status := range []int{200, 302, 451, 401, 500} {
		w.clock.advance(2 * time.Minute)
		w.answerWith(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Location", "https://evil.example/")
			rw.WriteHeader(status)
		})
		if got := w.do(w.phone(nil, false), call{method: "GET"}); phoneSees(got) != later || got.header.Get("Location") != "" {
			t.Errorf("%d: the phone sees %s", status, phoneSees(got))
		}
	}
}

// TestRevokedGetsNoDiscovery: who was shut out does not learn how to sign in either.
func TestRevokedGetsNoDiscovery(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	_, err := w.reg.Revoke(t.Context(), root, "contoso", serialOf(c), trust.KeyCompromise, "")
	must(t, err)
	w.sync()
	got := w.do(w.phone(&c, false), call{method: "GET", auth: "Bearer"})
	if phoneSees(got) != http403 {
		t.Errorf("the phone sees %s", phoneSees(got))
	}
	if _, codes := w.reasons(got.reference); !slices.Contains(codes, "certificate_revoked") {
		t.Errorf("reasons %q", codes)
	}
}

// TestMalformed: what cannot be read is refused in the protocol's words, recorded, and not sent on.
func TestMalformed(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	good := command("FolderSync", alice, aliceEAS)
	with := func(query string) call { return call{query: query, auth: good.auth} }
	tests := []struct {
		name   string
		call   call
		status int
		body   string
		reason string
	}{
		{"oversized", with(good.query + "&x=" + strings.Repeat("x", 5000)), 400, "", "query_too_long"},
		{"oversized, without Authorization", call{query: good.query + strings.Repeat("x", 5000)}, 400, "", "query_too_long"},
		{"no query", with(""), 400, "", "query_missing"},
		{"garbage", with("%%%"), 400, "", "query_malformed"},
		{"unknown command", with(strings.Replace(good.query, "FolderSync", "Nonsense", 1)), 501, "", "command_not_supported"},
		{"no DeviceId", with("Cmd=FolderSync&User=a&DeviceType=iPhone"), 200, "\x03108\x00", "device_id_missing"},
		{"DeviceId with dash", with(strings.Replace(good.query, aliceEAS, "A-B", 1)), 200, "\x03108\x00", "device_id_invalid"},
		{"two DeviceIds", with(good.query + "&DeviceId=OTHER"), 200, "\x03101\x00", "parameter_duplicate"},
		{"another method", call{method: "PUT", query: good.query, auth: good.auth}, 501, "", "method_not_supported"},
		{"GET with password", call{method: "GET", query: good.query, auth: good.auth}, 501, "", "method_not_supported"},
	}
	for _, tt := range tests {
		got := w.do(w.phone(&c, false), tt.call)
		if got.status != tt.status || !strings.Contains(got.body, tt.body) {
			t.Errorf("%s: status %d, %q", tt.name, got.status, got.body)
		}
		if d, codes := w.reasons(got.reference); d.Action != trust.Deny || !slices.Contains(codes, tt.reason) {
			t.Errorf("%s: reasons %q", tt.name, codes)
		}
	}
	if n := w.countSeen(); n != 0 {
		t.Errorf("the upstream got %d requests", n)
	}
}

// TestAutodiscover answers for the issuers' domains and points here.
func TestAutodiscover(t *testing.T) {
	w := newWorld(t, options{config: func(c *edge.Config) {
		c.Hosts["autodiscover.contoso.com"], c.Names = "contoso", map[string]string{"autodiscover.contoso.com": gateHost}
	}})
	c := w.phone(nil, false)
	request := func(mail string) string {
		return `<?xml version="1.0"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/mobilesync/requestschema/2006"><Request><EMailAddress>` + mail +
			`</EMailAddress><AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006</AcceptableResponseSchema></Request></Autodiscover>`
	}
	here := "https://" + gateHost + "/Microsoft-Server-ActiveSync"
	got := w.do(c, call{path: "/AutoDiscover/autodiscover.xml", body: request(alice)})
	if got.status != 200 || !strings.Contains(got.body, "<Url>"+here+"</Url>") {
		t.Errorf("XML: %d %s", got.status, got.body)
	}
	got = w.do(c, call{path: "/autodiscover/autodiscover.xml", body: request("alice@fabrikam.com")})
	if got.status != 200 || strings.Contains(got.body, "<Url>") || !strings.Contains(got.body, "<Error>") {
		t.Errorf("another domain: %d %s", got.status, got.body)
	}
	if got = w.do(c, call{path: "/autodiscover/autodiscover.xml", body: strings.Repeat("x", 100_000)}); got.status != 413 {
		t.Errorf("oversized: %d", got.status)
	}
	got = w.do(c, call{method: "GET", path: "/autodiscover/autodiscover.json", query: "Email=" + url.QueryEscape(alice) + "&Protocol=ActiveSync"})
	if got.status != 200 || !strings.Contains(got.body, `"`+here+`"`) {
		t.Errorf("JSON: %d %s", got.status, got.body)
	}
	got = w.do(c, call{method: "GET", path: "/autodiscover/autodiscover.json/v1.0/" + alice, query: "Protocol=ActiveSync"})
	if got.status != 200 || !strings.Contains(got.body, here) {
		t.Errorf("JSON with the address in the path: %d %s", got.status, got.body)
	}
	asked := call{method: "GET", path: "/autodiscover/autodiscover.json", query: "Email=" + url.QueryEscape(alice) + "&Protocol=ActiveSync", host: "Autodiscover.contoso.com:8443"}
	if got = w.do(c, asked); !strings.Contains(got.body, `"https://`+gateHost+`:8443/Microsoft-Server-ActiveSync"`) {
		t.Errorf("JSON under another name: %d %s", got.status, got.body)
	}
	if got = w.do(c, call{method: "GET", path: "/autodiscover/autodiscover.json", query: "Email=a@fabrikam.com&Protocol=ActiveSync"}); got.status != 400 {
		t.Errorf("JSON for another domain: %d %s", got.status, got.body)
	}
	wide := "\xff\xfe"
	for _, c := range []byte(request(alice)) {
		wide += string([]byte{c, 0})
	}
	if got = w.do(c, call{path: "/autodiscover/autodiscover.xml", body: wide}); !strings.Contains(got.body, "<Url>"+here+"</Url>") {
		t.Errorf("XML in UTF-16: %d %s", got.status, got.body)
	}
	asked.host = ""
	length := strconv.Itoa(len(w.do(c, asked).body))
	for _, h2 := range []bool{false, true} {
		head := asked
		head.method = "HEAD"
		got = w.do(w.phone(nil, h2), head)
		if got.status != 200 || got.body != "" || got.header.Get("Content-Length") != length || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("HEAD, h2 %v: %d %v", h2, got.status, got.header)
		}
	}
	asked.method = "POST"
	if got = w.do(c, asked); got.status != 405 || got.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", got.status, got.header)
	}
	if n := w.countSeen(); n != 0 {
		t.Errorf("the upstream got %d requests", n)
	}
}

// TestOwnAddress: whatever way a client writes the gate's name, the address that it is given is one that works; what is no port is refused.
func TestOwnAddress(t *testing.T) {
	w, _ := oauthWorld(t)
	c := w.phone(nil, false)
	for host, want := range map[string]string{gateHost: "", gateHost + ":443": "", "MAIL.Contoso.com.": "", gateHost + ":": "", gateHost + ".:8443": ":8443",
		gateHost + ":x": "none", gateHost + ":0": "none", gateHost + ":99999": "none", gateHost + ":+1": "none"} {
		got := w.do(c, call{method: "GET", path: "/autodiscover/autodiscover.json", query: "Email=" + alice + "&Protocol=ActiveSync", host: host})
		challenge := w.do(c, call{method: "GET", auth: "Bearer", host: host})
		if want == "none" {
			if got.status != 400 || challenge.status != 400 {
				t.Errorf("%s: %d %s, %d", host, got.status, got.body, challenge.status)
			}
			continue
		}
		if here := `"https://` + gateHost + want + `/Microsoft-Server-ActiveSync"`; !strings.Contains(got.body, here) {
			t.Errorf("%s: %d %s", host, got.status, got.body)
		}
		if here := `"https://` + gateHost + want + `/proxyservice/oauth2/authorize"`; !strings.Contains(challenge.header.Get("WWW-Authenticate"), here) {
			t.Errorf("%s: %v", host, challenge.header)
		}
	}
}

// TestAutodiscoverEWS: where Exchange Web Services pass, clients that ask for them are led here too.
func TestAutodiscoverEWS(t *testing.T) {
	for _, on := range []bool{false, true} {
		w := newWorld(t, options{config: func(c *edge.Config) {
			c.EWS, c.Hosts["autodiscover.contoso.com"], c.Names = on, "contoso", map[string]string{"autodiscover.contoso.com": gateHost}
		}})
		got := w.do(w.phone(nil, false), call{method: "GET", path: "/autodiscover/autodiscover.json", query: "Email=" + alice + "&Protocol=Ews", host: "autodiscover.contoso.com"})
		if on && (got.status != 200 || got.body != `{"Protocol":"Ews","Url":"https://`+gateHost+`/EWS/Exchange.asmx"}`) {
			t.Errorf("switched on: %d %s", got.status, got.body)
		}
		if !on && (got.status != 400 || !strings.Contains(got.body, "Supported values are 'ActiveSync'")) {
			t.Errorf("switched off: %d %s", got.status, got.body)
		}
	}
}

// TestReferences: a refusal's reference is short, each is another, and they sort by time.
func TestReferences(t *testing.T) {
	w := newWorld(t, options{})
	c := w.phone(nil, false)
	var refs []string
	for range 3 {
		w.clock.advance(2 * time.Second)
		refs = append(refs, w.do(c, command("Sync", alice, aliceEAS)).reference)
	}
	if len(refs[0]) != 12 || !slices.IsSorted(refs) || refs[0] == refs[1] || strings.Trim(refs[0], "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		t.Errorf("references %q", refs)
	}
}

// TestTenants: two issuers behind one edge. A host of one does not know the other's phones; one that is open goes by the certificate.
func TestTenants(t *testing.T) {
	for host, want := range map[string]string{"contoso": blocked, "fabrikam": mail, "": mail} {
		w := newWorld(t, options{tenant: &host})
		other := newAuthority(t, "Fabrikam Issuing CA")
		must(t, w.reg.PutCA(t.Context(), root, registry.CA{Issuer: "fabrikam", ID: "issuing", Domains: []string{"fabrikam.com"}, DER: other.cert.Raw}))
		w.ca, w.issuer = other, "fabrikam"
		_, c := w.managed("frank@fabrikam.com", "")
		got := w.do(w.phone(&c, false), command("FolderSync", "frank@fabrikam.com", "FRANK1"))
		if phoneSees(got) != want {
			t.Errorf("at a host of %q: %s", host, phoneSees(got))
		}
		if want == blocked {
			if _, codes := w.reasons(got.reference); !slices.Contains(codes, "certificate_not_trusted") {
				t.Errorf("reasons %q", codes)
			}
		} else if p := w.index.ProfilesOfClient("frank1"); len(p) != 1 || p[0].Tenant != "fabrikam" {
			t.Errorf("profiles %+v", p)
		}
	}
}

// TestConfig: what cannot work is said at the start.
func TestConfig(t *testing.T) {
	w := newWorld(t, options{})
	good := func() edge.Config {
		return edge.Config{Hosts: map[string]string{gateHost: ""}, Upstream: &url.URL{Scheme: "https", Host: "outlook.office365.com"}, Index: w.index, Registry: w.reg,
			Journal: w.journal, Policy: w.active, Now: w.clock.now, Log: discard, Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}
	}
	if _, err := edge.New(good()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*edge.Config){
		"no host":              func(c *edge.Config) { c.Hosts = nil },
		"host with port":       func(c *edge.Config) { c.Hosts = map[string]string{gateHost + ":443": ""} },
		"plain http":           func(c *edge.Config) { c.Upstream = &url.URL{Scheme: "http", Host: "exchange.contoso.com"} },
		"plain http to a name": func(c *edge.Config) { c.Upstream = &url.URL{Scheme: "http", Host: "localhost"} },
		"query":                func(c *edge.Config) { c.Upstream = &url.URL{Scheme: "https", Host: "x", RawQuery: "a=b"} },
		"no journal":           func(c *edge.Config) { c.Journal = nil },
		"no clock":             func(c *edge.Config) { c.Now = nil },
	} {
		c := good()
		change(&c)
		if _, err := edge.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestBodiesThatNeverCome: a refusal does not wait for what a client only announces, and the connection does not outlive it.
func TestBodiesThatNeverCome(t *testing.T) {
	w := newWorld(t, options{})
	w.managed(alice, "")
	for name, text := range map[string]string{
		"command": "POST /Microsoft-Server-ActiveSync?Cmd=FolderSync&User=" + alice + "&DeviceId=" + aliceEAS + "&DeviceType=iPhone HTTP/1.1\r\nHost: " + gateHost +
			"\r\nMS-ASProtocolVersion: 16.1\r\nAuthorization: " + basic(alice) + "\r\nContent-Length: 200000\r\n\r\nx",
		"nowhere": "POST /somewhere HTTP/1.1\r\nHost: " + gateHost + "\r\nContent-Length: 200000\r\n\r\nx",
	} {
		conn, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: w.roots, ServerName: gateHost})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		// Everything up to the end of the connection: it has to come well before the deadline, and with an answer.
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 ") {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
		_ = conn.Close()
	}
}
