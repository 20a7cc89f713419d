package revocation_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/revocation"
	"postern/internal/trust"
)

var root = trust.Principal{Kind: "cli", Name: "test", Role: trust.Root}

// lab is a registry with an issuer in it, and its publisher.
type lab struct {
	t       testing.TB
	issuer  *ca.Issuer
	store   registry.Store
	reg     *registry.Registry
	index   *registry.Index
	journal registry.Journal
	dir     string
	skew    atomic.Int64 // of the clock, nanoseconds
	device  trust.Device
	key     *ecdsa.PrivateKey
	config  func(*revocation.Config)

	pub     *revocation.Publisher
	handler http.Handler
	stop    func()
}

func (l *lab) now() time.Time { return time.Now().Add(time.Duration(l.skew.Load())) }

// newLab makes everything but the publisher.
func newLab(t testing.TB) *lab {
	t.Helper()
	return newLabOf(t, inMemory)
}

// inMemory is an issuer that no rotation changes.
func inMemory(l *lab) *ca.Issuer { return catest.New(l.t, catest.WithClock(l.now)) }

func newLabOf(t testing.TB, issuer func(*lab) *ca.Issuer) *lab {
	t.Helper()
	l := newBareLabOf(t, issuer)
	l.journal = registrytest.Journal(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.index.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

// newBareLab makes a lab without journal, and with an index that follows nothing: both would look at the clock very often in weeks of simulated time.
func newBareLab(t testing.TB) *lab {
	t.Helper()
	return newBareLabOf(t, inMemory)
}

func newBareLabOf(t testing.TB, issuer func(*lab) *ca.Issuer) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), config: func(*revocation.Config) {}, stop: func() {}}
	l.issuer = issuer(l)
	l.open(registrytest.Store(t))
	var err error
	l.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	l.must(err)
	l.device = l.newDevice()
	return l
}

// open makes the store the one of the lab, and registers the CAs in it.
func (l *lab) open(store registry.Store) {
	l.t.Helper()
	l.store, l.reg = store, registry.New(store, l.now, slog.New(slog.DiscardHandler))
	l.register()
	var err error
	l.index, err = registry.NewIndex(l.t.Context(), store, l.now, slog.New(slog.DiscardHandler))
	l.must(err)
}

// register makes the CAs of the issuer known, as a start of the process does.
func (l *lab) register() {
	l.t.Helper()
	spec := l.issuer.Spec()
	for _, c := range l.issuer.Certificates() {
		l.must(l.reg.PutCA(l.t.Context(), trust.Principal{Kind: "system", Name: "test"},
			registry.CA{Issuer: spec.ID, ID: c.ID, Organization: spec.Organization, Domains: spec.Domains, URL: spec.URL, DER: c.Cert.Raw}))
	}
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// publisher makes a new publisher over the same data, as a start of the process does.
func (l *lab) publisher(dir string) *revocation.Publisher {
	l.t.Helper()
	cfg := revocation.Config{Issuers: []*ca.Issuer{l.issuer}, Registry: l.reg, Index: l.index, Journal: l.journal, Dir: dir, Now: l.now, Log: slog.New(slog.DiscardHandler)}
	l.config(&cfg)
	p, err := revocation.NewPublisher(cfg)
	l.must(err)
	return p
}

// start primes and runs a publisher.
func (l *lab) start() {
	l.t.Helper()
	l.pub = l.publisher(l.dir)
	l.handler = l.pub.Handler()
	l.must(l.pub.Prime(l.t.Context()))
	l.stop = l.run(l.pub)
}

// run runs a publisher until the function returned is called, or the test ends.
func (l *lab) run(p *revocation.Publisher) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			l.t.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	l.t.Cleanup(stop)
	return stop
}

// record stores a certificate that nobody has signed, valid for that long, of a device of its own: no other changes with it.
func (l *lab) record(life time.Duration) trust.Serial {
	l.t.Helper()
	raw := make([]byte, 16)
	_, _ = rand.Read(raw)
	raw[0] = raw[0]&0x3f | 0x40
	c := trust.Certificate{Issuer: "contoso", CA: ca.IssuingCA, Serial: trust.SerialOf(new(big.Int).SetBytes(raw)), NotBefore: l.now(), NotAfter: l.now().Add(life),
		Fingerprint: rand256()}
	return l.commit(l.newDevice(), c)
}

// rand256 is the fingerprint of nothing.
func rand256() string {
	raw := make([]byte, sha256.Size)
	_, _ = rand.Read(raw)
	return hex.EncodeToString(raw)
}

// leaf issues a certificate to a device of its own.
func (l *lab) leaf() *x509.Certificate {
	l.t.Helper()
	return l.leafOf(l.newDevice())
}

func (l *lab) leafOf(d trust.Device) *x509.Certificate {
	l.t.Helper()
	r := catest.Request(l.t, l.issuer, d.Owner, l.key)
	r.Device = d
	c, err := l.issuer.Issue(l.t.Context(), r)
	l.must(err)
	l.commit(d, c.Record)
	return c.Cert
}

func (l *lab) newDevice() trust.Device {
	l.t.Helper()
	d, err := l.reg.AddDevice(l.t.Context(), root, registry.NewDevice{Owner: trust.Owner{Mail: "alice@contoso.com"},
		Device: trust.Device{Issuer: "contoso", SerialNumber: rand.Text(), Model: "iPhone15,4", Source: "admin"}})
	l.must(err)
	return d
}

