package scep_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"postern/test/scep"
)

// replies checks cipher and digest of a CertRep.
func replies(c scep.Cipher, d scep.Digest) func(*talk, *answer) error {
	return func(_ *talk, a *answer) error {
		if a.reply.Cipher.Name != c.Name && c.Name != "" {
			return fmt.Errorf("the reply is in %s", a.reply.Cipher.Name)
		}
		if a.reply.Digest.Name != d.Name {
			return fmt.Errorf("the reply is signed over %s", a.reply.Digest.Name)
		}
		return nil
	}
}

func rsaKey(k *talk, bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	k.must(err)
	return key
}

func ecKey(k *talk) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.must(err)
	return key
}

func algorithmRows() []row {
	aes := func(c scep.Cipher) want {
		return success.and("reply in "+c.Name+" and SHA-256", replies(c, scep.SHA256))
	}
	unknown := asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 2} // RC2
	return []row{
		{section: "2.9", sent: "AES-128, SHA-256", want: aes(scep.AES128), send: send()},
		{section: "3.5.2", sent: "AES-256", want: aes(scep.AES256), send: send(using(scep.AES256))},
		{section: "3.5.2", sent: "AES-192", want: aes(scep.AES256), send: send(using(scep.AES192))},
		{section: "2.9", sent: "3DES", want: failure(scep.BadAlg), send: send(using(scep.TripleDES))},
		{section: "2.9", sent: "single DES", want: failure(scep.BadAlg), send: send(using(scep.DES))},
		{section: "3.2.1.4", sent: "RC2", want: failure(scep.BadAlg), send: send(msg(func(m *scep.Message) { m.Seal.OID = unknown }))},
		{section: "7.9", sent: "a signature over SHA-1", want: failure(scep.BadAlg), send: send(digest(scep.SHA1))},
		{section: "2.9", sent: "a signature over MD5", want: failure(scep.BadAlg), send: send(digest(scep.MD5))},
		{section: "3.5.2", sent: "a signature over SHA-384", want: success.and("reply over SHA-384", replies(scep.Cipher{}, scep.SHA384)), send: send(digest(scep.SHA384))},
		{section: "3.5.2", sent: "a signature over SHA-512", want: success.and("reply over SHA-512", replies(scep.Cipher{}, scep.SHA512)), send: send(digest(scep.SHA512))},
		{section: "3.1", sent: "SignerInfo with sha256WithRSAEncryption", want: success, send: send(msg(func(m *scep.Message) { m.SignatureOID = scep.OIDRSASHA256 }))},
		{section: "3.1", sent: "SignerInfo with an unknown algorithm", want: failure(scep.BadAlg), send: send(msg(func(m *scep.Message) { m.SignatureOID = unknown }))},
		{section: "3.1", sent: "SignerInfo whose algorithm contradicts its digest", want: failure(scep.BadAlg, scep.BadMessageCheck),
			send: send(digest(scep.SHA512), msg(func(m *scep.Message) { m.SignatureOID = scep.OIDRSASHA256 }))},
		{section: "3.2.2", sent: "a content key in RSAES-OAEP", want: success, send: send(msg(func(m *scep.Message) { m.Seal.OAEP = true }))},
		{section: "3.2.2", sent: "a recipient by its key identifier", want: success, send: send(msg(func(m *scep.Message) { m.Seal.BySKI = true }))},
		{section: "ours", sent: "3DES, legacy clients allowed", want: success.and("reply in AES and SHA-256", replies(scep.AES128, scep.SHA256)), send: send(using(scep.TripleDES)), needs: legacy},
		{section: "ours", sent: "single DES and SHA-1, legacy clients allowed", want: success.and("reply in AES and SHA-256", replies(scep.AES128, scep.SHA256)),
			send: send(using(scep.DES), digest(scep.SHA1)), needs: legacy},
		{section: "3.5.2", sent: "GetCACaps, legacy clients allowed", want: gives("text/plain").and("DES3 and SHA-1", lists("DES3", "SHA-1")), send: get("GetCACaps"), needs: legacy},
		{section: "3.3.1", sent: "an RSA key of 3072 bits", want: success, send: func(k *talk) *answer { return k.pkcsReq(func(r *request) { r.csr.Key = rsaKey(k, 3072) }) }},
		{section: "ours", sent: "an RSA key of 1024 bits", want: failure(scep.BadAlg), send: func(k *talk) *answer {
			key := rsaKey(k, 1024)
			return k.pkcsReq(func(r *request) { r.csr.Key, r.signerKey = key, k.key() })
		}},
		{section: "ours", sent: "message signed with an RSA key of 1024 bits", want: failure(scep.BadAlg, scep.BadRequest), send: func(k *talk) *answer {
			key := rsaKey(k, 1024)
			return k.pkcsReq(func(r *request) { r.csr.Key = key })
		}},
		{section: "3.1", sent: "an EC key, message signed with it: the reply cannot be encrypted to it", want: failure(), send: func(k *talk) *answer {
			return k.pkcsReq(func(r *request) { r.csr.Key = ecKey(k) })
		}},
		{section: "2.5", sent: "RenewalReq for an EC key, signed with an RSA certificate", want: success, send: func(k *talk) *answer {
			return k.renewal(k.enrol(), func(r *request) { r.csr.Key = ecKey(k) })
		}},
	}
}

