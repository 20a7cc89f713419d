package scep

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/trust"
)

var admin = trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}

// gate is the door over HTTP, with everything behind it real.
type gate struct {
	*testing.T
	door    *Door
	server  *httptest.Server
	reg     *registry.Registry
	journal registry.Journal
	issuer  *ca.Issuer
	policy  *policy.Active
	n       int // devices made

	mu   sync.Mutex
	away time.Duration // of the clock from the real one
}

var builtin = sync.OnceValues(func() (*policy.Engine, error) { return policy.Load(context.Background(), policy.Options{}) })

// material is the issuer's keys, made once.
var material = sync.OnceValues(func() (*ca.Material, error) { return ca.Generate(catest.Spec(), time.Now()) })

// newGate opens the door of issuer contoso; change may alter its configuration.
func newGate(t *testing.T, change ...func(*Config)) *gate {
	t.Helper()
	engine, err := builtin()
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{T: t, journal: registrytest.Journal(t), policy: policy.NewActive(engine)}
	keys, err := material()
	g.must(err)
	g.issuer, err = ca.New(catest.Spec(), keys, g.now, slog.New(slog.DiscardHandler))
	g.must(err)
	t.Cleanup(func() { g.must(g.issuer.Close()) })
	g.reg = registry.New(registrytest.Store(t), g.now, slog.New(slog.DiscardHandler))
	cfg := Config{Issuers: []*ca.Issuer{g.issuer}, Registry: g.reg, Policy: g.policy, Journal: g.journal, Now: g.now, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	for _, i := range cfg.Issuers {
		for _, c := range i.Certificates() {
			g.must(g.reg.PutCA(t.Context(), trust.Principal{Kind: "system", Name: "test"},
				registry.CA{Issuer: i.Spec().ID, ID: c.ID, Organization: i.Spec().Organization, Domains: i.Spec().Domains, DER: c.Cert.Raw}))
		}
	}
	g.door, err = New(cfg)
	g.must(err)
	g.server = httptest.NewServer(g.door)
	t.Cleanup(g.server.Close)
	return g
}

func (g *gate) now() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Add(g.away)
}

func (g *gate) pass(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away += d
}

func (g *gate) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// device adds a managed device of alice's.
func (g *gate) device() trust.Device { g.Helper(); return g.deviceOf("contoso", "alice@contoso.com") }

func (g *gate) deviceOf(issuer, mail string) trust.Device {
	g.Helper()
	g.n++
	d, err := g.reg.AddDevice(g.Context(), admin, registry.NewDevice{Device: trust.Device{Issuer: issuer, SerialNumber: fmt.Sprint("F2LX", g.n),
		UDID: fmt.Sprint("00008030-", g.n), Managed: true, Source: "admin"}, Owner: trust.Owner{Mail: mail}})
	g.must(err)
	return d
}

func (g *gate) challenge(d trust.Device) string {
	g.Helper()
	secret, _, err := g.reg.CreateChallenge(g.Context(), admin, d.ID, 0)
	g.must(err)
	return secret
}

// certificates are those that the registry has, of every device.
func (g *gate) certificates() []trust.Certificate {
	g.Helper()
	all, err := g.reg.Certificates(g.Context(), registry.CertificateFilter{Limit: registry.MaxLimit})
	g.must(err)
	return all
}

// record is what the registry says of a certificate.
func (g *gate) record(c *x509.Certificate) trust.Certificate {
	g.Helper()
	rec, err := g.reg.Certificate(g.Context(), "contoso", trust.SerialOf(c.SerialNumber))
	g.must(err)
	return rec
}

func (g *gate) refusals() []registry.AuditEntry {
	g.Helper()
	var out []registry.AuditEntry
	all, err := g.reg.Audit(g.Context(), registry.AuditFilter{Limit: registry.MaxLimit})
	g.must(err)
	for _, e := range all {
		if e.Outcome == registry.Refused {
			out = append(out, e)
		}
	}
	return out
}

