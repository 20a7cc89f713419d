package registry_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/trust"
)

// Who asks in the tests.
var (
	root      = trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}
	officer   = trust.Principal{Kind: "token", Name: "officer", Role: trust.PKIOfficer}
	desk      = trust.Principal{Kind: "token", Name: "desk", Role: trust.HelpDesk}
	author    = trust.Principal{Kind: "token", Name: "author", Role: trust.PolicyAuthor}
	auditor   = trust.Principal{Kind: "token", Name: "auditor", Role: trust.Auditor}
	scepDoor  = trust.Principal{Kind: "scep", Name: "contoso"}
	edgeDoor  = trust.Principal{Kind: "edge", Name: "edge"}
	publisher = trust.Principal{Kind: "publisher", Name: "publisher"}
	system    = trust.Principal{Kind: "system", Name: "serve"}
	nobody    = trust.Principal{}
)

// world is a registry with two issuers, contoso and fabrikam, and a clock of its own.
type world struct {
	*testing.T
	reg   *registry.Registry
	store registry.Store
	last  atomic.Uint64 // counts what must be unique
	ca    ed25519.PrivateKey

	mu sync.Mutex
	at time.Time
}

func newWorld(t *testing.T) *world { return newWorldOn(t, registrytest.Store(t)) }

func newWorldOn(t *testing.T, store registry.Store) *world {
	t.Helper()
	w := &world{T: t, store: store, ca: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.reg = registry.New(store, w.now, slog.New(slog.DiscardHandler))
	for _, issuer := range []string{"contoso", "fabrikam"} {
		for _, id := range []string{"root", "issuing"} {
			w.must(w.reg.PutCA(t.Context(), system, registry.CA{Issuer: issuer, ID: id, Organization: issuer, Domains: []string{issuer + ".com"},
				URL: "http://127.0.0.1", DER: []byte(issuer + id)}))
		}
	}
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// want fails the test unless err wraps the error.
func (w *world) want(err, kind error) {
	w.Helper()
	if !errors.Is(err, kind) {
		w.Fatalf("got %v, want %v", err, kind)
	}
}

func (w *world) add(issuer, hardware, owner string) (trust.Device, error) {
	return w.reg.AddDevice(w.Context(), officer, registry.NewDevice{Device: trust.Device{Issuer: issuer, SerialNumber: hardware, Managed: true, Source: "admin"},
		Owner: trust.Owner{Mail: owner}})
}

// device adds a device with fresh hardware.
func (w *world) device(owner string) trust.Device {
	w.Helper()
	_, domain, _ := strings.Cut(owner, "@")
	d, err := w.add(strings.TrimSuffix(domain, ".com"), fmt.Sprintf("HW%d", w.last.Add(1)), owner)
	w.must(err)
	return d
}

// owner adds an owner nobody else has.
func (w *world) owner() string {
	w.Helper()
	mail := fmt.Sprintf("owner%d@contoso.com", w.last.Add(1))
	w.must(w.reg.PutOwner(w.Context(), officer, trust.Owner{Mail: mail}))
	return mail
}

func (w *world) challenge(id trust.DeviceID) string {
	w.Helper()
	secret, _, err := w.reg.CreateChallenge(w.Context(), officer, id, 0)
	w.must(err)
	return secret
}

// signed is an enrolment of the device as a CA would have signed it, for a new key.
func (w *world) signed(d trust.Device, evidence trust.Evidence) registry.Enrolment {
	w.Helper()
	key, _, err := ed25519.GenerateKey(nil)
	w.must(err)
	return w.signedFor(key, d, evidence)
}

// signedFor is an enrolment of the device for a key.
func (w *world) signedFor(key ed25519.PublicKey, d trust.Device, evidence trust.Evidence) registry.Enrolment {
	w.Helper()
	n := w.last.Add(1)
	der, err := x509.CreateCertificate(nil, &x509.Certificate{SerialNumber: new(big.Int).SetUint64(n)}, &x509.Certificate{}, key, w.ca)
	w.must(err)
	return registry.Enrolment{
		Transaction: registry.Transaction{Issuer: d.Issuer, ID: fmt.Sprint("tx", n), MessageType: "PKCSReq"},
		Certificate: trust.Certificate{Issuer: d.Issuer, CA: "issuing", Serial: trust.Serial(fmt.Sprintf("%08x", n)), Device: d.ID, Owner: d.Owner,
			NotBefore: w.now().Add(-time.Minute), NotAfter: w.now().Add(365 * 24 * time.Hour), Fingerprint: fmt.Sprintf("%064x", n), Evidence: evidence, Status: trust.Good,
			DER: der},
	}
}

// first is a first enrolment of the device with the challenge.
func (w *world) first(d trust.Device, secret string) registry.Enrolment {
	e := w.signed(d, trust.Evidence{Kind: "challenge"})
	e.Challenge, e.Transaction.Challenge = secret, secret
	return e
}

func (w *world) commit(e registry.Enrolment) (trust.Certificate, error) {
	return w.reg.CommitEnrolment(w.Context(), scepDoor, e)
}

// enrol gives the device a certificate, with a challenge.
func (w *world) enrol(d trust.Device) trust.Certificate {
	w.Helper()
	c, err := w.commit(w.first(d, w.challenge(d.ID)))
	w.must(err)
	return c
}

func (w *world) renew(d trust.Device, old trust.Serial) (trust.Certificate, error) {
	return w.commit(w.signed(d, trust.Evidence{Kind: "renewal", Renews: old}))
}

// status is what the registry says of a certificate now.
func (w *world) status(c trust.Certificate) trust.CertStatus {
	w.Helper()
	return w.cert(c).Status
}

func (w *world) cert(c trust.Certificate) trust.Certificate {
	w.Helper()
	c, err := w.reg.Certificate(w.Context(), c.Issuer, c.Serial)
	w.must(err)
	return c
}

func (w *world) certificates(id trust.DeviceID) []trust.Certificate {
	w.Helper()
	all, err := w.reg.Certificates(w.Context(), registry.CertificateFilter{Device: id})
	w.must(err)
	return all
}

// newest is the newest audit entry that the filter selects.
func (w *world) newest(f registry.AuditFilter) registry.AuditEntry {
	w.Helper()
	f.Limit = 1
	all, err := w.reg.Audit(w.Context(), f)
	w.must(err)
	if len(all) == 0 {
		w.Fatalf("no audit entry for %+v", f)
	}
	return all[0]
}

func (w *world) audits() int {
	w.Helper()
	all, err := w.reg.Audit(w.Context(), registry.AuditFilter{Limit: registry.MaxLimit})
	w.must(err)
	return len(all)
}