// echo is a transactionID that must come back as it is; acceptable compares it.
func echo(id string) func(*talk) *answer {
	return func(k *talk) *answer { return k.pkcsReq(transaction(id)) }
}

func attributeRows() []row {
	decimal := func() string {
		n, err := rand.Int(rand.Reader, new(big.Int).Exp(big.NewInt(10), big.NewInt(76), nil))
		if err != nil {
			panic(err)
		}
		return "1" + fmt.Sprintf("%076d", n)
	}
	nonce := func(b []byte) scep.Attribute { return scep.NewAttribute(scep.OIDSenderNonce, b) }
	messageType := func(s string) scep.Attribute { return scep.NewAttribute(scep.OIDMessageType, scep.Printable(s)) }
	return []row{
		{section: "3.2.1.1", sent: "a transactionID of 77 decimal digits", want: success.and("echoed", fine), send: func(k *talk) *answer { return echo(decimal())(k) }},
		{section: "3.2.1.1", sent: "a transactionID with \"/\", \"+\" and \"=\"", want: success.and("echoed", fine), send: func(k *talk) *answer { return echo(scep.NewTransactionID() + "/+==")(k) }},
		{section: "3.2.1.1", sent: "no transactionID", want: refused, send: send(without(scep.OIDTransactionID))},
		{section: "3.2.1.1", sent: "an empty transactionID", want: refused, send: send(with(scep.NewAttribute(scep.OIDTransactionID, scep.Printable(""))))},
		{section: "3.2.1.1", sent: "two transactionIDs", want: refused, send: send(twice(scep.NewAttribute(scep.OIDTransactionID, scep.Printable("other"))))},
		{section: "3.2.1.1", sent: "a transactionID of 4 kB", want: refused, send: func(k *talk) *answer { return echo(strings.Repeat("a", 4096))(k) }},
		{section: "3.2.1.1", sent: "a transactionID with line breaks", want: refused, send: func(k *talk) *answer { return echo("a\r\nb\x00")(k) }},
		{section: "3.2.1.2", sent: "no messageType", want: refused, send: send(without(scep.OIDMessageType))},
		{section: "3.2.1.2", sent: "two messageTypes", want: refused, send: send(twice(messageType("20")))},
		{section: "3.2.1.2", sent: "a messageType that is no number", want: refused, send: send(with(messageType("PKCSReq")))},
		{section: "3.2.1.2", sent: "messageType 0", want: refused, send: send(kind(0))},
		{section: "3.2.1.2", sent: "messageType 18 (UpdateReq of an old draft)", want: failure(scep.BadRequest), send: send(kind(18))},
		{section: "3.2.1.2", sent: "messageType 18 without a challenge", want: failure(scep.BadRequest), send: send(kind(18), challenge())},
		{section: "3.2.1.2", sent: "messageType 99", want: failure(scep.BadRequest), send: send(kind(99))},
		{section: "3.2.1.2", sent: "CertRep as a request", want: refused, send: send(kind(scep.CertRep))},
		{section: "3.2.1.2", sent: "messageType outside the signature", want: refused, send: send(without(scep.OIDMessageType), msg(func(m *scep.Message) {
			m.Unsigned = []scep.Attribute{messageType("19")}
		}))},
		{section: "3.2.1.5", sent: "no senderNonce", want: refused, send: send(without(scep.OIDSenderNonce))},
		{section: "3.2.1.5", sent: "an empty senderNonce", want: refused, send: send(with(nonce([]byte{})))},
		{section: "3.2.1.5", sent: "a senderNonce of 1 kB", want: refused, send: send(with(nonce(make([]byte, 1024))))},
		{section: "3.2.1.5", sent: "two senderNonces", want: refused, send: send(twice(nonce(scep.NewNonce())))},
		{section: "3.2.1", sent: "attributes that nobody knows, and a recipientNonce", want: success, send: send(with(scep.NewAttribute(scep.OIDRecipientNonce, scep.NewNonce())),
			with(scep.NewAttribute(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, "x")))},
		{section: "3.2.1", sent: "a pkiStatus in the request", want: success, send: send(with(scep.NewAttribute(scep.OIDPKIStatus, scep.Printable("0"))))},
		{section: "3.2.1", sent: "an attribute with two values", want: refused, send: send(with(scep.Attribute{Type: scep.OIDTransactionID,
			Values: []asn1.RawValue{scep.Printable("a"), scep.Printable("b")}}))},
		{section: "3.2.1", sent: "no signed attributes", want: refused, send: send(msg(func(m *scep.Message) { m.NoSigned = true }))},
		{section: "3.2.1.4", sent: "a signingTime of now", want: success, send: send(msg(func(m *scep.Message) { m.SigningTime = time.Now() }))},
		{section: "3.2.1.4", sent: "a signingTime in ten years, when the signer's certificate has expired", want: failure(scep.BadTime),
			send: send(msg(func(m *scep.Message) { m.SigningTime = time.Now().AddDate(10, 0, 0) }))},
		{section: "2.3", sent: "a signer with a clock that is wrong by years, no signingTime", want: success, send: func(k *talk) *answer {
			return k.pkcsReq(func(r *request) {
				var err error
				r.signerKey = r.csr.Key
				r.signer, err = scep.SelfSigned(r.csr.Key, r.csr.Subject(), time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC))
				k.must(err)
			})
		}},
	}
}

