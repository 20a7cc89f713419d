package edge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/internal/trust"
)

// Limits of following an upstream.
const (
	maxHops       = 5         // servers that one command is sent on to; a site, a second site, Exchange Online and one of its regions are four
	maxRoutes     = 10_000    // users whose server is remembered
	routeLifetime = time.Hour // how long; after it the configured upstream is asked again
	maxKept       = smallBody // bytes of a body that are kept so that it can be sent on
)

// routes knows the servers that an upstream may send a command on to, and remembers whose mailbox is on which: Exchange answers 451 with X-MS-Location where
// another server has the mailbox (MS-ASHTTP, section 3.1.5.2.2), and a phone that was told would go there for ever, past the gate.
type routes struct {
	base  *url.URL
	allow []hostRule
	now   func() time.Time

	mu   sync.RWMutex
	user map[string]route
}

type route struct {
	to    *url.URL // scheme, host and the path before pathEAS
	until time.Time
}

// hostRule is one entry of Config.UpstreamHosts.
type hostRule struct {
	name, port string
	wild       bool // any name below it
}

// certificateHost begins the names at which Exchange Online takes client certificates instead of tokens. What is sent there is not for a gate that has the
// phone's certificate and not its key.
const certificateHost = "outlook-cba."

func newRoutes(base *url.URL, hosts []string, now func() time.Time) (*routes, error) {
	r := &routes{base: base, now: now, user: map[string]route{}}
	for _, h := range hosts {
		rule, err := parseHostRule(h)
		if err != nil {
			return nil, err
		}
		r.allow = append(r.allow, rule)
	}
	return r, nil
}

// parseHostRule reads HOST, HOST:PORT, or *.DOMAIN for every host below a domain; without a port it is 443.
func parseHostRule(s string) (hostRule, error) {
	rule := hostRule{name: s, port: "443"}
	if host, port, err := net.SplitHostPort(s); err == nil {
		rule.name, rule.port = host, port
	}
	if rest, ok := strings.CutPrefix(rule.name, "*."); ok {
		rule.name, rule.wild = rest, true
	}
	switch {
	case strings.HasPrefix(rule.name, certificateHost):
		return rule, fmt.Errorf("upstream host %q: it takes client certificates, which a gate cannot pass on", s)
	case net.ParseIP(rule.name) != nil && !rule.wild:
	case !trust.Domain(rule.name) || rule.wild && !strings.Contains(rule.name, "."):
		return rule, fmt.Errorf("upstream host %q: want HOST, HOST:PORT or *.DOMAIN in lower case", s)
	}
	return rule, nil
}

// CheckUpstreamHost says what is wrong with an entry of Config.UpstreamHosts, nil for nothing.
func CheckUpstreamHost(s string) error {
	_, err := parseHostRule(s)
	return err
}

// allows reports whether a command may go to the server.
func (r *routes) allows(u *url.URL) bool {
	host, port := hostName(u.Host), u.Port()
	if port == "" {
		port = "443"
	}
	if strings.HasPrefix(host, certificateHost) {
		return false
	}
	if u.Host == r.base.Host {
		return true
	}
	for _, rule := range r.allow {
		below := rule.wild && strings.HasSuffix(host, "."+rule.name)
		if rule.port == port && (below || !rule.wild && host == rule.name) {
			return true
		}
	}
	return false
}

// next returns the server that an answer leads to, or nil where it leads nowhere that is allowed. A 303 and the like say that the command was taken.
func (r *routes) next(from *url.URL, resp *http.Response) *url.URL {
	where := ""
	switch resp.StatusCode {
	case http.StatusUnavailableForLegalReasons:
		where = resp.Header.Get("X-Ms-Location")
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		where = resp.Header.Get("Location")
	}
	u, err := from.Parse(where)
	if where == "" || err != nil || u.User != nil || u.Opaque != "" || u.Scheme != r.base.Scheme || !r.allows(u) {
		return nil
	}
	path := strings.TrimSuffix(u.Path, "/")
	if short := len(path) - len(documentEAS); short >= 0 && strings.EqualFold(path[short:], documentEAS) {
		path = path[:short] // how the phone wrote the path stays
	}
	cut := len(path) - len(pathEAS)
	if cut < 0 || !strings.EqualFold(path[cut:], pathEAS) || cut > 0 && path[:cut] != strings.TrimSuffix(r.base.Path, "/") {
		return nil
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: path[:cut]}
}

// of returns the server that was remembered for a user, or the configured one.
func (r *routes) of(user string) *url.URL {
	if len(r.allow) == 0 {
		return r.base
	}
	r.mu.RLock()
	known, ok := r.user[user]
	r.mu.RUnlock()
	if !ok || !r.now().Before(known.until) {
		return r.base
	}
	return known.to
}

