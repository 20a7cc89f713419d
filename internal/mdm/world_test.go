package mdm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/trust"
)

const (
	tenant   = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	clientID = "11111111-2222-3333-4444-555555555555"
	deviceID = "0f8fad5b-d9cb-469f-a165-70867728950e"
)

// world is a registry with two issuers, a log to look for secrets in, and a clock that only moves when told.
type world struct {
	*testing.T
	reg *registry.Registry
	log *slog.Logger

	mu     sync.Mutex
	at     time.Time
	logged bytes.Buffer
	serial int64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.log = slog.New(slog.NewTextHandler(w, nil))
	w.reg = registry.New(registrytest.Store(t), w.now, slog.New(slog.DiscardHandler))
	for _, issuer := range []string{"contoso", "fabrikam"} {
		w.must(w.reg.PutCA(t.Context(), trust.Principal{Kind: "system", Name: "test"}, registry.CA{Issuer: issuer, ID: "issuing", Organization: issuer,
			Domains: []string{issuer + ".com"}, URL: "http://127.0.0.1", DER: []byte(issuer)}))
	}
	return w
}

// Write takes what is logged.
func (w *world) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logged.Write(b)
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

// principal is an MDM that an administrator has given an access token with the rights that its work needs.
func principal(name string) trust.Principal {
	return trust.Principal{Kind: "token", Name: name, Role: trust.PKIOfficer}
}

func (w *world) device(issuer, hardware, udid string) trust.Device {
	w.Helper()
	d, err := w.reg.AddDevice(w.Context(), trust.Principal{Kind: "token", Name: "officer", Role: trust.PKIOfficer}, registry.NewDevice{
		Device: trust.Device{Issuer: issuer, SerialNumber: hardware, UDID: udid, Managed: true, Source: "test"}, Owner: trust.Owner{Mail: "alice@" + issuer + ".com"}})
	w.must(err)
	return d
}

// certificate enrols a fresh device, with a real certificate.
func (w *world) certificate(issuer string) trust.Certificate {
	w.Helper()
	w.serial++
	d := w.device(issuer, fmt.Sprintf("HW%d", w.serial), "")
	secret, _, err := w.reg.CreateChallenge(w.Context(), principal("test"), d.ID, 0)
	w.must(err)
	serial := new(big.Int).Lsh(big.NewInt(w.serial), 64)
	der := sign(w.T, serial, "Contoso Issuing CA", w.at.Add(1000*time.Hour+123456789))
	c, err := w.reg.CommitEnrolment(w.Context(), trust.Principal{Kind: "scep", Name: issuer}, registry.Enrolment{
		Transaction: registry.Transaction{Issuer: issuer, ID: "tx" + d.SerialNumber, MessageType: "PKCSReq", Challenge: secret}, Challenge: secret,
		Certificate: trust.Certificate{Issuer: issuer, CA: "issuing", Serial: trust.SerialOf(serial), Device: d.ID, Owner: d.Owner, NotBefore: w.at,
			NotAfter: w.at.Add(1000 * time.Hour), Evidence: trust.Evidence{Kind: "challenge"}, Status: trust.Good, DER: der}})
	w.must(err)
	return c
}

// sign makes a self-signed certificate.
func sign(t testing.TB, serial *big.Int, name string, notAfter time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: notAfter.Add(-2000 * time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// request makes a CSR with a subject and the GeneralNames, which general and upn make.
func request(t testing.TB, subject pkix.Name, names ...asn1.RawValue) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: subject}
	if len(names) > 0 {
		value, err := asn1.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{{Id: oidSubjectAltName, Value: value}}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// general is a GeneralName that is a string: tag 1 an address, 2 a host, 6 a URI.
func general(tag int, s string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(s)}
}

func mail(s string) asn1.RawValue { return general(1, s) }

func uri(s string) asn1.RawValue { return general(6, s) }

// upn is an otherName with a user principal name.
func upn(t testing.TB, s string) asn1.RawValue {
	t.Helper()
	id, err := asn1.Marshal(oidUPN)
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.MarshalWithParams(s, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	explicit, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: value})
	if err != nil {
		t.Fatal(err)
	}
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(id, explicit...)}
}

func attribute(id asn1.ObjectIdentifier, value string) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: id, Value: value}
}

// submission is a genuine one: a user's address and the Entra device id.
func submission(t testing.TB) trust.Submission {
	t.Helper()
	return trust.Submission{Issuer: "contoso", TransactionID: "A<1>&", CSR: request(t, pkix.Name{CommonName: deviceID}, mail("Alice@contoso.com"), upn(t, "alice.a@contoso.com")),
		Challenge: "very secret challenge", Remote: "192.0.2.1"}
}

// reply is what a service answers once.
type reply struct {
	status int
	header http.Header
	body   string
	wait   bool // until the client has gone
}

func ok(body string) reply { return reply{status: http.StatusOK, body: body} }

// seen is a request that a service got.
type seen struct {
	method, path string
	header       http.Header
	body         string
}

// stage is a service on this machine that plays what is in its script, path by path; the last reply of a path is repeated.
type stage struct {
	*testing.T
	URL string

	mu     sync.Mutex
	script map[string][]reply
	got    []seen
}

func newStage(t *testing.T) *stage {
	s := &stage{T: t, script: map[string][]reply{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

func (s *stage) plays(path string, r ...reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script[path] = r
}

func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.got = append(s.got, seen{r.Method, r.URL.RequestURI(), r.Header, string(body)})
	list := s.script[r.URL.Path]
	if len(list) > 1 {
		s.script[r.URL.Path] = list[1:]
	}
	s.mu.Unlock()
	if len(list) == 0 {
		s.Errorf("unexpected %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusTeapot)
		return
	}
	if list[0].wait {
		<-r.Context().Done()
		return
	}
	for k, v := range list[0].header {
		w.Header()[k] = v
	}
	w.WriteHeader(list[0].status)
	_, _ = io.WriteString(w, list[0].body)
}

// taken returns the requests of a path.
func (s *stage) taken(path string) (out []seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.got {
		if p, _, _ := strings.Cut(g.path, "?"); p == path {
			out = append(out, g)
		}
	}
	return out
}

// one returns the only request of a path.
func (s *stage) one(path string) seen {
	s.Helper()
	got := s.taken(path)
	if len(got) != 1 {
		s.Fatalf("%d requests for %s, want 1", len(got), path)
	}
	return got[0]
}

// fault fails the test unless err is neither nil nor a refusal.
func fault(t *testing.T, err error) {
	t.Helper()
	var r *Refusal
	if err == nil || errors.As(err, &r) || errors.Is(err, trust.ErrForbidden) {
		t.Fatalf("got %v, want a fault", err)
	}
}

// refused fails the test unless err is a refusal with this code.
func refused(t *testing.T, err error, code string) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || !errors.Is(err, trust.ErrForbidden) || r.Code != code {
		t.Fatalf("got %v, want the refusal %s", err, code)
	}
	return r
}

// validator is what the SCEP door asks for.
type validator interface {
	Validate(context.Context, trust.Submission) (trust.Applicant, error)
	Issued(context.Context, trust.Submission, trust.Certificate) error
	Refused(ctx context.Context, s trust.Submission, code int32, text string) error
}

var _, _ validator = (*Intune)(nil), (*Webhook)(nil)
