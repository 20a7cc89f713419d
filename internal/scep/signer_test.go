package scep

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"postern/internal/trust"
)

// carelessSigner is a certificate as clients make them for one message, and Go does not read.
type carelessSigner struct {
	serial     int64  // 1 if left out
	subject    []byte // DER; a common name if left out
	extensions []pkix.Extension
	key        crypto.PublicKey // of the signer if left out
}

func (c carelessSigner) sign(t testing.TB, by party) party {
	t.Helper()
	if c.subject == nil {
		c.subject = mustMarshal(t, pkix.Name{CommonName: "phone"}.ToRDNSequence())
	}
	if c.key == nil {
		c.key = by.key.Public()
	}
	issuer := c.subject
	if by.cert != nil {
		issuer = by.cert.RawSubject
	}
	spki, err := x509.MarshalPKIXPublicKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	serial := big.NewInt(cmp.Or(c.serial, 1))
	alg := pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDEncryptionAlgorithmRSASHA256, Parameters: asn1.NullRawValue}
	tbs := mustMarshal(t, struct {
		Version    int `asn1:"explicit,tag:0"`
		Serial     *big.Int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		Validity   struct{ NotBefore, NotAfter time.Time }
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Extensions []pkix.Extension `asn1:"optional,explicit,tag:3"`
	}{2, serial, alg, rawValue(issuer), struct{ NotBefore, NotAfter time.Time }{time.Now().Add(-time.Hour).UTC(), time.Now().Add(time.Hour).UTC()},
		rawValue(c.subject), rawValue(spki), c.extensions})
	sum := sha256.Sum256(tbs)
	sig, err := by.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	der := mustMarshal(t, struct {
		TBS asn1.RawValue
		Alg pkix.AlgorithmIdentifier
		Sig asn1.BitString
	}{rawValue(tbs), alg, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Fatal("Go reads it: nothing is tested here")
	}
	return party{by.key, &x509.Certificate{Raw: der, RawSubject: c.subject, RawIssuer: issuer, SerialNumber: serial, PublicKey: c.key}}
}

func extension(id ...int) pkix.Extension {
	return pkix.Extension{Id: append(asn1.ObjectIdentifier{2, 5, 29}, id...), Value: []byte{0x30, 3, 0x82, 1, 0xff}}
}

func carelessSigners(t *testing.T) map[string]carelessSigner {
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 35}, Critical: true, Value: []byte{0x30, 4, 0x80, 2, 1, 2}}
	name := func(tag int, value string) []byte {
		type attribute struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue
		}
		type rdn []attribute
		set, err := asn1.MarshalWithParams(rdn{{oidCommonName, asn1.RawValue{Tag: tag, Bytes: []byte(value)}}}, "set")
		if err != nil {
			t.Fatal(err)
		}
		return mustMarshal(t, []asn1.RawValue{{FullBytes: set}})
	}
	return map[string]carelessSigner{
		"a negative serial number":                    {serial: -0x5a3b9c},
		"a damaged subjectAltName":                    {extensions: []pkix.Extension{{Id: oidSubjectAltName, Value: []byte{0x30, 3, 0x82, 1, 0xff}}}},
		"basicConstraints twice":                      {extensions: []pkix.Extension{extension(19), extension(19)}},
		"a key usage that is none":                    {extensions: []pkix.Extension{extension(15)}},
		"a critical authority key identifier":         {extensions: []pkix.Extension{critical}},
		"a mail address in a PrintableString":         {subject: name(asn1.TagPrintableString, "a_b@x.test")},
		"Latin-1 in a UTF8String":                     {subject: name(asn1.TagUTF8String, "J\xfcrgen")},
		"a UniversalString":                           {subject: name(tagUniversalString, "\x00\x00\x00a")},
		"a negative serial number and broken strings": {serial: -1, subject: name(asn1.TagIA5String, "\xff")},
	}
}

