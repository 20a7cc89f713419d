// Package edge is the door for phones: an HTTPS gateway that lets Exchange ActiveSync through where the access policy says so.
//
// A request passes a strict front (host, framing, path, headers), is read into the facts of the policy's contract, and is decided. What is allowed is
// streamed to the upstream byte for byte; what is not is refused in the protocol's own words with a reference that the journal explains. A fault (no
// policy decision, a registry that is out of date, an upstream that does not answer) is "try again later" and never anything else.
//
// The edge holds no key but that of its TLS certificate. Certificates, devices and mail profiles come from registry.Index, so that deciding needs neither
// disk nor network; a mail profile seen for the first time is the one thing that is written before a decision.
package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"postern/internal/eas"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// The defaults of Config.
const (
	DefaultStaleLimit = 15 * time.Minute
	DefaultDrain      = 5 * time.Second
)

// Limits of the front.
const (
	maxHeader         = 64 << 10 // bytes of one request head; an access token of Entra ID has 2 to 4 KiB
	readHeaderTimeout = 20 * time.Second
	bodyTimeout       = 30 * time.Second // without a byte of a request's body
	leftoverTimeout   = 2 * time.Second  // for what is left of the body of a request that is answered without it
	handshakeTimeout  = 15 * time.Second
	idleTimeout       = 5 * time.Minute
)

// Config says what an Edge is made of. Fields without a remark are required.
type Config struct {
	// Hosts are the names that phones use, in lower case and without port, each with the issuer whose gate it is. An empty issuer leaves that to the
	// certificate, the user's mail domain or, where there is only one, to that issuer.
	Hosts map[string]string

	// Names are the hosts to which Autodiscover sends a phone, by the host that it asked; one that is not here is sent to itself.
	Names map[string]string

	// Upstream is the Exchange behind the gate: https, or http on a loopback address. A path is put before that of the request.
	Upstream      *url.URL
	UpstreamRoots *x509.CertPool // trusted for Upstream and UpstreamHosts; nil: those of the system

	// UpstreamHosts are the servers besides Upstream that it may send a command on to: HOST, HOST:PORT or *.DOMAIN. What leads elsewhere is a fault.
	UpstreamHosts []string

	// TrustedProxies are the networks of load balancers before the gate. Their X-Forwarded-For counts on connections without client certificate, and with
	// ProxyProtocol each of their connections has to begin with a header of the PROXY protocol, version 1 or 2; connections from elsewhere never do.
	TrustedProxies []netip.Prefix
	ProxyProtocol  bool

	// Certificate returns the edge's own certificate for a handshake; it may return another one as soon as the file changes.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	OAuth *OAuth // nil: no OAuth front
	EWS   bool   // Exchange Web Services pass, guarded like ActiveSync

	Index    *registry.Index
	Registry *registry.Registry // for mail profiles at first sight and the first use of certificates
	Journal  registry.Journal
	Policy   *policy.Active
	Now      func() time.Time
	Log      *slog.Logger

	StaleLimit time.Duration // how long decisions go on without word from the registry; 0: DefaultStaleLimit
	Drain      time.Duration // how long Run takes to end what is open; 0: DefaultDrain
}

// Edge is one gateway. Its methods may be called at the same time.
type Edge struct {
	cfg       Config
	principal trust.Principal
	clients   *eas.Clients
	upstream  *upstream
	proxies   proxies
	front     *front // nil: no OAuth front
	anchors   atomic.Pointer[anchors]
	flights   *flights
	observer  *observer
	reactions reactions
	challenge challengeCache
	spoken    atomic.Pointer[spoken]
	unwatch   func()
}

// New checks the configuration and follows the index from here on; Run ends that.
func New(cfg Config) (*Edge, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	clients, err := eas.NewClients()
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	if cfg.StaleLimit == 0 {
		cfg.StaleLimit = DefaultStaleLimit
	}
	if cfg.Drain == 0 {
		cfg.Drain = DefaultDrain
	}
	routes, err := newRoutes(cfg.Upstream, cfg.UpstreamHosts, cfg.Now)
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	e := &Edge{cfg: cfg, clients: clients, upstream: newUpstream(cfg.Upstream, cfg.UpstreamRoots, routes), flights: newFlights(),
		proxies: proxies{networks: cfg.TrustedProxies, protocol: cfg.ProxyProtocol}, front: newFront(cfg.OAuth)}
	for host := range cfg.Hosts {
		// The least name, so that every start has the same one.
		if e.principal.Name == "" || host < e.principal.Name {
			e.principal = trust.Principal{Kind: "edge", Name: host}
		}
	}
	e.observer = newObserver(cfg.Registry, cfg.Index, e.principal, cfg.Log)
	e.loadAnchors()
	e.unwatch = cfg.Index.Watch(e.changed)
	// What changed between reading the anchors and watching is not announced again.
	e.loadAnchors()
	e.applied(nil)
	return e, nil
}

