package lab

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

// testCA is a small SCEP server with an EC CA and an RSA RA; how it answers is up to the test.
type testCA struct {
	ca, ra *x509.Certificate
	caKey  *ecdsa.PrivateKey
	raKey  *rsa.PrivateKey

	challenge string
	caps      string
	status    string // pkiStatus of the next answers
	keepNonce bool   // echo the senderNonce instead of a fresh one
	last      *x509.CertificateRequest
	lastType  string
	signer    *x509.Certificate
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	c := &testCA{challenge: "once", caps: "POSTPKIOperation\r\nSHA-256\r\nAES\r\nSCEPStandard\r\nRenewal", status: "0"}
	var err error
	if c.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if c.raKey, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	c.ca = c.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil, &c.caKey.PublicKey)
	c.ra = c.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "RA"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}, c.ca, &c.raKey.PublicKey)
	return c
}

func (c *testCA) sign(t testing.TB, template, parent *x509.Certificate, public any) *x509.Certificate {
	t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, c.caKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (c *testCA) serve(t *testing.T) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.FormValue("operation") {
		case "GetCACaps":
			io.WriteString(w, c.caps)
		case "GetCACert":
			w.Header().Set("Content-Type", "application/x-x509-ca-ra-cert")
			w.Write(bundle(t, c.ra, c.ca))
		case "PKIOperation":
			body, err := io.ReadAll(r.Body)
			if r.Method == http.MethodGet {
				body, err = base64.StdEncoding.DecodeString(r.FormValue("message"))
			}
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "application/x-pki-message")
			w.Write(c.answer(t, body))
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/scep/contoso"
}