// Phones sign their first request with certificates that Go refuses to read; they enrol all the same, and also where they have to wait.
func TestCarelessSigners(t *testing.T) {
	g, waits := newGate(t), newPendingGate(t)
	for name, c := range carelessSigners(t) {
		t.Run(name, func(t *testing.T) {
			signer := c.sign(t, party{key: rsaKeys()[0]})
			got := g.send(ask{challenge: g.challenge(g.device()), signer: signer, id: name})
			if got.cert == nil {
				t.Fatalf("%d %s, %s %s", got.code, got.body[:min(len(got.body), 60)], got.rep.failInfo, got.rep.failText)
			}
			if again := g.send(ask{kind: RenewalReq, signer: signer, id: "renew " + name}); again.cert != nil || again.rep.failInfo != "2" {
				t.Errorf("a renewal: %+v", again.rep)
			}
			a := ask{challenge: waits.challenge(waits.device()), signer: signer, id: name, subject: pkix.Name{CommonName: "phone"}}
			waits.wantPending(waits.send(a))
			waits.approve()
			if got := waits.poll(a); got.cert == nil {
				t.Errorf("approved: %d, %s %s", got.code, got.rep.failInfo, got.rep.failText)
			}
		})
	}
}

// What is not read whole authenticates nobody, not even a certificate that the issuer has signed.
func TestBareCertificateRenewsNothing(t *testing.T) {
	g := newGate(t)
	d := g.device()
	p := g.enrol(d, rsaKeys()[1])
	is := g.door.issuers["contoso"]
	if !is.issued(p.cert) {
		t.Fatal("not issued here")
	}
	b, ok := readBare(p.cert.Raw)
	if !ok || b.Serial.Cmp(p.cert.SerialNumber) != 0 || !bytes.Equal(b.Issuer.FullBytes, p.cert.RawIssuer) || !bytes.Equal(b.Subject.FullBytes, p.cert.RawSubject) ||
		!bytes.Equal(b.Key.FullBytes, p.cert.RawSubjectPublicKeyInfo) || !b.Validity.NotAfter.Equal(p.cert.NotAfter) {
		t.Fatalf("%+v", b)
	}
	// The same certificate with a byte of an extension changed, so that Go refuses it.
	der := bytes.Clone(p.cert.Raw)
	i := bytes.Index(der, []byte{0x55, 0x1d, 15, 1, 1, 0xff, 4, 4, 3, 2}) // keyUsage, RFC 5280, section 4.2.1.3
	if i < 0 {
		t.Fatal("no key usage")
	}
	der[i+8] = 4
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Fatal("Go reads it: nothing is tested here")
	}
	bare, ok := readSigner(der)
	if !ok || is.issued(bare) {
		t.Fatalf("read %v; issued here", ok)
	}
	forged := party{p.key, &x509.Certificate{Raw: der, RawIssuer: p.cert.RawIssuer, SerialNumber: p.cert.SerialNumber, PublicKey: p.key.Public()}}
	for _, kind := range []MessageType{PKCSReq, RenewalReq} {
		g.wantRefused(BadRequest, func() answer {
			return g.send(ask{kind: kind, key: rsaKeys()[2], signer: forged, id: "forged" + kind.String()})
		})
	}
	a := g.about(GetCert, ask{}, []any{rawValue(p.cert.RawIssuer), p.cert.SerialNumber}, func(m *message) { m.signer = forged })
	if a.cert != nil || a.rep.failInfo != "4" {
		t.Errorf("GetCert: %+v", a.rep)
	}
	if rec := g.record(p.cert); rec.Status != trust.Good {
		t.Errorf("the certificate is %s", rec.Status)
	}
}

// The reply to a negative serial number names it as the client does.
func TestReplyToNegativeSerial(t *testing.T) {
	signer := carelessSigner{serial: -300}.sign(t, party{key: testParties().phone.key})
	m := pkcsReq(t, AES128)
	m.signer = signer
	r := mustParse(t, m.encode(t))
	der, err := testResponder(t).Success(r, testParties().ca.cert, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkCerts(t, openReply(t, readReply(t, der), signer), testParties().ca.cert)
}