func (c Config) check() error {
	switch {
	case len(c.Hosts) == 0:
		return errors.New("no host names")
	case c.Upstream == nil:
		return errors.New("no upstream")
	case c.Certificate == nil:
		return errors.New("no certificate")
	case c.Index == nil || c.Registry == nil || c.Journal == nil || c.Policy == nil || c.Policy.Load() == nil:
		return errors.New("registry, index, journal and policy are needed")
	case c.Now == nil || c.Log == nil:
		return errors.New("clock and log are needed")
	case c.StaleLimit < 0 || c.Drain < 0:
		return errors.New("negative time")
	}
	for asked, name := range c.Names {
		if _, ok := c.Hosts[name]; !ok {
			return fmt.Errorf("Autodiscover under %s leads to %q, which is no host name of the edge", asked, name)
		}
	}
	for host := range c.Hosts {
		if host == "" || host != hostName(host) {
			return fmt.Errorf("host name %q: want lower case, without port", host)
		}
	}
	if c.OAuth != nil {
		if err := c.OAuth.check(); err != nil {
			return err
		}
	}
	return CheckUpstream(c.Upstream)
}

// CheckUpstream says what is wrong with Config.Upstream, nil for nothing: it is https, or http where nobody but this machine can listen.
func CheckUpstream(u *url.URL) error {
	if strings.HasPrefix(hostName(u.Host), certificateHost) {
		return errors.New("upstream: it takes client certificates, which a gate cannot pass on: use outlook.office365.com")
	}
	if u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return errors.New("upstream: want scheme, host and at most a path")
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLoopback() {
			return nil
		}
		return errors.New("upstream: plain http carries passwords and mail: use https, or an address such as 127.0.0.1")
	}
	return fmt.Errorf("upstream: scheme %q: use https", u.Scheme)
}

// Handler returns the gateway as a handler. Requests have to come over TLS to it, and it relies on Run for what only the bytes on the wire tell.
func (e *Edge) Handler() http.Handler { return http.HandlerFunc(e.serve) }

// changed is told what the index has applied.
func (e *Edge) changed(changes []registry.Change) {
	defer e.applied(changes)
	all := changes == nil
	for _, c := range changes {
		if c.Kind == registry.KindCA {
			all = true
		}
	}
	if all {
		e.loadAnchors()
		e.flights.suspectAll()
		return
	}
	for _, c := range changes {
		e.flights.suspect(dependency{c.Kind, c.ID})
		if k, ok := e.cfg.Index.TicketByHash(c.ID); ok && c.Kind == registry.KindTicket {
			// What came through it is in flight under its device.
			e.flights.suspect(dependency{registry.KindDevice, string(k.Device)})
		}
		if issuer, serial, ok := strings.Cut(c.ID, "/"); ok && c.Kind == registry.KindCertificate {
			// What it has superseded stands and falls with it.
			if known, ok := e.cfg.Index.Certificate(issuer, trust.Serial(serial)); ok {
				e.flights.suspect(dependency{registry.KindDevice, string(known.Device)})
			}
		}
	}
}

// now returns the time by the edge's clock.
func (e *Edge) now() time.Time { return e.cfg.Now() }

// behind returns for how long nothing was heard from the registry.
func (e *Edge) behind(now time.Time) time.Duration { return max(0, now.Sub(e.cfg.Index.Heard())) }

// Trouble says why this edge tells every phone to come back later, in words for an operator; empty while it decides.
func (e *Edge) Trouble() string {
	if now := e.now(); e.isStale(now) {
		return "the registry has not answered for " + e.behind(now).Round(time.Second).String() + ": the edge decides nothing (edge.stale_limit)"
	}
	return ""
}

// isStale reports whether that is too long to decide.
func (e *Edge) isStale(now time.Time) bool { return e.behind(now) > e.cfg.StaleLimit }

// hostName returns the name in a Host header or authority: lower case, without port and without the dot of the root.
func hostName(authority string) string {
	host := authority
	if strings.IndexByte(authority, ':') >= 0 {
		if h, _, err := net.SplitHostPort(authority); err == nil {
			host = h
		}
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// detached is the context for what goes on after its request.
func detached(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}