// rsaKeys are keys for phones, made once.
var rsaKeys = sync.OnceValue(func() []crypto.Signer {
	keys := make([]crypto.Signer, 4)
	for i := range keys {
		keys[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return keys
})

// ask is one request of a phone. The zero value is a PKCSReq for rsaKeys()[0], signed by a self-signed certificate.
type ask struct {
	kind      MessageType
	key       crypto.Signer // to be certified
	signer    party
	subject   pkix.Name
	challenge string
	attrs     []csrAttribute
	id        string
	cipher    Cipher
	change    func(*message)
}

// party is who signs.
func (a ask) party() party {
	if a.signer.cert != nil {
		return a.signer
	}
	return selfSignedOnce(cmp.Or(a.key, rsaKeys()[0]))
}

var selfSignedCerts sync.Map

// selfSignedOnce gives the same self-signed certificate for the same key, so that a retry is one.
func selfSignedOnce(key crypto.Signer) party {
	p, ok := selfSignedCerts.Load(key)
	if !ok {
		p, _ = selfSignedCerts.LoadOrStore(key, selfSigned("phone", key))
	}
	return p.(party)
}

// encode makes the message. The CSR is the same for the same ask, and the envelope is not.
func (g *gate) encode(a ask) []byte {
	g.Helper()
	attrs := a.attrs
	if a.challenge != "" {
		attrs = append([]csrAttribute{challengeAttr(asn1.TagPrintableString, a.challenge)}, attrs...)
	}
	csr := csrWith(g, cmp.Or(a.key, rsaKeys()[0]), a.subject, attrs...)
	envelope, err := seal(csr, g.issuer.RACertificate(), cmp.Or(a.cipher, AES128))
	g.must(err)
	m := newMessage(cmp.Or(a.kind, PKCSReq), a.party(), envelope)
	m.id = printable(cmp.Or(a.id, "tx1"))
	if a.change != nil {
		a.change(&m)
	}
	return m.encode(g)
}

// answer is what a phone gets.
type answer struct {
	code int
	body string
	rep  certRep
	cert *x509.Certificate // nil unless the reply is a success
}

func (g *gate) url() string { return g.server.URL + "/scep/contoso?operation=PKIOperation" }

// send posts the request and reads the reply.
func (g *gate) send(a ask) answer {
	g.Helper()
	return g.post(g.encode(a), a.party())
}

func (g *gate) post(message []byte, to party) answer {
	g.Helper()
	r, err := http.Post(g.url(), "application/x-pki-message", bytes.NewReader(message))
	g.must(err)
	return g.read(r, to)
}

func (g *gate) read(r *http.Response, to party) answer {
	g.Helper()
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	g.must(err)
	out := answer{code: r.StatusCode, body: string(body)}
	if r.StatusCode != http.StatusOK {
		return out
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/x-pki-message" {
		g.Errorf("Content-Type %q", ct)
	}
	out.rep = readReplyOf(g.T, body, g.issuer.RACertificate())
	if out.rep.status == "0" {
		p7, err := pkcs7.Parse(openReply(g.T, out.rep, to))
		g.must(err)
		out.cert = p7.Certificates[0]
	}
	return out
}

// enrol gives the device a certificate for the key, and returns it as a party.
func (g *gate) enrol(d trust.Device, key crypto.Signer) party {
	g.Helper()
	a := g.send(ask{key: key, challenge: g.challenge(d), id: fmt.Sprint("enrol ", g.n, " ", d.ID)})
	if a.cert == nil {
		g.Fatalf("not enrolled: %d %s %s", a.code, a.rep.failInfo, a.rep.failText)
	}
	return party{key, a.cert}
}

// wantRefused checks that the answer is FAILURE with this failInfo, that nothing was issued, and that the audit has one refusal more.
func (g *gate) wantRefused(info FailInfo, do func() answer) registry.AuditEntry {
	g.Helper()
	certs, refusals := len(g.certificates()), len(g.refusals())
	a := do()
	if a.cert != nil || a.rep.status != "2" || a.rep.failInfo != fmt.Sprint(int(info)) {
		g.Errorf("got %d, status %q, failInfo %q, %q; want %s", a.code, a.rep.status, a.rep.failInfo, a.rep.failText, info)
	}
	if n := len(g.certificates()); n != certs {
		g.Errorf("%d certificates were issued", n-certs)
	}
	now := g.refusals()
	if len(now) != refusals+1 {
		g.Errorf("%d refusals were audited, want 1", len(now)-refusals)
		return registry.AuditEntry{}
	}
	return now[0]
}
