package edge_test

import (
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/edge"
	"postern/internal/trust"
)

// elsewhere is a second server of Exchange.
type elsewhere struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	answer http.HandlerFunc
}

func newElsewhere(t *testing.T) *elsewhere {
	e := &elsewhere{answer: exchange}
	e.Server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.bodies = append(e.bodies, r.RequestURI+" "+string(body))
		answer := e.answer
		e.mu.Unlock()
		answer(rw, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *elsewhere) host() string { return strings.TrimPrefix(e.URL, "https://") }

// leads has the server send everything on.
func (e *elsewhere) leads(status int, to string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = leads(status, to)
}

func (e *elsewhere) got() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.bodies
	e.bodies = nil
	return out
}

// leads answers with a status that leads to another server.
func leads(status int, to string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.Header().Set("X-MS-Location", to)
		rw.Header().Set("Location", to)
		rw.WriteHeader(status)
	}
}

// TestRedirectsStayInside: where an upstream leads to, the edge goes itself if that is allowed; the phone is told nothing of it and never leaves.
func TestRedirectsStayInside(t *testing.T) {
	const inside, fault = mail, later
	other := newElsewhere(t)
	here := other.URL + "/Microsoft-Server-ActiveSync"
	rows := []struct {
		name   string
		status int
		to     string
		phone  string
	}{
		{"another server has the mailbox", 451, here, inside},
		{"with a slash at the end", 451, here + "/", inside},
		{"in other letter case, with a query", 451, other.URL + "/microsoft-server-activesync?Cmd=x", inside},
		{"the document of the path", 307, here + "/default.eas?Cmd=x", inside},
		{"another document", 307, here + "/default.aspx", fault},
		{"moved permanently", 301, here, inside},
		{"found", 302, here, inside},
		{"temporary redirect", 307, here, inside},
		{"permanent redirect", 308, here, inside},
		{"see other: the command was taken", 303, here, fault},
		{"multiple choices", 300, here, fault},
		{"not modified", 304, here, fault},
		{"a proxy that wants a password", 407, here, fault},
		{"another protocol", 426, here, fault},
		{"nowhere", 451, "", fault},
		{"a server that is not allowed", 451, "https://evil.example/Microsoft-Server-ActiveSync", fault},
		{"redirect to a server that is not allowed", 302, "https://evil.example/Microsoft-Server-ActiveSync", fault},
		{"a name that begins like an allowed one", 451, "https://mail.example.com.evil.example/Microsoft-Server-ActiveSync", fault},
		{"certificate authentication", 451, "https://outlook-cba.office365.com/Microsoft-Server-ActiveSync", fault},
		{"certificate authentication, in capitals", 451, "https://OUTLOOK-CBA.office365.com./Microsoft-Server-ActiveSync", fault},
		{"without TLS", 451, "http://" + other.host() + "/Microsoft-Server-ActiveSync", fault},
		{"another port", 451, "https://127.0.0.1:1/Microsoft-Server-ActiveSync", fault},
		{"with a user", 451, "https://u@" + other.host() + "/Microsoft-Server-ActiveSync", fault},
		{"another path", 451, other.URL + "/owa", fault},
		{"below another path", 451, other.URL + "/owa/Microsoft-Server-ActiveSync", fault},
		{"the same server", 302, "/Microsoft-Server-ActiveSync", fault},
		{"no URL", 302, "https://%zz", fault},
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, options{config: func(c *edge.Config) { c.UpstreamHosts = []string{other.host(), "*.office365.com", "mail.example.com"} }})
			_, c := w.managed(alice, "")
			w.answerWith(leads(tt.status, tt.to))
			k := command("FolderSync", alice, aliceEAS)
			k.body = "body"
			got := w.do(w.phone(&c, false), k)
			if phoneSees(got) != tt.phone || got.header.Get("Location")+got.header.Get("X-MS-Location") != "" {
				t.Fatalf("the phone sees %s, %v", phoneSees(got), got.header)
			}
			want := []string{"/Microsoft-Server-ActiveSync?" + k.query + " body"}
			if tt.phone == fault {
				want = nil
				if d, codes := w.reasons(got.reference); d.Action != trust.Fault || !slices.Contains(codes, "upstream_redirect") {
					t.Errorf("%s %q", d.Action, codes)
				}
			}
			if seen := other.got(); !slices.Equal(seen, want) {
				t.Errorf("the other server got %q", seen)
			}
			if seen := w.takeSeen(); len(seen) != 1 || seen[0].body != "body" {
				t.Errorf("the upstream got %+v", seen)
			}
		})
	}
}