// remember keeps the server of a user for a while; nil forgets it. Where there are too many, what is over goes first and then anybody's: it is only a
// short cut.
func (r *routes) remember(user string, to *url.URL) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if to == nil || to.Host == r.base.Host {
		delete(r.user, user)
		return
	}
	now := r.now()
	if _, known := r.user[user]; !known && len(r.user) >= maxRoutes {
		for u, old := range r.user {
			if !now.Before(old.until) {
				delete(r.user, u)
			}
		}
		for u := range r.user {
			if len(r.user) < maxRoutes {
				break
			}
			delete(r.user, u)
		}
	}
	r.user[user] = route{to: to, until: now.Add(routeLifetime)}
}

// redirected is an answer that leads to a server that is not allowed, or on and on.
type redirected struct {
	status int
	host   string // where to, without path and query
}

func (r *redirected) Error() string {
	return fmt.Sprintf("the upstream answered %d, to %q", r.status, r.host)
}

// errMoved is why a command is not sent on: the server is known now, and what there was of the body is gone.
var errMoved = errors.New("the mailbox is on another server, and the body cannot be sent again")

// exchange sends a command to the server of the user's mailbox and follows, inside, where that one sends it: an answer of 451 or a redirect says that the
// command was not processed. Nothing is sent again after any other answer or after an error.
func (e *Edge) exchange(c *command) (*http.Response, error) {
	routes, user := e.upstream.routes, c.request.credential.User
	defer c.drop()
	server := routes.of(user)
	out := retarget(&c.out, routes.base, server)
	var been trail
	for {
		resp, err := e.upstream.send(c, out)
		if err != nil {
			if server != routes.base {
				routes.remember(user, nil)
			}
			return nil, err
		}
		if !leadsAway(resp.StatusCode) {
			return resp, nil
		}
		to, err := e.follow(out, resp, user, &been)
		if err != nil {
			return nil, err
		}
		body, whole := c.again()
		if !whole {
			return nil, errMoved
		}
		c.limit.more()
		out = retarget(out, server, to)
		out.Body, server = body, to
	}
}

// follow returns the server that an answer sends a command of a user on to.
//
//go:noinline
func (e *Edge) follow(out *http.Request, resp *http.Response, user string, been *trail) (*url.URL, error) {
	_ = resp.Body.Close() // nothing of it is wanted
	routes := e.upstream.routes
	to := routes.next(out.URL, resp)
	if to == nil || !been.leads(out.URL, to) {
		routes.remember(user, nil)
		return nil, &redirected{status: resp.StatusCode, host: targetHost(resp.Header)}
	}
	e.cfg.Log.DebugContext(out.Context(), "edge: upstream sends a command on", "status", resp.StatusCode, "to", to.Host)
	routes.remember(user, to)
	return to, nil
}

// trail is the servers that a command was at. A server that is reached twice would send it round again.
type trail []string

// leads adds a step, and reports whether it may be taken.
func (t *trail) leads(from, to *url.URL) bool {
	*t = append(*t, authority(from))
	return len(*t) <= maxHops && !slices.Contains(*t, authority(to))
}

// authority names a server in one way: in lower case, and with its port only where that is not 443.
func authority(u *url.URL) string {
	if port := u.Port(); port != "" && port != "443" {
		return net.JoinHostPort(hostName(u.Host), port)
	}
	return hostName(u.Host)
}

// retarget returns the request as it is sent to another server.
func retarget(r *http.Request, from, to *url.URL) *http.Request {
	if from == to {
		return r
	}
	out := r.Clone(r.Context())
	out.Close = false // what is to become of a connection is said anew for each server
	out.URL.Scheme, out.URL.Host, out.Host = to.Scheme, to.Host, to.Host
	out.URL.Path = strings.TrimSuffix(to.Path, "/") + strings.TrimPrefix(out.URL.Path, strings.TrimSuffix(from.Path, "/"))
	return out
}

// kept is a request body of unknown length, or a long one, of which the beginning is kept as it is read, so that one that turns out to be short can be sent on. The
// transport reads it in its own goroutine. Bodies that are known to be short are in their command.
type kept struct {
	io.ReadCloser

	mu   sync.Mutex
	head []byte
	more bool // there is, or was, more than head
	end  bool
}

// Read implements io.Reader.
func (k *kept) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.more = k.more || len(k.head)+n > maxKept; k.more {
		k.head = nil
	} else {
		k.head = append(k.head, p[:n]...)
	}
	k.end = k.end || errors.Is(err, io.EOF)
	return n, err
}

// whole returns the body once more, if all of it was read and kept.
func (k *kept) whole() (io.ReadCloser, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return io.NopCloser(strings.NewReader(string(k.head))), k.end && !k.more
}

// drop lets go of what was kept: a Ping is held for an hour.
func (k *kept) drop() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.head, k.more = nil, true
}
