package scep

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

// party is a key with a certificate.
type party struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// parties are the certificates of the tests, made once: RSA keys are slow.
type parties struct{ ca, ra, phone, small, ec party }

var testParties = sync.OnceValue(func() parties {
	rsaKey := func(bits int) crypto.Signer { k, _ := rsa.GenerateKey(rand.Reader, bits); return k }
	ecKey := func() crypto.Signer { k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); return k }
	ca := selfSigned("Contoso Issuing CA", ecKey())
	raKey := rsaKey(2048)
	ra := party{raKey, makeCert(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Contoso SCEP RA"},
		SubjectKeyId: []byte{1, 2, 3, 4},
	}, ca, raKey.Public())}
	return parties{
		ca: ca, ra: ra,
		phone: selfSigned("phone", rsaKey(2048)),
		small: selfSigned("small", rsaKey(1024)),
		ec:    selfSigned("ec", ecKey()),
	}
})

func selfSigned(cn string, key crypto.Signer) party {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn},
		IsCA: true, BasicConstraintsValid: true,
	}
	return party{key, makeCert(template, party{key, template}, key.Public())}
}

func makeCert(template *x509.Certificate, issuer party, pub crypto.PublicKey) *x509.Certificate {
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, pub, issuer.key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}

// csrWith makes a CSR with these attributes.
func csrWith(t testing.TB, key crypto.Signer, subject pkix.Name, attrs ...csrAttribute) []byte {
	t.Helper()
	name, err := asn1.Marshal(subject.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := asn1.Marshal(struct {
		Version       int
		Subject, Key  asn1.RawValue
		RawAttributes []csrAttribute `asn1:"tag:0,set"`
	}{0, asn1.RawValue{FullBytes: name}, asn1.RawValue{FullBytes: spki}, attrs})
	if err != nil {
		t.Fatal(err)
	}
	digest := crypto.SHA256.New()
	digest.Write(tbs)
	sig, err := key.Sign(rand.Reader, digest.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	alg := pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDEncryptionAlgorithmRSASHA256, Parameters: asn1.NullRawValue}
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		alg = pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDDigestAlgorithmECDSASHA256}
	}
	der, err := asn1.Marshal(struct {
		TBS asn1.RawValue
		Alg pkix.AlgorithmIdentifier
		Sig asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, alg, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func challengeAttr(tag int, value string) csrAttribute {
	return csrAttribute{oidChallenge, []asn1.RawValue{{Tag: tag, Bytes: []byte(value)}}}
}

// namesAttr is a subjectAltName in an extension request.
func namesAttr(t testing.TB, oid asn1.ObjectIdentifier, names ...asn1.RawValue) csrAttribute {
	t.Helper()
	san, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	ext, err := asn1.Marshal([]pkix.Extension{{Id: oidSubjectAltName, Value: san}})
	if err != nil {
		t.Fatal(err)
	}
	return csrAttribute{oid, []asn1.RawValue{{FullBytes: ext}}}
}

// message is what a test client sends.
type message struct {
	signer   party
	envelope []byte
	kind     string
	id       any
	nonce    any
	digest   asn1.ObjectIdentifier
	attrs    func([]pkcs7.Attribute) []pkcs7.Attribute
	extra    []*x509.Certificate
	finish   func(*pkcs7.SignedData) // the last word before encoding
}

func newMessage(kind MessageType, signer party, envelope []byte) message {
	return message{
		signer: signer, envelope: envelope, kind: fmt.Sprint(int(kind)),
		id: printable("12345/+="), nonce: bytes.Repeat([]byte{7}, 16),
		digest: pkcs7.OIDDigestAlgorithmSHA256,
	}
}

func (m message) encode(t testing.TB) []byte {
	t.Helper()
	sd, err := pkcs7.NewSignedData(m.envelope)
	if err != nil {
		t.Fatal(err)
	}
	sd.SetDigestAlgorithm(m.digest)
	attrs := []pkcs7.Attribute{
		{Type: oidTransactionID, Value: m.id},
		{Type: oidMessageType, Value: printable(m.kind)},
		{Type: oidSenderNonce, Value: m.nonce},
	}
	if m.attrs != nil {
		attrs = m.attrs(attrs)
	}
	err = sd.AddSigner(m.signer.cert, m.signer.key, pkcs7.SignerInfoConfig{ExtraSignedAttributes: attrs})
	if err != nil {
		t.Fatal(err)
	}
	for _, cert := range m.extra {
		sd.AddCertificate(cert)
	}
	if m.finish != nil {
		m.finish(sd)
	}
	der, err := sd.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func sealed(t testing.TB, content []byte, c Cipher) []byte {
	t.Helper()
	der, err := seal(content, testParties().ra.cert, c)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// pkcsReq is a good PKCSReq.
func pkcsReq(t testing.TB, c Cipher) message {
	t.Helper()
	p := testParties()
	csr := csrWith(t, p.phone.key, pkix.Name{CommonName: "dev"}, challengeAttr(asn1.TagPrintableString, "secret"))
	return newMessage(PKCSReq, p.phone, sealed(t, csr, c))
}

func open(r *Request, legacy bool) error {
	ra := testParties().ra
	return r.Open(ra.cert, ra.key.(crypto.Decrypter), legacy)
}

func mustParse(t testing.TB, der []byte) *Request {
	t.Helper()
	r, err := ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantFailure(t *testing.T, err error, info FailInfo) *Failure {
	t.Helper()
	var f *Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a Failure", err)
	}
	if f.Info != info {
		t.Fatalf("got %v, want %v", f, info)
	}
	return f
}

func wantMalformed(t *testing.T, err error) {
	t.Helper()
	var m *Malformed
	if !errors.As(err, &m) {
		t.Fatalf("got %v, want a Malformed", err)
	}
}

// toBER writes a DER message again with indefinite lengths and segmented strings.
func toBER(t testing.TB, der []byte) []byte {
	t.Helper()
	var out []byte
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			t.Fatal(err)
		}
		der = rest
		switch {
		case v.IsCompound:
			out = append(append(out, v.FullBytes[0], 0x80), toBER(t, v.Bytes)...)
			out = append(out, 0, 0)
		case len(v.Bytes) > 100 && (v.Tag == asn1.TagOctetString || v.Class == asn1.ClassContextSpecific):
			out = append(out, v.FullBytes[0]|0x20, 0x80)
			for piece := range slices.Chunk(v.Bytes, 100) {
				out = append(append(out, tagOctetString, byte(len(piece))), piece...)
			}
			out = append(out, 0, 0)
		default:
			out = append(out, v.FullBytes...)
		}
	}
	return out
}

func TestSecretsStayHidden(t *testing.T) {
	r := mustParse(t, pkcsReq(t, AES128).encode(t))
	if err := open(r, false); err != nil {
		t.Fatal(err)
	}
	if r.Challenge != "secret" {
		t.Fatalf("challenge is %q", string(r.Challenge))
	}
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "request", r, "challenge", r.Challenge)
	}
	js, _ := json.Marshal(r.Challenge)
	fmt.Fprintf(&log, "%v %+v %#v %s %s", r, r, r.Challenge, r.Challenge, js)
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the challenge shows: %s", log.String())
	}
	if !strings.Contains(log.String(), "12345/+=") {
		t.Errorf("the transaction does not show: %s", log.String())
	}
}

func TestNamesOfNumbers(t *testing.T) {
	for got, want := range map[string]string{
		PKCSReq.String():                "PKCSReq",
		MessageType(99).String():        "messageType 99",
		BadAlg.String():                 "badAlg",
		FailInfo(-1).String():           "failInfo -1",
		AES256.String():                 "AES-256-CBC",
		Cipher(77).String():             "unknown cipher",
		Challenge("").String():          "(no challenge)",
		(&Malformed{"cut off"}).Error(): "malformed SCEP message: cut off",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	cause := errors.New("private")
	if f := fail(BadTime, cause, "public"); f.Error() != "badTime: public: private" || !errors.Is(f, cause) {
		t.Errorf("got %q", f)
	}
}
