package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/api"
	"postern/internal/peertest"
	"postern/internal/trust"
)

const (
	appleMail   = "f8d98a96-0999-43f5-8af3-69971c7bb423"
	mailService = "https://outlook.office365.com/"
)

// identityProvider is a real OAuth server in a process of its own.
type identityProvider struct {
	url string

	mu   sync.Mutex
	seen []string // METHOD PATH
}

// startIdentityProvider installs the server of test/oauth as its lock file says, and starts it.
func startIdentityProvider(t *testing.T, redirect string) *identityProvider {
	t.Helper()
	node, npm := peertest.Find(t, "node"), peertest.Find(t, "npm")
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "server.mjs"} {
		text, err := os.ReadFile(filepath.Join("oauth", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	address := freeAddress()
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), node, "server.mjs", port, mailService, appleMail, redirect)
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := &identityProvider{url: "http://" + address}
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if lines.Text() == "ready" {
				ready <- true
			}
			if what, ok := strings.CutPrefix(lines.Text(), "seen "); ok {
				p.mu.Lock()
				p.seen = append(p.seen, what)
				p.mu.Unlock()
			}
		}
		close(ready)
	}()
	if !<-ready {
		t.Fatalf("the identity provider has ended:\n%s", said.String())
	}
	return p
}

// asked returns how often the token endpoint was asked.
func (p *identityProvider) asked() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.seen {
		if s == "POST /token" {
			n++
		}
	}
	return n
}

// signInSite is a site whose gate has an OAuth front before the identity provider.
func signInSite(t *testing.T, p *identityProvider) *site {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv("GOTMPDIR"), "s")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSite(dir, siteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "postern.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	front := "edge:\n  oauth: {authorize: " + p.url + "/auth, token: " + p.url + "/token, destination_resource: \"" + mailService + "\", client_ids: [" + appleMail + "], tickets: true}\n"
	if err := os.WriteFile(path, bytes.Replace(text, []byte("edge:\n"), []byte(front), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.tidy(t) })
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs a command of the binary and decodes the JSON that it prints.
func (s *site) run(t *testing.T, out any, args ...string) {
	t.Helper()
	text, err := s.postern(append(args, "--json")...)
	if err != nil {
		t.Fatalf("postern %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(text), out); err != nil {
			t.Fatalf("postern %s: %v in %s", strings.Join(args, " "), err, text)
		}
	}
}

// tokens is an answer of the token endpoint.
type tokens struct {
	status  int
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"`
}

// ask posts a form to an address of the gate.
func (s *site) ask(t *testing.T, address string, form url.Values) (out tokens) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", s.edge)
		}}}
	resp, err := c.PostForm(u.String(), form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatalf("%s: %v in %s", u.Path, err, body)
	}
	out.status = resp.StatusCode
	return out
}

// TestSignInWithBrowser: a browser signs in through the gate at a real OAuth server, with PKCE and `resource`; the phone redeems the code at its device's own
// address, refreshes, and has assurance by token afterwards. What was stolen on the way is worth nothing.
func TestSignInWithBrowser(t *testing.T) {
	const redirect = "/callback"
	codes := make(chan url.Values, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	phone := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == redirect {
			codes <- r.URL.Query()
		}
	})}
	go func() { _ = phone.Serve(ln) }()
	t.Cleanup(func() { _ = phone.Close() })
	back := "http://" + ln.Addr().String() + redirect
	b := openBrowser(t)
	p := startIdentityProvider(t, back)
	s := signInSite(t, p)

	var d trust.Device
	s.run(t, &d, "device", "add", "--owner", "alice@contoso.com", "--serial-number", "F2LX")
	s.run(t, nil, "device", "unblock", string(d.ID))
	var k api.TicketAddresses
	s.run(t, &k, "device", "ticket", string(d.ID))
	if !strings.HasPrefix(k.SignInURL, "https://mail.contoso.com/proxyservice/oauth2/t/") || !strings.HasSuffix(k.TokenURL, "/token") {
		t.Fatalf("%+v", k)
	}
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	verifier := base64.RawURLEncoding.EncodeToString(raw[:])
	sum := sha256.Sum256([]byte(verifier))
	const state = "6F0D+ /=&"
	query := url.Values{"response_type": {"code"}, "client_id": {appleMail}, "redirect_uri": {back}, "resource": {"https://mail.contoso.com/"}, "scope": {"openid"}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	// The browser has no name service for the gate.
	b.open(strings.Replace(k.SignInURL, "mail.contoso.com", s.edge, 1) + "?" + query.Encode())
	b.fill(`"input[name=login]"`, `document.querySelector("input[name=login]").value = "alice@contoso.com"; document.querySelector("input[name=password]").value = "x"`)
	b.fill(`"input[name=prompt][value=consent]"`, "")
	var came url.Values
	select {
	case came = <-codes:
	case <-time.After(patience):
		t.Fatalf("the browser did not come back: %s: %s", b.eval("location.href"), b.eval("document.body.innerText"))
	}
	if came.Get("state") != state || came.Get("code") == "" {
		t.Fatalf("the browser came back with %v", came)
	}
	s.redeem(t, p, d, k, url.Values{"grant_type": {"authorization_code"}, "client_id": {appleMail}, "code": {came.Get("code")}, "redirect_uri": {back},
		"code_verifier": {verifier}, "resource": {"https://mail.contoso.com/"}})
}

