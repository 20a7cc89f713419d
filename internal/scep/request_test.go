package scep

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

func TestParseRequest(t *testing.T) {
	p := testParties()
	digits := strings.Repeat("7", 77)
	m := pkcsReq(t, AES256)
	m.id, m.nonce = printable(digits), []byte("12345678")
	m.extra = []*x509.Certificate{p.ca.cert, p.ra.cert}
	for name, der := range map[string][]byte{"DER": m.encode(t), "BER": toBER(t, m.encode(t))} {
		t.Run(name, func(t *testing.T) {
			r := mustParse(t, der)
			if r.MessageType != PKCSReq || r.TransactionID != digits || string(r.SenderNonce) != "12345678" ||
				r.Digest != crypto.SHA256 || r.SignatureWeak || !r.Signer.Equal(p.phone.cert) {
				t.Errorf("got %v", r)
			}
			if r.SameKey() {
				t.Error("SameKey before Open")
			}
			if err := open(r, false); err != nil {
				t.Fatal(err)
			}
			if r.Cipher != AES256 || r.Challenge != "secret" || !r.SameKey() || r.CSR.Subject.CommonName != "dev" {
				t.Errorf("got %v, %v, %v", r.Cipher, r.SameKey(), r.CSR.Subject)
			}
		})
	}
}

// The message may be BER down to the segments of the encrypted content.
func TestParseRequestSegmentedEnvelope(t *testing.T) {
	m := pkcsReq(t, AES128)
	m.envelope = toBER(t, m.envelope)
	if bytes.Count(m.envelope, []byte{4, 100}) < 2 {
		t.Fatal("the envelope is not segmented")
	}
	r := mustParse(t, toBER(t, m.encode(t)))
	if err := open(r, false); err != nil {
		t.Fatal(err)
	}
}

// certmonger signs with a certificate of version 1.
func TestParseRequestVersion1Signer(t *testing.T) {
	p := testParties()
	cert := version1(t, p.phone)
	if cert.Version != 1 {
		t.Fatalf("version %d", cert.Version)
	}
	m := pkcsReq(t, AES256)
	m.signer = party{p.phone.key, cert}
	r := mustParse(t, m.encode(t))
	if err := open(r, false); err != nil || !r.SameKey() {
		t.Errorf("got %v", err)
	}
}

// version1 makes a self-signed certificate without a version and extensions.
func version1(t *testing.T, p party) *x509.Certificate {
	t.Helper()
	alg := pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDEncryptionAlgorithmRSASHA256, Parameters: asn1.NullRawValue}
	name := asn1.RawValue{FullBytes: p.cert.RawSubject}
	tbs, err := asn1.Marshal(struct {
		Serial   *big.Int
		Alg      pkix.AlgorithmIdentifier
		Issuer   asn1.RawValue
		Validity struct{ From, To time.Time }
		Subject  asn1.RawValue
		Key      asn1.RawValue
	}{big.NewInt(5), alg, name, struct{ From, To time.Time }{time.Now().Add(-time.Hour).UTC(), time.Now().Add(time.Hour).UTC()},
		name, asn1.RawValue{FullBytes: p.cert.RawSubjectPublicKeyInfo}})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(tbs)
	sig, err := p.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		TBS asn1.RawValue
		Alg pkix.AlgorithmIdentifier
		Sig asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, alg, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// with replaces one attribute, or drops it if the value is nil.
func with(oid asn1.ObjectIdentifier, value any) func([]pkcs7.Attribute) []pkcs7.Attribute {
	return func(attrs []pkcs7.Attribute) []pkcs7.Attribute {
		attrs = slices.DeleteFunc(attrs, func(a pkcs7.Attribute) bool { return a.Type.Equal(oid) })
		if value != nil {
			attrs = append(attrs, pkcs7.Attribute{Type: oid, Value: value})
		}
		return attrs
	}
}

func again(oid asn1.ObjectIdentifier, value any) func([]pkcs7.Attribute) []pkcs7.Attribute {
	return func(attrs []pkcs7.Attribute) []pkcs7.Attribute {
		return append(attrs, pkcs7.Attribute{Type: oid, Value: value})
	}
}