// commit makes a certificate of the device known. It supersedes the ones before it that are good.
func (l *lab) commit(d trust.Device, c trust.Certificate) trust.Serial {
	l.t.Helper()
	secret, _, err := l.reg.CreateChallenge(l.t.Context(), root, d.ID, 0)
	l.must(err)
	c.Device, c.Owner, c.Evidence = d.ID, d.Owner, trust.Evidence{Kind: "challenge"}
	c, err = l.reg.CommitEnrolment(l.t.Context(), trust.Principal{Kind: "scep", Name: "test"}, registry.Enrolment{
		Transaction: registry.Transaction{Issuer: c.Issuer, ID: string(c.Serial), Signer: sha256.Sum256([]byte(c.Serial))}, Certificate: c, Challenge: secret})
	l.must(err)
	return c.Serial
}

func (l *lab) revoke(s trust.Serial) {
	l.t.Helper()
	rev, err := l.reg.Revoke(l.t.Context(), root, "contoso", s, trust.KeyCompromise, "lost")
	l.settle(rev, err)
}

func (l *lab) hold(s trust.Serial) {
	l.t.Helper()
	rev, err := l.reg.Hold(l.t.Context(), root, "contoso", s, "")
	l.settle(rev, err)
}

func (l *lab) release(s trust.Serial) {
	l.t.Helper()
	rev, err := l.reg.Release(l.t.Context(), root, "contoso", s, "")
	l.settle(rev, err)
}

func (l *lab) settle(rev registry.Revision, err error) {
	l.t.Helper()
	l.must(err)
	l.must(l.index.CatchUp(l.t.Context(), rev))
}

// status returns what the publisher says of the issuing CA.
func (l *lab) status() revocation.CAStatus { return statusOf(l.pub, ca.IssuingCA) }

func statusOf(p *revocation.Publisher, id string) revocation.CAStatus {
	for _, s := range p.Status() {
		if s.CA == id {
			return s
		}
	}
	return revocation.CAStatus{}
}

// eventually waits until ok, for at most ten seconds.
func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("%s: still not; status %+v", what, l.status())
		}
	}
}

// published waits until the issuing CA's CRLs cover everything that is in the registry now.
func (l *lab) published() {
	l.t.Helper()
	want := l.revision()
	l.eventually("publication", func() bool {
		all, _, err := l.reg.RevokedSince(l.t.Context(), "contoso", ca.IssuingCA, l.status().Covers)
		l.must(err)
		return len(all) == 0 || l.status().Covers >= want
	})
}

func (l *lab) revision() (rev registry.Revision) {
	l.must(l.store.View(l.t.Context(), func(r registry.Reader) error { rev = r.Revision(); return nil }))
	return rev
}

// get fetches a path.
func (l *lab) get(path string) *httptest.ResponseRecorder {
	l.t.Helper()
	w := httptest.NewRecorder()
	l.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// fetch gets the issuing CA's base and delta.
func (l *lab) fetch() (base, delta *x509.RevocationList) {
	l.t.Helper()
	return l.crl("/contoso/issuing.crl"), l.crl("/contoso/issuing-delta.crl")
}

func (l *lab) crl(path string) *x509.RevocationList {
	l.t.Helper()
	w := l.get(path)
	if w.Code != http.StatusOK {
		l.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	c, err := x509.ParseRevocationList(w.Body.Bytes())
	l.must(err)
	return c
}

// baseNumber reads deltaCRLIndicator; 0 if there is none.
func baseNumber(t testing.TB, l *x509.RevocationList) uint64 {
	t.Helper()
	for _, e := range l.Extensions {
		if e.Id.String() == "2.5.29.27" {
			n := new(big.Int)
			if _, err := asn1.Unmarshal(e.Value, &n); err != nil || !e.Critical {
				t.Fatalf("deltaCRLIndicator: %v, critical %t", err, e.Critical)
			}
			return n.Uint64()
		}
	}
	return 0
}

// combine applies a delta to a base by the rules of RFC 5280, section 5.2.4, and returns the reason of each serial number.
func combine(t testing.TB, base, delta *x509.RevocationList) map[trust.Serial]int {
	t.Helper()
	if b := baseNumber(t, delta); b == 0 || base.Number.Uint64() < b || base.Number.Cmp(delta.Number) >= 0 {
		t.Fatalf("base %d cannot be combined with delta %d of base %d", base.Number, delta.Number, b)
	}
	out := map[trust.Serial]int{}
	for _, e := range base.RevokedCertificateEntries {
		out[trust.SerialOf(e.SerialNumber)] = e.ReasonCode
	}
	for _, e := range delta.RevokedCertificateEntries {
		if e.ReasonCode == 8 {
			delete(out, trust.SerialOf(e.SerialNumber))
			continue
		}
		out[trust.SerialOf(e.SerialNumber)] = e.ReasonCode
	}
	return out
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func decode[T any](t testing.TB, raw []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func extensionIDs(l *x509.RevocationList) (out []string) {
	for _, e := range l.Extensions {
		out = append(out, e.Id.String())
	}
	return out
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(pattern)
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %v, %v", pattern, all, err)
	}
	return all
}

func remove(t *testing.T, pattern string) {
	t.Helper()
	for _, f := range glob(t, pattern) {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}