// TestRouteIsRemembered: the next commands of a user go to his server at once, until an hour is over or that server cannot be reached.
func TestRouteIsRemembered(t *testing.T) {
	other := newElsewhere(t)
	w := newWorld(t, options{config: func(c *edge.Config) { c.UpstreamHosts = []string{other.host()} }})
	_, c := w.managed(alice, "")
	_, his := w.managed(bob, "")
	w.answerWith(leads(451, other.URL+"/Microsoft-Server-ActiveSync"))
	phone := w.phone(&c, false)
	asked := func(k call, sees string, upstream, second int) {
		t.Helper()
		got := w.do(phone, k)
		if n, m := len(w.takeSeen()), len(other.got()); phoneSees(got) != sees || n != upstream || m != second {
			t.Errorf("the phone sees %s, upstream asked %d times, the other server %d times; want %s, %d, %d", phoneSees(got), n, m, sees, upstream, second)
		}
	}
	k := command("FolderSync", alice, aliceEAS)
	asked(k, mail, 1, 1)
	asked(k, mail, 0, 1)

	w.answerWith(exchange)
	if got := w.do(w.phone(&his, false), command("FolderSync", bob, "BOBSPHONE")); phoneSees(got) != mail || len(w.takeSeen()) != 1 {
		t.Errorf("another user sees %s", phoneSees(got))
	}
	w.pass(61 * time.Minute)
	asked(k, mail, 1, 0)

	// Back and forth: it ends, and nothing is remembered of it.
	w.answerWith(leads(451, other.URL+"/Microsoft-Server-ActiveSync"))
	other.mu.Lock()
	other.answer = leads(451, w.upstreamURL+"/Microsoft-Server-ActiveSync")
	other.mu.Unlock()
	asked(k, later, 1, 1)
	other.mu.Lock()
	other.answer = exchange
	other.mu.Unlock()

	// The mailbox's server goes down: one fault, then the upstream is asked again.
	asked(k, mail, 1, 1)
	other.Close()
	w.answerWith(exchange)
	asked(k, later, 0, 0)
	asked(k, mail, 1, 0)
}

// TestChains: a mailbox may be behind a second site, Exchange Online and one of its regions; a command goes to each server once, whatever they say.
func TestChains(t *testing.T) {
	const path = "/Microsoft-Server-ActiveSync"
	for _, tt := range []struct {
		name    string
		servers int // besides the upstream, each of which leads to the next
		back    int // the last leads to this one of them again; 0: to the upstream; -1: it has the mailbox
		phone   string
	}{
		{"three answers of 451", 3, -1, mail},
		{"five", 5, -1, mail},
		{"six", 6, -1, later},
		{"round to the upstream", 3, 0, later},
		{"round among them", 3, 2, later},
		{"to itself", 2, 2, later},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var chain []*elsewhere
			var hosts []string
			for range tt.servers {
				chain = append(chain, newElsewhere(t))
				hosts = append(hosts, chain[len(chain)-1].host())
			}
			w := newWorld(t, options{config: func(c *edge.Config) { c.UpstreamHosts = hosts }})
			_, c := w.managed(alice, "")
			w.answerWith(leads(451, chain[0].URL+path))
			for i, s := range chain[1:] {
				chain[i].leads(451, s.URL+path)
			}
			last := chain[len(chain)-1]
			switch tt.back {
			case -1:
			case 0:
				last.leads(451, w.upstreamURL+path)
			default:
				last.leads(451, chain[tt.back-1].URL+path)
			}
			k := command("FolderSync", alice, aliceEAS)
			k.body = "body"
			got := w.do(w.phone(&c, false), k)
			if phoneSees(got) != tt.phone {
				t.Errorf("the phone sees %s", phoneSees(got))
			}
			for i, s := range chain {
				want := []string{path + "?" + k.query + " body"}
				if i == 5 {
					want = nil
				}
				if seen := s.got(); !slices.Equal(seen, want) {
					t.Errorf("server %d got %q", i+1, seen)
				}
			}
			if seen := w.takeSeen(); len(seen) != 1 {
				t.Errorf("the upstream was asked %d times", len(seen))
			}
			if got = w.do(w.phone(nil, false), call{method: "GET", auth: "Bearer"}); tt.phone == mail && phoneSees(got) != signIn || tt.phone == later && phoneSees(got) != later {
				t.Errorf("asked how to sign in: the phone sees %s", phoneSees(got))
			}
			for i, s := range chain {
				if seen := s.got(); len(seen) > 1 {
					t.Errorf("server %d was asked %d times how to sign in", i+1, len(seen))
				}
			}
		})
	}
}