// fine adds no condition: what it would check is checked of every CertRep.
func fine(*talk, *answer) error { return nil }

func integrityRows() []row {
	check, refuse := failure(scep.BadMessageCheck), refused
	spoil := func(f func(*scep.SignedFields)) change { return msg(func(m *scep.Message) { m.Spoil = f }) }
	flip := func(b []byte) { b[len(b)-1] ^= 1 }
	stranger := func(k *talk) change {
		key := k.key()
		cert, err := scep.SelfSigned(key, k.to.RawSubject, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		k.must(err)
		return msg(func(m *scep.Message) { m.Seal.To = cert })
	}
	return []row{
		{section: "3.1", sent: "a damaged signature", want: check, send: send(spoil(func(f *scep.SignedFields) { flip(f.Signature) }))},
		{section: "3.1", sent: "a damaged envelope", want: check, send: send(spoil(func(f *scep.SignedFields) { f.Content = bytes.Clone(f.Content); flip(f.Content) }))},
		{section: "3.1", sent: "a transactionID changed after signing", want: refuse, send: send(transaction("aaaaaaaa"), msg(func(m *scep.Message) {
			m.Spoil = func(f *scep.SignedFields) {
				m.TransactionID = "bbbbbbbb" // which the answer repeats
				f.Attributes = bytes.Replace(f.Attributes, []byte("aaaaaaaa"), []byte(m.TransactionID), 1)
			}
		}))},
		{section: "3.1", sent: "a message digest of something else", want: check, send: send(with(scep.NewAttribute(scep.OIDMessageDigest, make([]byte, 32))))},
		{section: "3.1", sent: "signed with another key than the certificate's", want: check, send: func(k *talk) *answer {
			return k.pkcsReq(msg(func(m *scep.Message) { m.SignerKey = k.key() }))
		}},
		{section: "3.2", sent: "two SignerInfos", want: refuse, send: send(msg(func(m *scep.Message) { m.Signers = 2 }))},
		{section: "3.2", sent: "no SignerInfo", want: refuse, send: send(msg(func(m *scep.Message) { m.Signers = -1 }))},
		{section: "2.3", sent: "without the signer's certificate", want: refuse, send: send(msg(func(m *scep.Message) { m.Certificates = nil }))},
		{section: "2.3", sent: "with the CA's chain beside the signer's certificate", want: success, send: func(k *talk) *answer {
			return k.pkcsReq(msg(func(m *scep.Message) { m.Certificates = append(slices.Clone(k.chain), m.Certificates...) }))
		}},
		{section: "3.2", sent: "two certificates that could both be the signer's", want: refuse, send: twins},
		{section: "3.2.2", sent: "PKCSReq without an envelope", want: failure(scep.BadRequest), send: send(msg(func(m *scep.Message) { m.Envelope = []byte{} }))},
		{section: "3.2.2", sent: "something else than an EnvelopedData", want: failure(), send: send(msg(func(m *scep.Message) { m.Envelope = []byte{0x30, 0x03, 0x02, 0x01, 0x01} }))},
		{section: "3.2.2", sent: "an envelope for somebody else", want: failure(scep.BadMessageCheck, scep.BadRequest), send: func(k *talk) *answer { return k.pkcsReq(stranger(k)) }},
		{section: "3.3.1", sent: "an envelope without a CSR in it", want: failure(), send: send(func(r *request) { r.content = []byte("no CSR") })},
		{section: "3.3.1", sent: "a CSR whose own signature is wrong", want: failure(scep.BadMessageCheck, scep.BadRequest), send: send(csr(func(c *scep.CSR) { c.Spoil = true }))},
		{section: "ours", sent: "bad padding, a bad content key, damaged content, a damaged CSR", want: fact("the same answer to all of them"), send: oracle},
	}
}

// twins sends two certificates with the same issuer and serial number, and different keys.
func twins(k *talk) *answer {
	return k.pkcsReq(msg(func(m *scep.Message) {
		other := k.key()
		m.Certificates = append(m.Certificates, k.copyOf(m.Signer, m.Signer, other, other))
	}))
}

// oracle compares what a server says to somebody who feels his way to the content of a captured envelope.
func oracle(k *talk) *answer {
	seal := func(f func(*scep.Seal)) change { return msg(func(m *scep.Message) { f(&m.Seal) }) }
	variants := []struct {
		name   string
		change change
	}{
		{"bad padding", seal(func(s *scep.Seal) {
			s.Plain = func(b []byte) []byte { b[len(b)-1] = 0x77; return b }
		})},
		{"a bad content key", seal(func(s *scep.Seal) {
			s.Sealed = func(key, _, _ []byte) { key[len(key)-1] ^= 1 }
		})},
		{"damaged content", seal(func(s *scep.Seal) {
			s.Sealed = func(_, iv, _ []byte) { iv[0] ^= 1 }
		})},
		{"content that is no CSR", func(r *request) { r.content = []byte("no CSR") }},
		{"a damaged CSR", csr(func(c *scep.CSR) { c.Spoil = true })},
	}
	first := ""
	for _, v := range variants {
		a := k.pkcsReq(v.change)
		said := a.String()
		if a.reply != nil {
			said += ": " + a.reply.FailInfoText
		}
		if a.reply != nil && a.reply.Status == scep.Success || a.http != nil && a.http.Status >= 500 {
			k.failf("%s: %s", v.name, a)
		}
		if first == "" {
			first = said
		}
		if said != first {
			k.failf("%s can be told from %s", v.name, variants[0].name)
		}
	}
	return nil
}
