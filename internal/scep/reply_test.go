package scep

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/smallstep/pkcs7"
)

func testResponder(t *testing.T) *Responder {
	t.Helper()
	p := testParties()
	r, err := NewResponder(p.ra.cert, p.ra.key, p.ca.cert)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// certRep is what a client reads from a reply.
type certRep struct {
	p7                          *pkcs7.PKCS7
	status, failInfo, kind, id  string
	failText                    string
	senderNonce, recipientNonce []byte
}

// readReply verifies a reply as a client does, with the library alone.
func readReply(t *testing.T, der []byte) certRep {
	t.Helper()
	return readReplyOf(t, der, testParties().ra.cert)
}

// readReplyOf is readReply for another RA.
func readReplyOf(t *testing.T, der []byte, ra *x509.Certificate) certRep {
	t.Helper()
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := p7.Verify(); err != nil {
		t.Fatal(err)
	}
	if signer := p7.GetOnlySigner(); !signer.Equal(ra) {
		t.Fatalf("signed by %v", signer.Subject)
	}
	if alg := p7.Signers[0].DigestEncryptionAlgorithm.Algorithm; !alg.Equal(pkcs7.OIDEncryptionAlgorithmRSA) {
		t.Errorf("signature algorithm %v", alg)
	}
	rep := certRep{p7: p7}
	for oid, to := range map[string]any{
		oidPKIStatus.String(): &rep.status, oidFailInfo.String(): &rep.failInfo,
		oidMessageType.String(): &rep.kind, oidTransactionID.String(): &rep.id,
		oidFailInfoText.String(): &rep.failText,
		oidSenderNonce.String():  &rep.senderNonce, oidRecipientNonce.String(): &rep.recipientNonce,
	} {
		for _, a := range p7.Signers[0].AuthenticatedAttributes {
			if a.Type.String() != oid {
				continue
			}
			if _, err := asn1.Unmarshal(a.Value.Bytes, to); err != nil {
				t.Fatalf("attribute %s: %v", oid, err)
			}
		}
	}
	return rep
}

func TestSuccess(t *testing.T) {
	p := testParties()
	leaf := makeCert(&x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "leaf"}}, p.ca, p.phone.key.Public())
	for _, test := range []struct {
		cipher, want Cipher
		digest       asn1.ObjectIdentifier
		wantDigest   crypto.Hash
	}{
		{DES, AES128, pkcs7.OIDDigestAlgorithmSHA1, crypto.SHA256},
		{TripleDES, AES128, pkcs7.OIDDigestAlgorithmSHA256, crypto.SHA256},
		{AES128, AES128, pkcs7.OIDDigestAlgorithmSHA256, crypto.SHA256},
		{AES192, AES256, pkcs7.OIDDigestAlgorithmSHA384, crypto.SHA384},
		{AES256, AES256, pkcs7.OIDDigestAlgorithmSHA512, crypto.SHA512},
	} {
		t.Run(test.cipher.String(), func(t *testing.T) {
			m := pkcsReq(t, test.cipher)
			m.digest = test.digest
			req := mustParse(t, m.encode(t))
			if err := open(req, true); err != nil {
				t.Fatal(err)
			}
			der, err := testResponder(t).Success(req, leaf, []*x509.Certificate{p.ca.cert})
			if err != nil {
				t.Fatal(err)
			}
			rep := readReply(t, der)
			if rep.status != "0" || rep.kind != "3" || rep.id != "12345/+=" || rep.failInfo != "" {
				t.Errorf("got %+v", rep)
			}
			if !bytes.Equal(rep.recipientNonce, req.SenderNonce) || len(rep.senderNonce) != 16 ||
				bytes.Equal(rep.senderNonce, rep.recipientNonce) {
				t.Errorf("nonces %x %x", rep.senderNonce, rep.recipientNonce)
			}
			if got := hashOf(rep.p7.Signers[0].DigestAlgorithm.Algorithm); got != test.wantDigest {
				t.Errorf("digest %v", got)
			}
			env, f := parseEnvelope(rep.p7.Content)
			if f != nil {
				t.Fatal(f)
			}
			if got := cipherOf(env.Content.Algorithm.Algorithm).cipher; got != test.want {
				t.Errorf("cipher %v", got)
			}
			checkCerts(t, openReply(t, rep, p.phone), leaf, p.ca.cert)
		})
	}
}

// openReply decrypts the reply's envelope with the library.
func openReply(t *testing.T, rep certRep, to party) []byte {
	t.Helper()
	env, err := pkcs7.Parse(rep.p7.Content)
	if err != nil {
		t.Fatal(err)
	}
	content, err := env.Decrypt(to.cert, to.key)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func checkCerts(t *testing.T, der []byte, want ...*x509.Certificate) {
	t.Helper()
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if len(p7.Certificates) != len(want) || len(p7.Signers) != 0 || len(p7.Content) != 0 {
		t.Fatalf("%d certificates, %d signers, %d bytes", len(p7.Certificates), len(p7.Signers), len(p7.Content))
	}
	for i, cert := range p7.Certificates {
		if !cert.Equal(want[i]) {
			t.Errorf("certificate %d is %v", i, cert.Subject)
		}
	}
}

func TestFailAndPending(t *testing.T) {
	req := mustParse(t, pkcsReq(t, AES128).encode(t))
	r := testResponder(t)
	for _, text := range []string{"", "challenge expirée"} {
		der, err := r.Fail(req, BadRequest, text)
		if err != nil {
			t.Fatal(err)
		}
		rep := readReply(t, der)
		if rep.status != "2" || rep.failInfo != "2" || rep.failText != text || len(rep.p7.Content) != 0 || rep.id != "12345/+=" {
			t.Errorf("got %+v", rep)
		}
	}
	der, err := r.Pending(req)
	if err != nil {
		t.Fatal(err)
	}
	rep := readReply(t, der)
	if rep.status != "3" || rep.failInfo != "" || len(rep.p7.Content) != 0 {
		t.Errorf("got %+v", rep)
	}
	// OpenSSL wants content, be it empty.
	if !bytes.Contains(der, mustMarshal(t, contentInfo{pkcs7.OIDData, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: []byte{4, 0}}})) {
		t.Error("the content is left out")
	}
}

// A refused request still gets its CertRep, under its own transactionID.
func TestFailOfRefused(t *testing.T) {
	m := pkcsReq(t, AES128)
	m.signer = testParties().ec
	req, err := ParseRequest(m.encode(t))
	f := wantFailure(t, err, BadRequest)
	der, err := testResponder(t).Fail(req, f.Info, f.Text)
	if err != nil {
		t.Fatal(err)
	}
	if rep := readReply(t, der); rep.id != "12345/+=" || rep.failText != f.Text {
		t.Errorf("got %+v", rep)
	}
	if _, err := testResponder(t).Success(req, testParties().ca.cert, nil); err == nil {
		t.Error("a reply was encrypted to an EC key")
	}
}

func TestNewResponderRefuses(t *testing.T) {
	p := testParties()
	if _, err := NewResponder(p.ec.cert, p.ec.key); err == nil {
		t.Error("an EC key was taken")
	}
	if _, err := NewResponder(p.ra.cert, p.phone.key.(*rsa.PrivateKey)); err == nil {
		t.Error("another key was taken")
	}
}
