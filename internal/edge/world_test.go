package edge_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/edge"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/trust"
)

const (
	gateHost = "mail.contoso.com"
	alice    = "alice@contoso.com"
	bob      = "bob@contoso.com"
	iphone   = "Apple-iPhone15C4/2201.539000006"
)

var (
	root = trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}
	scep = trust.Principal{Kind: "scep", Name: "contoso"}
)

// clock is the time of the machine, moved.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// authority is a CA made for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// world is a gateway with everything real around it but the Exchange, which is a handler.
type world struct {
	t       *testing.T
	clock   *clock
	reg     *registry.Registry
	index   *registry.Index
	journal registry.Journal
	active  *policy.Active
	ca      authority
	issuer  string
	roots   *x509.CertPool
	server  *x509.Certificate // of the edge
	addr    string
	edge    *edge.Edge

	upstreamURL string
	stop        func() error

	mu       sync.Mutex
	upstream http.HandlerFunc
	seen     []seen
}

// seen is a request as the upstream got it.
type seen struct {
	method, uri, host string
	header            http.Header
	body              string
}

type options struct {
	upstream   string
	staleLimit time.Duration
	drain      time.Duration
	tenant     *string // of the host; contoso
	config     func(*edge.Config)
}

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w := &world{t: t, clock: &clock{}, upstream: exchange, issuer: "contoso"}
	ctx, cancel := context.WithCancel(context.Background())
	store := registrytest.Store(t)
	w.reg = registry.New(store, w.clock.now, log)
	w.ca = newAuthority(t, "Contoso Issuing CA")
	must(t, w.reg.PutCA(ctx, root, registry.CA{Issuer: "contoso", ID: "issuing", Domains: []string{"contoso.com"}, DER: w.ca.cert.Raw}))
	var err error
	w.index, err = registry.NewIndex(ctx, store, w.clock.now, log)
	must(t, err)
	var background sync.WaitGroup
	background.Go(func() { _ = w.index.Run(ctx) })
	w.journal = registrytest.Journal(t)
	engine, err := policy.Load(ctx, policy.Options{Timeout: 5 * time.Second})
	must(t, err)
	w.active = policy.NewActive(engine)

	exchange := httptest.NewUnstartedServer(http.HandlerFunc(w.serveUpstream))
	exchange.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	exchange.StartTLS()
	t.Cleanup(exchange.Close)
	if o.upstream == "" {
		o.upstream = exchange.URL
	}
	w.upstreamURL = o.upstream
	target, err := url.Parse(o.upstream)
	must(t, err)
	upstreamRoots := x509.NewCertPool()
	upstreamRoots.AddCert(exchange.Certificate())

	server := newAuthority(t, gateHost)
	w.roots = x509.NewCertPool()
	w.roots.AddCert(server.cert)
	w.server = server.cert
	tenant := "contoso"
	if o.tenant != nil {
		tenant = *o.tenant
	}
	cfg := edge.Config{Hosts: map[string]string{gateHost: tenant}, Upstream: target, UpstreamRoots: upstreamRoots,
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{server.cert.Raw}, PrivateKey: server.key}, nil
		},
		Index: w.index, Registry: w.reg, Journal: w.journal, Policy: w.active, Now: w.clock.now, Log: log, StaleLimit: o.staleLimit, Drain: o.drain}
	if o.config != nil {
		o.config(&cfg)
	}
	e, err := edge.New(cfg)
	must(t, err)
	w.edge = e
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.addr = ln.Addr().String()
	edgeCtx, stopEdge := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(edgeCtx, ln) }()
	w.stop = sync.OnceValue(func() error { stopEdge(); return <-done })
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		cancel()
		background.Wait()
	})
	return w
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		_, _ = os.Stderr.Write(p)
	}
	return len(p), nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serveUpstream records a request and has the handler of the moment answer it.
func (w *world) serveUpstream(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.seen = append(w.seen, seen{r.Method, r.RequestURI, r.Host, r.Header.Clone(), string(body)})
	h := w.upstream
	w.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	h(rw, r)
}

func (w *world) answerWith(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.upstream = h
}

// takeSeen returns what the upstream got since the last call.
func (w *world) takeSeen() []seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.seen
	w.seen = nil
	return out
}

const bearerChallenge = `Bearer client_id="00000002-0000-0ff1-ce00-000000000000", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="invalid_token"`