// TestCookiesAreTheGates: a phone keeps the cookies of whatever server answers, and sends them back: with its own idea of domains and paths.
func TestCookiesAreTheGates(t *testing.T) {
	const below = "/exchange/Microsoft-Server-ActiveSync"
	sets := func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Add("Set-Cookie", "plain=1; Path=/; Secure;HttpOnly")
		rw.Header().Add("Set-Cookie", "named=2; Domain="+hostOf(r)+"; Path=/exchange; Secure")
		exchange(rw, r)
	}
	other := newElsewhere(t)
	other.answer = sets
	for _, to := range []string{"", below, "/Microsoft-Server-ActiveSync"} {
		w := newWorld(t, options{config: func(c *edge.Config) { c.Upstream.Path, c.UpstreamHosts = "/exchange/", []string{other.host()} }})
		_, c := w.managed(alice, "")
		w.answerWith(sets)
		if to != "" {
			w.answerWith(leads(451, other.URL+to))
		}
		phone := w.phone(&c, false)
		jar, err := cookiejar.New(nil)
		must(t, err)
		phone.Jar = jar
		for range 2 {
			got := w.do(phone, command("FolderSync", alice, aliceEAS))
			if phoneSees(got) != mail || got.header["Set-Cookie"][0] != "plain=1; Path=/; Secure;HttpOnly" {
				t.Fatalf("the phone sees %s, %v", phoneSees(got), got.header)
			}
		}
		u := &url.URL{Scheme: "https", Host: gateHost, Path: "/Microsoft-Server-ActiveSync"}
		var names []string
		for _, c := range jar.Cookies(u) {
			names = append(names, c.Name+"="+c.Value)
		}
		slices.Sort(names)
		// A server that is asked without the path has it, if at all, for something else.
		want := []string{"a=1", "b=2", "named=2", "plain=1"}
		if to == "/Microsoft-Server-ActiveSync" {
			want = []string{"a=1", "b=2", "plain=1"}
		}
		if !slices.Equal(names, want) {
			t.Errorf("sent on to %q: the phone would send %q", to, names)
		}
	}
}

func hostOf(r *http.Request) string {
	host, _, _ := net.SplitHostPort(r.Host)
	return host
}

// TestLongBodyIsNotSentOn: what is too large to keep is asked for again, and goes to the right server then.
func TestLongBodyIsNotSentOn(t *testing.T) {
	other := newElsewhere(t)
	w := newWorld(t, options{config: func(c *edge.Config) { c.UpstreamHosts = []string{other.host()} }})
	_, c := w.managed(alice, "")
	w.answerWith(leads(451, other.URL+"/Microsoft-Server-ActiveSync"))
	k := command("SendMail", alice, aliceEAS)
	k.body = strings.Repeat("mail", 100_000)
	got := w.do(w.phone(&c, false), k)
	if phoneSees(got) != later || got.header.Get("Retry-After") != "1" {
		t.Errorf("the phone sees %s, %v", phoneSees(got), got.header)
	}
	if d, codes := w.reasons(got.reference); d.Action != trust.Fault || !slices.Contains(codes, "upstream_moved") {
		t.Errorf("%s %q", d.Action, codes)
	}
	if got = w.do(w.phone(&c, false), k); phoneSees(got) != mail {
		t.Errorf("again: the phone sees %s", phoneSees(got))
	}
	if seen := other.got(); len(seen) != 1 || !strings.HasSuffix(seen[0], " "+k.body) {
		t.Errorf("the other server got %d commands", len(seen))
	}
}

// TestDiscoveryIsSentOn: how to sign in is learnt where the upstream sends the question.
func TestDiscoveryIsSentOn(t *testing.T) {
	other := newElsewhere(t)
	w := newWorld(t, options{config: func(c *edge.Config) { c.UpstreamHosts = []string{other.host()} }})
	w.answerWith(leads(302, other.URL+"/Microsoft-Server-ActiveSync"))
	got := w.do(w.phone(nil, false), call{method: "GET", auth: "Bearer"})
	if phoneSees(got) != signIn || !strings.Contains(got.header.Get("WWW-Authenticate"), "authorization_uri") || got.header.Get("Location") != "" {
		t.Errorf("the phone sees %s, %v", phoneSees(got), got.header)
	}
}

// TestUpstreamHosts: what no phone's mail may ever be sent to is no configuration.
func TestUpstreamHosts(t *testing.T) {
	for host, ok := range map[string]bool{
		"outlook.office365.com": true, "mail.contoso.com:8443": true, "*.prod.outlook.com": true, "127.0.0.1:444": true,
		"outlook-cba.office365.com": false, "outlook-cba.office365.us": false, "*": false, "*.com": false, "https://mail.contoso.com": false, "Mail.Contoso.com": false, "": false,
	} {
		if err := edge.CheckUpstreamHost(host); (err == nil) != ok {
			t.Errorf("%q: %v", host, err)
		}
	}
	if u, err := url.Parse("https://outlook-cba.office365.com"); err != nil || edge.CheckUpstream(u) == nil {
		t.Error("the address for certificates is accepted as upstream")
	}
}