// redeem goes on with a code.
func (s *site) redeem(t *testing.T, p *identityProvider, d trust.Device, k api.TicketAddresses, code url.Values) {
	t.Helper()
	shared := "https://mail.contoso.com/proxyservice/oauth2/token"
	if r := s.ask(t, shared, code); r.status != 400 || r.Error != "unauthorized_client" || p.asked() != 0 {
		t.Errorf("a stolen code: %+v, the identity provider was asked %d times", r, p.asked())
	}
	first := s.ask(t, k.TokenURL, code)
	if first.status != 200 || first.Access == "" || first.Refresh == "" {
		t.Fatalf("the code: %+v", first)
	}
	var claims struct{ Aud, UPN string }
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(first.Access, ".")[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Aud != mailService || claims.UPN != "alice@contoso.com" {
		t.Errorf("the token is for %+v (%v)", claims, err)
	}
	s.assured(t, first.Access)
	refresh := url.Values{"grant_type": {"refresh_token"}, "client_id": {appleMail}, "refresh_token": {first.Refresh}, "resource": {"https://mail.contoso.com"}}
	before := p.asked()
	for _, change := range []struct{ key, value, says string }{{"resource", "https://graph.microsoft.com/", "invalid_target"}, {"client_id", "x", "invalid_client"},
		{"grant_type", "password", "unsupported_grant_type"}, {"grant_type", "client_credentials", "unsupported_grant_type"}} {
		form := url.Values{}
		maps.Copy(form, refresh)
		form.Set(change.key, change.value)
		if r := s.ask(t, k.TokenURL, form); r.status != 400 || r.Error != change.says {
			t.Errorf("%s %s: %+v", change.key, change.value, r)
		}
	}
	if r := s.ask(t, shared, refresh); r.Error != "unauthorized_client" {
		t.Errorf("a stolen refresh token: %+v", r)
	}
	if p.asked() != before {
		t.Error("the identity provider was asked for what was refused")
	}
	second := s.ask(t, k.TokenURL, refresh)
	if second.status != 200 || second.Refresh == "" || second.Refresh == first.Refresh || second.Access == first.Access {
		t.Errorf("refreshing: %+v", second)
	}
	if r := s.ask(t, k.TokenURL, refresh); r.status != 400 || r.Error != "invalid_grant" {
		t.Errorf("the old refresh token, an error of the identity provider: %+v", r)
	}
	s.run(t, nil, "device", "revoke-ticket", k.ID)
	before = p.asked()
	refresh.Set("refresh_token", second.Refresh)
	if r := s.ask(t, k.TokenURL, refresh); r.Error != "unauthorized_client" || p.asked() != before {
		t.Errorf("at a revoked ticket: %+v", r)
	}
	var all []api.Ticket
	if s.run(t, &all, "device", "tickets", "--device", string(d.ID)); len(all) != 1 || all[0].Status != "revoked" {
		t.Errorf("tickets %+v", all)
	}
}

// assured sends a command with the token, and looks at what the decision was made on.
func (s *site) assured(t *testing.T, token string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "https://"+s.edge+"/Microsoft-Server-ActiveSync?Cmd=FolderSync&User=alice@contoso.com&DeviceId=androidc42&DeviceType=Android", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "mail.contoso.com"
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("MS-ASProtocolVersion", "16.1")
	c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	var dec struct {
		Input struct{ Assurance string }
	}
	s.run(t, &dec, "decision", "show", resp.Header.Get("X-Postern-Reference"))
	if dec.Input.Assurance != "token" {
		t.Errorf("assurance %q", dec.Input.Assurance)
	}
}