// exchange answers like Exchange Online: to no Authorization with a redirect, to an empty Bearer with the challenge.
func exchange(w http.ResponseWriter, r *http.Request) {
	switch auth := r.Header.Get("Authorization"); {
	case auth == "":
		w.Header().Set("X-MS-Location", "https://outlook-cba.office365.com/Microsoft-Server-ActiveSync")
		w.WriteHeader(http.StatusUnavailableForLegalReasons)
	case auth == "Bearer":
		w.Header().Set("WWW-Authenticate", bearerChallenge)
		w.Header().Set("X-MS-Diagnostics", "4000000;reason=\"test\"")
		w.Header().Set("Set-Cookie", "secret=1")
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodOptions:
		w.Header().Set("MS-ASProtocolVersions", "16.1")
		w.Header().Set("MS-ASProtocolCommands", "Sync,FolderSync,Ping")
	default:
		w.Header().Set("Content-Type", "application/vnd.ms-sync.wbxml")
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		_, _ = w.Write([]byte("\x03\x01\x6a\x00answer"))
	}
}

func newAuthority(t testing.TB, name string) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(20 * 365 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return authority{cert, key}
}

// leaf describes a client certificate to be made; zero fields are those of a good one.
type leaf struct {
	notBefore, notAfter time.Time
	usage               x509.ExtKeyUsage
}

func (a authority) issue(t testing.TB, owner string, l leaf) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	if l.notBefore.IsZero() {
		l.notBefore = time.Now().Add(-time.Hour)
	}
	if l.notAfter.IsZero() {
		l.notAfter = time.Now().Add(365 * 24 * time.Hour)
	}
	if l.usage == 0 {
		l.usage = x509.ExtKeyUsageClientAuth
	}
	var serial [16]byte
	_, _ = rand.Read(serial[:])
	serial[0] = serial[0]&0x7f | 1
	template := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial[:]), Subject: pkix.Name{CommonName: owner}, EmailAddresses: []string{owner},
		NotBefore: l.notBefore, NotAfter: l.notAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{l.usage}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}
}

func serialOf(c tls.Certificate) trust.Serial { return trust.SerialOf(c.Leaf.SerialNumber) }

// addDevice adds a managed device.
func (w *world) addDevice(owner trust.Owner, easID string) trust.Device {
	w.t.Helper()
	d, err := w.reg.AddDevice(context.Background(), root, registry.NewDevice{Owner: owner,
		Device: trust.Device{Issuer: w.issuer, SerialNumber: trust.NewID("sn"), Model: "iPhone15,4", OS: "ios", EASDeviceID: easID, Managed: true, Source: "admin"}})
	must(w.t, err)
	w.sync()
	return d
}

// enrol gives a device a certificate, renewing the one given, if any.
func (w *world) enrol(d trust.Device, l leaf, renews *tls.Certificate) tls.Certificate {
	w.t.Helper()
	ctx := context.Background()
	cert := w.ca.issue(w.t, d.Owner, l)
	sum := sha256.Sum256(cert.Leaf.Raw)
	c := trust.Certificate{Issuer: w.issuer, CA: "issuing", Serial: serialOf(cert), Device: d.ID, Owner: d.Owner, NotBefore: cert.Leaf.NotBefore, NotAfter: cert.Leaf.NotAfter,
		Fingerprint: hex.EncodeToString(sum[:]), DER: cert.Leaf.Raw}
	enrolment := registry.Enrolment{Transaction: registry.Transaction{Issuer: w.issuer, ID: string(c.Serial), MessageType: "19"}}
	if renews == nil {
		secret, challenge, err := w.reg.CreateChallenge(ctx, root, d.ID, 0)
		must(w.t, err)
		enrolment.Challenge, c.Evidence = secret, trust.Evidence{Kind: "challenge", Challenge: challenge.ID}
	} else {
		c.Evidence = trust.Evidence{Kind: "renewal", Renews: serialOf(*renews)}
	}
	enrolment.Certificate = c
	_, err := w.reg.CommitEnrolment(ctx, scep, enrolment)
	must(w.t, err)
	w.sync()
	return cert
}

// sync waits until the index has what the registry has.
func (w *world) sync() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var rev registry.Revision
	must(w.t, w.reg.Store().View(ctx, func(r registry.Reader) error { rev = r.Revision(); return nil }))
	must(w.t, w.index.CatchUp(ctx, rev))
}

// pass moves the clock, and waits until the index has heard from the registry since.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.clock.advance(d)
	w.eventually(func() bool { return w.clock.now().Sub(w.index.Heard()) < 10*time.Second })
}

// managed returns a device of the owner with a certificate.
func (w *world) managed(owner, easID string) (trust.Device, tls.Certificate) {
	w.t.Helper()
	d := w.addDevice(trust.Owner{Mail: owner}, easID)
	return d, w.enrol(d, leaf{}, nil)
}

// reasons returns what the journal has under a reference.
func (w *world) reasons(ref string) (d trust.Decision, codes []string) {
	w.t.Helper()
	d, err := w.journal.Decision(context.Background(), ref)
	if err != nil {
		w.t.Fatalf("reference %q: %v", ref, err)
	}
	for _, r := range d.Reasons {
		codes = append(codes, r.Code)
	}
	return d, codes
}

var discard = slog.New(slog.DiscardHandler)