func TestParseRequestMalformed(t *testing.T) {
	p := testParties()
	twin := makeCert(&x509.Certificate{SerialNumber: p.phone.cert.SerialNumber, Subject: p.phone.cert.Subject},
		party{p.phone.key, p.phone.cert}, p.ec.key.Public())
	wantMalformedMessages(t, map[string]func(*message){
		"no transactionID":        func(m *message) { m.attrs = with(oidTransactionID, nil) },
		"empty transactionID":     func(m *message) { m.id = printable("") },
		"long transactionID":      func(m *message) { m.id = printable(strings.Repeat("x", 256)) },
		"control in it":           func(m *message) { m.id = printable("a\nb") },
		"an OCTET STRING":         func(m *message) { m.id = asn1.RawValue{Tag: asn1.TagOctetString, Bytes: []byte("a")} },
		"UTF-8 that is not ASCII": func(m *message) { m.id = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("ä")} },
		"two transactionIDs":      func(m *message) { m.attrs = again(oidTransactionID, printable("other")) },
		"two content types":       func(m *message) { m.attrs = again(pkcs7.OIDAttributeContentType, pkcs7.OIDData) },
		"two message digests":     func(m *message) { m.attrs = again(pkcs7.OIDAttributeMessageDigest, make([]byte, 32)) },
		"no senderNonce":          func(m *message) { m.attrs = with(oidSenderNonce, nil) },
		"short senderNonce":       func(m *message) { m.nonce = make([]byte, 7) },
		"long senderNonce":        func(m *message) { m.nonce = make([]byte, 65) },
		"senderNonce as a string": func(m *message) { m.nonce = "1234567890123456" },
		"no messageType":          func(m *message) { m.attrs = with(oidMessageType, nil) },
		"messageType in words":    func(m *message) { m.kind = "PKCSReq" },
		"messageType padded":      func(m *message) { m.kind = "019" },
		"messageType as a number": func(m *message) { m.attrs = with(oidMessageType, 19) },
		"many attributes": func(m *message) {
			m.attrs = func(a []pkcs7.Attribute) []pkcs7.Attribute {
				for i := range maxAttributes {
					a = append(a, pkcs7.Attribute{Type: asn1.ObjectIdentifier{1, 2, 3, i}, Value: i})
				}
				return a
			}
		},
		"other certificate":    func(m *message) { m.signer.cert = p.ca.cert; m.finish = dropCertificates },
		"two possible signers": func(m *message) { m.extra = []*x509.Certificate{twin} },
		"signer's twice":       func(m *message) { m.extra = []*x509.Certificate{p.phone.cert} },
		"no signed attributes": func(m *message) { m.finish = (*pkcs7.SignedData).RemoveAuthenticatedAttributes },
	})
}

func TestParseRequestMalformedStructure(t *testing.T) {
	wantMalformedMessages(t, map[string]func(*message){
		"no signer": func(m *message) { m.finish = func(sd *pkcs7.SignedData) { sd.GetSignedData().SignerInfos = nil } },
		"two signers": func(m *message) {
			m.finish = func(sd *pkcs7.SignedData) {
				s := sd.GetSignedData()
				s.SignerInfos = append(s.SignerInfos, s.SignerInfos[0])
			}
		},
		"content not data": func(m *message) {
			m.finish = func(sd *pkcs7.SignedData) { sd.GetSignedData().ContentInfo.ContentType = pkcs7.OIDEnvelopedData }
		},
		"attribute of two values": func(m *message) {
			m.finish = func(sd *pkcs7.SignedData) {
				v := &sd.GetSignedData().SignerInfos[0].AuthenticatedAttributes[0].Value
				v.Bytes = append(slices.Clone(v.Bytes), v.Bytes...)
			}
		},
	})
}

func wantMalformedMessages(t *testing.T, changes map[string]func(*message)) {
	t.Helper()
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			m := pkcsReq(t, AES128)
			change(&m)
			r, err := ParseRequest(m.encode(t))
			wantMalformed(t, err)
			if r != nil {
				t.Error("there is a Request")
			}
		})
	}
}

func TestParseRequestOtherThings(t *testing.T) {
	p := testParties()
	certsOnly, _ := CertsOnly(p.ca.cert)
	for name, der := range map[string][]byte{
		"nothing": nil, "empty": {0x30, 0}, "an envelope": sealed(t, []byte("x"), AES128), "certs only": certsOnly,
		"a certificate": p.ca.cert.Raw, "two messages": append(certsOnly, certsOnly...), "garbage": []byte("GET / HTTP/1.1"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseRequest(der)
			wantMalformed(t, err)
		})
	}
}

// dropCertificates makes the signer's certificate another than it says.
func dropCertificates(sd *pkcs7.SignedData) {
	sd.GetSignedData().SignerInfos[0].IssuerAndSerialNumber.SerialNumber = big.NewInt(4711)
}

