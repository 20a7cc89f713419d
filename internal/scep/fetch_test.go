package scep

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"postern/internal/trust"
)

// GetCert (RFC 8894, section 3.3.4): a device gets its own certificates.
func TestGetCert(t *testing.T) {
	g := newGate(t)
	d := g.device()
	old := g.enrol(d, rsaKeys()[1])
	own := g.enrol(d, rsaKeys()[2])
	other := g.enrol(g.device(), rsaKeys()[3])
	issuer := rawValue(g.issuer.Chain()[0].RawSubject)
	for _, want := range []*x509.Certificate{own.cert, old.cert} {
		if got := g.about(GetCert, ask{signer: own}, []any{issuer, want.SerialNumber}); got.cert == nil || !got.cert.Equal(want) {
			t.Errorf("%s %s", got.rep.failInfo, got.rep.failText)
		}
	}
	for name, c := range map[string]struct {
		signer party
		issuer asn1.RawValue
		serial *big.Int
	}{
		"another device's":   {own, issuer, other.cert.SerialNumber},
		"unknown":            {own, issuer, big.NewInt(77)},
		"negative":           {own, issuer, new(big.Int).Neg(own.cert.SerialNumber)},
		"huge":               {own, issuer, new(big.Int).Lsh(big.NewInt(1), 4000)},
		"by a stranger":      {selfSignedOnce(rsaKeys()[0]), issuer, own.cert.SerialNumber},
		"by a superseded":    {old, issuer, own.cert.SerialNumber},
		"of the RA's issuer": {own, rawValue(g.issuer.RACertificate().RawSubject), own.cert.SerialNumber},
	} {
		if got := g.about(GetCert, ask{signer: c.signer}, []any{c.issuer, c.serial}); got.cert != nil || got.rep.status != "2" || got.rep.failInfo != "4" {
			t.Errorf("%s: %+v", name, got.rep)
		}
	}
	_, err := g.reg.Revoke(t.Context(), admin, "contoso", trust.SerialOf(own.cert.SerialNumber), trust.KeyCompromise, "")
	g.must(err)
	if got := g.about(GetCert, ask{signer: own}, []any{issuer, own.cert.SerialNumber}); got.cert != nil || got.rep.failInfo != "4" {
		t.Errorf("revoked: %+v", got.rep)
	}
}

// GetCRL (RFC 8894, section 3.3.4): the CRL of the issuer named, in the crls of a certs-only message, without certificates.
func TestGetCRL(t *testing.T) {
	var crl []byte
	g := newGate(t, func(c *Config) {
		c.CRL = func(issuer, ca string) ([]byte, bool) {
			return crl, crl != nil && issuer == "contoso" && ca == "issuing"
		}
	})
	a := ask{}
	content := []any{rawValue(g.issuer.Chain()[0].RawSubject), big.NewInt(1)}
	if got := g.about(GetCRL, a, content); got.code != http.StatusServiceUnavailable {
		t.Errorf("no CRL yet: %d", got.code)
	}
	key := testParties().ca
	var err error
	crl, err = x509.CreateRevocationList(nil, &x509.RevocationList{Number: big.NewInt(5), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, signing(t, key), key.key)
	g.must(err)
	envelope, err := seal(mustMarshal(t, content), g.issuer.RACertificate(), AES128)
	g.must(err)
	r, err := http.Post(g.url(), "", bytes.NewReader(newMessage(GetCRL, a.party(), envelope).encode(t)))
	g.must(err)
	defer r.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(r.Body)
	g.must(err)
	rep := readReplyOf(t, body.Bytes(), g.issuer.RACertificate())
	if rep.status != "0" {
		t.Fatalf("%+v", rep)
	}
	p7, err := pkcs7.Parse(openReply(t, rep, a.party()))
	g.must(err)
	if len(p7.CRLs) != 1 || len(p7.Certificates) != 0 || len(p7.Signers) != 0 || !bytes.Equal(mustMarshal(t, p7.CRLs[0]), crl) {
		t.Errorf("%d CRLs, %d certificates", len(p7.CRLs), len(p7.Certificates))
	}
	crl = make([]byte, maxCRL+1)
	if got := g.about(GetCRL, a, content); got.rep.status != "2" || !strings.Contains(got.rep.failText, "too large") {
		t.Errorf("too large: %+v", got.rep)
	}
	if got := g.about(GetCRL, a, []any{rawValue(g.issuer.RACertificate().RawSubject), big.NewInt(1)}); got.rep.failInfo != "4" {
		t.Errorf("no CA: %+v", got.rep)
	}
}

// signing is a CA certificate that may sign CRLs.
func signing(t *testing.T, p party) *x509.Certificate {
	t.Helper()
	c := *p.cert
	c.KeyUsage |= x509.KeyUsageCRLSign
	if c.SubjectKeyId == nil {
		c.SubjectKeyId = []byte{1}
	}
	return &c
}