func bundle(t testing.TB, certs ...*x509.Certificate) []byte {
	t.Helper()
	sd, err := pkcs7.NewSignedData(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, cert := range certs {
		sd.AddCertificate(cert)
	}
	sd.Detach()
	der, err := sd.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (c *testCA) answer(t testing.TB, der []byte) []byte {
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := p7.Verify(); err != nil {
		t.Fatal(err)
	}
	c.signer = p7.GetOnlySigner()
	a := attributes{p7: p7}
	id, nonce := a.text(oidTransactionID), a.bytes(oidSenderNonce)
	c.lastType = a.text(oidMessageType)
	if a.err != nil || len(nonce) != 16 || len(id) != 32 {
		t.Fatalf("attributes: %v", a.err)
	}
	c.readCSR(t, p7.Content)
	var content []byte
	fresh := make([]byte, 16)
	rand.Read(fresh)
	if c.keepNonce {
		fresh = nonce
	}
	attrs := []pkcs7.Attribute{
		{Type: oidTransactionID, Value: printable(id)}, {Type: oidMessageType, Value: printable("3")},
		{Type: oidPKIStatus, Value: printable(c.status)}, {Type: oidSenderNonce, Value: fresh}, {Type: oidRecipientNonce, Value: nonce},
	}
	switch c.status {
	case "0":
		leaf := c.sign(t, &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: alice}}, c.ca, c.last.PublicKey)
		if content, err = envelop(bundle(t, leaf), c.signer, 32); err != nil {
			t.Fatal(err)
		}
	case "2":
		attrs = append(attrs, pkcs7.Attribute{Type: oidFailInfo, Value: printable("2")},
			pkcs7.Attribute{Type: oidFailInfoText, Value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("the challenge is used")}})
	}
	sd, err := pkcs7.NewSignedData(content)
	if err != nil {
		t.Fatal(err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := sd.AddSigner(c.ra, c.raKey, pkcs7.SignerInfoConfig{ExtraSignedAttributes: attrs}); err != nil {
		t.Fatal(err)
	}
	reply, err := sd.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// readCSR decrypts with the library, which is not what encrypted.
func (c *testCA) readCSR(t testing.TB, envelope []byte) {
	p7, err := pkcs7.Parse(envelope)
	if err != nil {
		t.Fatal(err)
	}
	content, err := p7.Decrypt(c.ra, c.raKey)
	if err != nil {
		t.Fatal(err)
	}
	if c.last, err = x509.ParseCertificateRequest(content); err != nil {
		t.Fatal(err)
	}
	if err := c.last.CheckSignature(); err != nil {
		t.Fatal(err)
	}
	if has := bytes.Contains(content, []byte(c.challenge)); has != (c.lastType == "19") {
		t.Errorf("messageType %s: challenge in the CSR: %v", c.lastType, has)
	}
}

func TestEnvelop(t *testing.T) {
	c := newTestCA(t)
	for _, keySize := range []int{16, 32} {
		for _, n := range []int{0, 1, 15, 16, 17, 3000} {
			content := bytes.Repeat([]byte{'x'}, n)
			der, err := envelop(content, c.ra, keySize)
			if err != nil {
				t.Fatal(err)
			}
			p7, err := pkcs7.Parse(der)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := p7.Decrypt(c.ra, c.raKey); err != nil || !bytes.Equal(got, content) {
				t.Errorf("AES-%d, %d bytes: %q %v", 8*keySize, n, got, err)
			}
		}
	}
	if _, err := envelop(nil, c.ca, 16); err == nil {
		t.Error("encrypted to an EC key")
	}
	if to, err := recipient([]*x509.Certificate{c.ca, c.ra}); err != nil || to != c.ra {
		t.Errorf("recipient: %v %v", to, err)
	}
	if _, err := recipient([]*x509.Certificate{c.ca}); err == nil {
		t.Error("a recipient without an RSA key")
	}
}

func TestEnrolAndRenew(t *testing.T) {
	c := newTestCA(t)
	url := c.serve(t)
	p := NewPhone(IPhone("Alice's iPhone", ""))
	if err := p.Renew(t.Context(), url); !errors.Is(err, ErrNoCertificate) {
		t.Fatalf("renewal of nothing: %v", err)
	}
	if err := p.Enrol(t.Context(), url, "once"); err != nil {
		t.Fatal(err)
	}
	first := p.Certificate()
	if c.lastType != "19" || c.last.Subject.CommonName != "Alice's iPhone" || !bytes.Equal(c.signer.RawSubject, c.last.RawSubject) {
		t.Errorf("type %s, subject %s, signer %s", c.lastType, c.last.Subject, c.signer.Subject)
	}
	if identity, ok := p.Identity(); !ok || identity.Leaf != first || len(p.Chain()) != 2 {
		t.Error("no identity")
	}
	if err := p.Renew(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if c.lastType != "17" || !c.signer.Equal(first) || p.Certificate().Equal(first) {
		t.Errorf("renewal: type %s, signer %s", c.lastType, c.signer.Subject)
	}
	names := Names{CommonName: "mallory", Email: "m@evil.test", SANEmails: []string{"ceo@contoso.com"}, SANUPNs: []string{"ceo@contoso.com"}}
	if err := p.EnrolWith(t.Context(), Enrolment{URL: url, Challenge: "once", Names: names, AES256: true, GET: true}); err != nil {
		t.Fatal(err)
	}
	if c.last.Subject.CommonName != "mallory" || len(c.last.EmailAddresses) != 1 || c.last.EmailAddresses[0] != "ceo@contoso.com" {
		t.Errorf("names: %s %v", c.last.Subject, c.last.EmailAddresses)
	}
	if der := c.last.Raw; bytes.Count(der, []byte("ceo@contoso.com")) != 2 || !bytes.Contains(der, []byte("m@evil.test")) {
		t.Error("not all names are in the CSR")
	}
	certificate, key, err := p.PEM()
	if err != nil || !bytes.HasPrefix(certificate, []byte("-----BEGIN CERTIFICATE")) || !bytes.HasPrefix(key, []byte("-----BEGIN PRIVATE KEY")) {
		t.Errorf("PEM: %v", err)
	}
}

func TestEnrolRefused(t *testing.T) {
	c := newTestCA(t)
	url := c.serve(t)
	p := NewPhone(OutlookMobile("Outlook", ""))
	c.status = "2"
	var refused *RefusedError
	if err := p.Enrol(t.Context(), url, "once"); !errors.As(err, &refused) || refused.FailInfo != 2 || refused.Text != "the challenge is used" {
		t.Errorf("FAILURE: %v", err)
	}
	c.status = "3"
	if err := p.Enrol(t.Context(), url, "once"); !errors.Is(err, ErrPending) {
		t.Errorf("PENDING: %v", err)
	}
	c.status, c.keepNonce = "0", true
	if err := p.Enrol(t.Context(), url, "once"); err == nil || !strings.Contains(err.Error(), "not fresh") {
		t.Errorf("old nonce: %v", err)
	}
	c.keepNonce = false
	realRA := c.ra
	c.ra = c.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "no encryption"}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, c.ca, &c.raKey.PublicKey)
	if err := p.Enrol(t.Context(), url, "once"); err == nil || !strings.Contains(err.Error(), "no RSA certificate") {
		t.Errorf("RA without keyEncipherment: %v", err)
	}
	c.ra, c.caps = realRA, "POSTPKIOperation\r\nSHA-1\r\nDES3"
	if err := p.Enrol(t.Context(), url, "once"); err == nil || !strings.Contains(err.Error(), "does not offer AES") {
		t.Errorf("weak server: %v", err)
	}
	if p.Certificate() != nil {
		t.Error("the phone has a certificate all the same")
	}
}

// FuzzReply reads any bytes as a CertRep: they are refused, and nothing panics.
func FuzzReply(f *testing.F) {
	c := newTestCA(f)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0x30, 0x82, 0x01})
	f.Add(bundle(f, c.ra))
	f.Fuzz(func(t *testing.T, der []byte) {
		if len(der) > maxSCEPAnswer {
			return
		}
		tr := transaction{key: key, signer: c.ra, signerKey: key, chain: []*x509.Certificate{c.ra, c.ca}, now: time.Now, id: "x", nonce: make([]byte, 16)}
		if err := tr.readReply(der); err == nil {
			t.Error("accepted")
		}
	})
}

// FuzzToken reads any bytes as a bearer token.
func FuzzToken(f *testing.F) {
	now := time.Unix(1800000000, 0)
	f.Add(Token(alice, now, nil))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		if user := tokenUser(token, now); user != strings.ToLower(user) {
			t.Errorf("user %q", user)
		}
	})
}