func TestParseRequestFailures(t *testing.T) {
	p := testParties()
	oidMD5 := asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}
	digestIs := func(oid asn1.ObjectIdentifier) func(*pkcs7.SignedData) {
		return func(sd *pkcs7.SignedData) { sd.GetSignedData().SignerInfos[0].DigestAlgorithm.Algorithm = oid }
	}
	signatureIs := func(oid asn1.ObjectIdentifier) func(*pkcs7.SignedData) {
		return func(sd *pkcs7.SignedData) {
			sd.GetSignedData().SignerInfos[0].DigestEncryptionAlgorithm.Algorithm = oid
		}
	}
	old := makeCert(&x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "old"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour),
	}, p.ca, p.phone.key.Public())
	for name, test := range map[string]struct {
		want   FailInfo
		change func(*message)
	}{
		"unknown type":   {BadRequest, func(m *message) { m.kind = "18" }},
		"a reply":        {BadRequest, func(m *message) { m.kind = "3" }},
		"EC signer":      {BadRequest, func(m *message) { m.signer = p.ec }},
		"no envelope":    {BadRequest, func(m *message) { m.envelope = nil }},
		"MD5":            {BadAlg, func(m *message) { m.finish = digestIs(oidMD5) }},
		"SHA-224":        {BadAlg, func(m *message) { m.finish = digestIs(pkcs7.OIDDigestAlgorithmSHA224) }},
		"MD5 with RSA":   {BadAlg, func(m *message) { m.finish = signatureIs(pkcs7.OIDEncryptionAlgorithmRSAMD5) }},
		"SHA-1 with RSA": {BadAlg, func(m *message) { m.finish = signatureIs(pkcs7.OIDEncryptionAlgorithmRSASHA1) }},
		"RSA-PSS":        {BadAlg, func(m *message) { m.finish = signatureIs(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}) }},
		"short RSA key":  {BadAlg, func(m *message) { m.signer = p.small }},
		"another digest": {BadMessageCheck, func(m *message) {
			m.finish = both(signatureIs(pkcs7.OIDEncryptionAlgorithmRSA), digestIs(pkcs7.OIDDigestAlgorithmSHA512))
		}},
		"contradiction":     {BadAlg, func(m *message) { m.finish = digestIs(pkcs7.OIDDigestAlgorithmSHA512) }},
		"another key":       {BadMessageCheck, func(m *message) { m.signer.key = p.ra.key }},
		"expired when made": {BadTime, func(m *message) { m.signer.cert = old }},
		"EC, not its own":   {BadMessageCheck, func(m *message) { m.signer = party{selfSigned("x", p.ca.key).key, p.ec.cert} }},
		"RSA said to be EC": {BadMessageCheck, func(m *message) { m.finish = signatureIs(pkcs7.OIDDigestAlgorithmECDSASHA256) }},
		"changed signature": {BadMessageCheck, func(m *message) {
			m.finish = func(sd *pkcs7.SignedData) { sd.GetSignedData().SignerInfos[0].EncryptedDigest[9] ^= 1 }
		}},
		"changed attributes": {BadMessageCheck, func(m *message) { m.finish = changeNonce }},
	} {
		t.Run(name, func(t *testing.T) {
			m := pkcsReq(t, AES128)
			test.change(&m)
			r, err := ParseRequest(m.encode(t))
			f := wantFailure(t, err, test.want)
			if r == nil || r.TransactionID == "" || len(r.SenderNonce) != 16 {
				t.Errorf("no CertRep can be made: %v", r)
			}
			if unknown := errors.Is(f, ErrUnknownMessageType); unknown != (name == "unknown type" || name == "a reply") {
				t.Errorf("unknown message type: %v", unknown)
			}
		})
	}
}

func both(a, b func(*pkcs7.SignedData)) func(*pkcs7.SignedData) {
	return func(sd *pkcs7.SignedData) { a(sd); b(sd) }
}

func changeNonce(sd *pkcs7.SignedData) {
	attrs := sd.GetSignedData().SignerInfos[0].AuthenticatedAttributes
	for i, a := range attrs {
		if a.Type.Equal(oidSenderNonce) {
			attrs[i].Value.Bytes = append(slices.Clone(a.Value.Bytes[:17]), 99)
			attrs[i].Value.FullBytes = nil
		}
	}
}

// A byte changed anywhere never makes a message that passes as another one.
func TestParseRequestDamaged(t *testing.T) {
	m := pkcsReq(t, AES128)
	der := m.encode(t)
	for i := 0; i < len(der); i += 3 {
		bad := bytes.Clone(der)
		bad[i] ^= 0x15
		r, err := ParseRequest(bad)
		if err == nil && (r.TransactionID != "12345/+=" || !bytes.Equal(r.Envelope, m.envelope)) {
			t.Errorf("byte %d: passes as %v", i, r)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	p := testParties()
	der := pkcsReq(f, AES128).encode(f)
	f.Add(der)
	f.Add(toBER(f, der))
	poll := newMessage(CertPoll, p.phone, sealed(f, append([]byte{0x30, byte(2 * len(p.ca.cert.RawSubject))},
		slices.Concat(p.ca.cert.RawSubject, p.ca.cert.RawSubject)...), AES256))
	f.Add(poll.encode(f))
	f.Fuzz(func(t *testing.T, message []byte) {
		r, err := ParseRequest(message)
		var bad *Malformed
		var failure *Failure
		switch {
		case err == nil:
			if err := open(r, true); err != nil {
				wantFailure(t, err, err.(*Failure).Info)
			}
		case errors.As(err, &bad):
			if r != nil {
				t.Error("a malformed message has a Request")
			}
		case errors.As(err, &failure):
			if _, err := testResponder(t).Fail(r, failure.Info, failure.Text); err != nil {
				t.Errorf("no CertRep: %v", err)
			}
		default:
			t.Errorf("untyped error: %v", err)
		}
	})
}
