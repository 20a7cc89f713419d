package scep

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

// Windows signs with a certificate whose authority key identifier is critical.
func TestParseRequestCriticalAuthorityKeyID(t *testing.T) {
	phone := testParties().phone
	template := &x509.Certificate{SerialNumber: big.NewInt(6), Subject: phone.cert.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 35}, Critical: true, Value: []byte{0x30, 4, 0x80, 2, 1, 2}}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, phone.key.Public(), phone.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Fatal("Go reads it: nothing is tested here")
	}
	m := pkcsReq(t, AES128)
	m.signer.cert = &x509.Certificate{Raw: der, RawIssuer: phone.cert.RawSubject, SerialNumber: template.SerialNumber, PublicKey: phone.key.Public()}
	r := mustParse(t, m.encode(t))
	if err := open(r, false); err != nil || !r.SameKey() {
		t.Errorf("got %v", err)
	}
	if _, err := seal([]byte("x"), r.Signer, AES128); err != nil {
		t.Errorf("the reply: %v", err)
	}
}

// Some clients sign their attributes in the order in which they send them, not in DER's.
func TestParseRequestUnsortedAttributes(t *testing.T) {
	unsorted := func(spoil byte) func(*pkcs7.SignedData) {
		return func(sd *pkcs7.SignedData) {
			info := &sd.GetSignedData().SignerInfos[0]
			slices.Reverse(info.AuthenticatedAttributes)
			sent, err := asn1.Marshal(info.AuthenticatedAttributes)
			if err != nil {
				t.Fatal(err)
			}
			sent[0] = 0x31 // a SET OF, RFC 5652, section 5.4
			sum := sha256.Sum256(sent)
			if info.EncryptedDigest, err = testParties().phone.key.Sign(rand.Reader, sum[:], crypto.SHA256); err != nil {
				t.Fatal(err)
			}
			info.EncryptedDigest[9] ^= spoil
		}
	}
	m := pkcsReq(t, AES128)
	m.finish = unsorted(0)
	if err := open(mustParse(t, m.encode(t)), false); err != nil {
		t.Error(err)
	}
	m.finish = unsorted(1)
	_, err := ParseRequest(m.encode(t))
	wantFailure(t, err, BadMessageCheck)
	m.finish = func(sd *pkcs7.SignedData) { unsorted(0)(sd); changeNonce(sd) }
	_, err = ParseRequest(m.encode(t))
	wantFailure(t, err, BadMessageCheck)
}

// The RFC has PrintableString for both; the reply repeats what came.
func TestParseRequestStringTypes(t *testing.T) {
	for _, tag := range []int{asn1.TagUTF8String, asn1.TagIA5String} {
		m := pkcsReq(t, AES128)
		m.id = asn1.RawValue{Tag: tag, Bytes: []byte("a_b@c")}
		m.attrs = with(oidMessageType, asn1.RawValue{Tag: tag, Bytes: []byte("19")})
		r := mustParse(t, m.encode(t))
		if err := open(r, false); err != nil || r.TransactionID != "a_b@c" || r.transactionID.Tag != tag || r.MessageType != PKCSReq {
			t.Errorf("tag %d: %q, %v", tag, r.TransactionID, err)
		}
	}
}

// Mail addresses and underscores in a PrintableString, in the CSR and in the certificate that signs.
func TestParseRequestNamesThatAreNotPrintable(t *testing.T) {
	phone := testParties().phone
	odd := func(der []byte) []byte { // PrintableString and UTF8String have the same length
		i := bytes.Index(der, []byte("\x0c\x0aa_b@x.test"))
		if i < 0 {
			t.Fatal("no such name")
		}
		der = bytes.Clone(der)
		for ; i >= 0; i = bytes.Index(der, []byte("\x0c\x0aa_b@x.test")) {
			der[i] = asn1.TagPrintableString
		}
		return der
	}
	name := pkix.Name{CommonName: "a_b@x.test"}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: name, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, phone.key.Public(), phone.key)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := asn1.Marshal(name.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{Raw: odd(der), RawIssuer: odd(subject), SerialNumber: template.SerialNumber, PublicKey: phone.key.Public()}
	if _, err := x509.ParseCertificate(cert.Raw); err == nil {
		t.Fatal("Go reads it: nothing is tested here")
	}
	csr := resign(t, odd(csrWith(t, phone.key, name, challengeAttr(asn1.TagPrintableString, "secret"))), phone.key)
	m := newMessage(PKCSReq, party{phone.key, cert}, sealed(t, csr, AES128))
	m.id = printable("a_b@x.test")
	r := mustParse(t, m.encode(t))
	if err := open(r, false); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Signer.Raw, cert.Raw) || !bytes.Equal(r.Signer.RawIssuer, cert.RawIssuer) || !bytes.Equal(r.CSR.Raw, csr) || !r.SameKey() ||
		r.CSR.Subject.CommonName != name.CommonName || r.Challenge != "secret" || r.transactionID.Tag != asn1.TagPrintableString {
		t.Errorf("signer %q, CSR %q", r.Signer.Subject, r.CSR.Subject)
	}
	csr[len(csr)-1] ^= 1
	m.envelope = sealed(t, csr, AES128)
	wantFailure(t, open(mustParse(t, m.encode(t)), false), BadMessageCheck)
}

// resign makes the signature of a CSR anew.
func resign(t *testing.T, der []byte, key crypto.Signer) []byte {
	t.Helper()
	var csr struct {
		TBS asn1.RawValue
		Alg pkix.AlgorithmIdentifier
		Sig asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &csr); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(csr.TBS.FullBytes)
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	csr.Sig = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	if der, err = asn1.Marshal(csr); err != nil {
		t.Fatal(err)
	}
	return der
}
