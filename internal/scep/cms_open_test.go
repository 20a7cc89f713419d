package scep

import (
	"bytes"
	"crypto"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"testing"

	"github.com/smallstep/pkcs7"
)

// envelopeWith changes an envelope's structure.
func envelopeWith(t *testing.T, der []byte, change func(*envelopedData, *keyTransport)) []byte {
	t.Helper()
	env, f := parseEnvelope(der)
	if f != nil {
		t.Fatal(f)
	}
	var kt keyTransport
	if _, err := asn1.Unmarshal(env.Recipients[0].FullBytes, &kt); err != nil {
		t.Fatal(err)
	}
	change(env, &kt)
	raw, err := asn1.Marshal(kt)
	if err != nil {
		t.Fatal(err)
	}
	if len(env.Recipients) > 0 {
		env.Recipients[len(env.Recipients)-1] = asn1.RawValue{FullBytes: raw}
	}
	out, err := asn1.Marshal(*env)
	if err != nil {
		t.Fatal(err)
	}
	out, err = asn1.Marshal(contentInfo{pkcs7.OIDEnvelopedData,
		asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: out}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOpenCiphers(t *testing.T) {
	for _, c := range []Cipher{DES, TripleDES, AES128, AES192, AES256} {
		old := c == DES || c == TripleDES
		r := mustParse(t, pkcsReq(t, c).encode(t))
		err := open(r, false)
		if old {
			wantFailure(t, err, BadAlg)
			err = open(r, true)
		}
		if err != nil || r.Cipher != c {
			t.Errorf("%v: got %v, %v", c, r.Cipher, err)
		}
	}
}

func TestOpenSHA1(t *testing.T) {
	m := pkcsReq(t, AES128)
	m.digest = pkcs7.OIDDigestAlgorithmSHA1
	r := mustParse(t, m.encode(t))
	if !r.SignatureWeak || r.Digest != crypto.SHA1 {
		t.Errorf("got %v", r.Digest)
	}
	wantFailure(t, open(r, false), BadAlg)
	if err := open(r, true); err != nil {
		t.Error(err)
	}
}

// Clients encrypt to every certificate they got; ours is found wherever it is.
func TestOpenRecipients(t *testing.T) {
	p := testParties()
	csr := csrWith(t, p.phone.key, pkix.Name{CommonName: "dev"})
	toRA := sealed(t, csr, AES128)
	toOther, err := seal(csr, p.phone.cert, AES128)
	if err != nil {
		t.Fatal(err)
	}
	other, f := parseEnvelope(toOther)
	if f != nil {
		t.Fatal(f)
	}
	agreement := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: []byte{5, 0}}
	second := envelopeWith(t, toRA, func(e *envelopedData, _ *keyTransport) {
		e.Recipients = []asn1.RawValue{other.Recipients[0], agreement, {}}
	})
	byKeyID := envelopeWith(t, toRA, func(_ *envelopedData, kt *keyTransport) {
		kt.Recipient = asn1.RawValue{Class: asn1.ClassContextSpecific, Bytes: p.ra.cert.SubjectKeyId}
	})
	for name, envelope := range map[string][]byte{"second": second, "by key id": byKeyID} {
		if err := open(mustParse(t, newMessage(RenewalReq, p.phone, envelope).encode(t)), false); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err = open(mustParse(t, newMessage(PKCSReq, p.phone, toOther).encode(t)), false)
	if f := wantFailure(t, err, BadMessageCheck); !errors.Is(f, ErrNotRecipient) {
		t.Errorf("got %v", f)
	}
}

func TestOpenOAEP(t *testing.T) {
	p := testParties()
	csr := csrWith(t, p.phone.key, pkix.Name{CommonName: "dev"})
	sha256 := mustMarshal(t, pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDDigestAlgorithmSHA256})
	params := mustMarshal(t, struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		Mask pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
	}{
		pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDDigestAlgorithmSHA256},
		pkix.AlgorithmIdentifier{Algorithm: oidMGF1, Parameters: asn1.RawValue{FullBytes: sha256}},
	})
	md5 := mustMarshal(t, struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}}})
	for name, test := range map[string]struct {
		hash   crypto.Hash
		params []byte
		ok     bool
	}{
		"SHA-256": {crypto.SHA256, params, true},
		"default": {crypto.SHA1, []byte{0x30, 0}, true},
		"none":    {crypto.SHA1, nil, true},
		"MD5":     {crypto.SHA1, md5, false},
		"NULL":    {crypto.SHA1, []byte{5, 0}, false},
	} {
		t.Run(name, func(t *testing.T) {
			envelope := envelopeWith(t, sealed(t, csr, AES128), func(_ *envelopedData, kt *keyTransport) {
				key, err := p.ra.key.(*rsa.PrivateKey).Decrypt(nil, kt.EncryptedKey, nil)
				if err != nil {
					t.Fatal(err)
				}
				kt.EncryptedKey, err = rsa.EncryptOAEP(test.hash.New(), rand.Reader, p.ra.cert.PublicKey.(*rsa.PublicKey), key, nil)
				if err != nil {
					t.Fatal(err)
				}
				kt.Algorithm = pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDEncryptionAlgorithmRSAESOAEP,
					Parameters: asn1.RawValue{FullBytes: test.params}}
			})
			err := open(mustParse(t, newMessage(PKCSReq, p.phone, envelope).encode(t)), false)
			if test.ok && err != nil {
				t.Error(err)
			}
			if !test.ok {
				wantFailure(t, err, BadAlg)
			}
		})
	}
}

func mustMarshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOpenFailures(t *testing.T) {
	p := testParties()
	good := sealed(t, csrWith(t, p.phone.key, pkix.Name{CommonName: "dev"}), AES128)
	alg := func(oid ...int) func(*envelopedData, *keyTransport) {
		return func(e *envelopedData, _ *keyTransport) { e.Content.Algorithm.Algorithm = oid }
	}
	certsOnly, _ := CertsOnly(p.ca.cert)
	for name, test := range map[string]struct {
		want     FailInfo
		envelope []byte
	}{
		"RC2":         {BadAlg, envelopeWith(t, good, alg(1, 2, 840, 113549, 3, 2))},
		"AES-128-GCM": {BadAlg, envelopeWith(t, good, alg(2, 16, 840, 1, 101, 3, 4, 1, 6))},
		"EC key": {BadAlg, envelopeWith(t, good, func(_ *envelopedData, k *keyTransport) {
			k.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 3, 132, 1, 12}
		})},
		"not an envelope": {BadRequest, certsOnly},
		"garbage":         {BadRequest, []byte("garbage")},
		"not of data":     {BadRequest, envelopeWith(t, good, func(e *envelopedData, _ *keyTransport) { e.Content.ContentType = pkcs7.OIDSignedData })},
		"odd pieces": {BadRequest, envelopeWith(t, good, func(e *envelopedData, _ *keyTransport) {
			e.Content.Content = asn1.RawValue{Class: 2, IsCompound: true, Bytes: []byte{2, 1, 0}}
		})},
		"many recipients": {BadRequest, envelopeWith(t, good, func(e *envelopedData, _ *keyTransport) {
			for range maxRecipients {
				e.Recipients = append(e.Recipients, e.Recipients[0])
			}
		})},
		"no recipient": {BadMessageCheck, envelopeWith(t, good, func(e *envelopedData, _ *keyTransport) { e.Recipients = nil })},
	} {
		t.Run(name, func(t *testing.T) {
			r := mustParse(t, newMessage(PKCSReq, p.phone, test.envelope).encode(t))
			wantFailure(t, open(r, true), test.want)
			if r.CSR != nil {
				t.Error("there is a CSR")
			}
		})
	}
}

// stubborn is a decrypter that keeps its padding errors, as tokens and cloud
// services do, which ignore the session key length.
type stubborn struct{ *rsa.PrivateKey }

func (s stubborn) Decrypt(_ io.Reader, msg []byte, _ crypto.DecrypterOpts) ([]byte, error) {
	return s.PrivateKey.Decrypt(nil, msg, nil)
}

// Everything that depends on the key fails in the same words.
func TestOpenIsNoOracle(t *testing.T) {
	p := testParties()
	pub := p.ra.cert.PublicKey.(*rsa.PublicKey)
	csr := csrWith(t, p.phone.key, pkix.Name{CommonName: "dev"}, challengeAttr(asn1.TagUTF8String, "secret"))
	good := sealed(t, csr, AES128)
	badSignature := bytes.Clone(csr)
	badSignature[len(csr)-1] ^= 1
	key := func(plain []byte) []byte {
		return envelopeWith(t, good, func(_ *envelopedData, kt *keyTransport) {
			var err error
			if kt.EncryptedKey, err = rsa.EncryptPKCS1v15(rand.Reader, pub, plain); err != nil {
				t.Fatal(err)
			}
		})
	}
	content := func(change func([]byte) []byte) []byte {
		return envelopeWith(t, good, func(e *envelopedData, _ *keyTransport) {
			e.Content.Content = asn1.RawValue{Class: 2, Bytes: change(bytes.Clone(e.Content.Content.Bytes))}
		})
	}
	wantUnreadable(t, map[string]envelopeCase{
		"key of zeros":     {PKCSReq, envelopeWith(t, good, func(_ *envelopedData, kt *keyTransport) { clear(kt.EncryptedKey) })},
		"short ciphertext": {PKCSReq, envelopeWith(t, good, func(_ *envelopedData, kt *keyTransport) { kt.EncryptedKey = kt.EncryptedKey[:9] })},
		"bad RSA padding":  {PKCSReq, envelopeWith(t, good, func(_ *envelopedData, kt *keyTransport) { kt.EncryptedKey[200] ^= 1 })},
		"long key":         {PKCSReq, key(make([]byte, 32))},
		"short key":        {PKCSReq, key(make([]byte, 5))},
		"another key":      {PKCSReq, key(make([]byte, 16))},
		"cut content":      {PKCSReq, content(func(b []byte) []byte { return b[:len(b)-1] })},
		"no last block":    {PKCSReq, content(func(b []byte) []byte { return b[:len(b)-16] })},
		"no content":       {PKCSReq, content(func([]byte) []byte { return nil })},
		"bad padding":      {PKCSReq, content(func(b []byte) []byte { b[len(b)-17] ^= 0x80; return b })},
		"damaged":          {PKCSReq, content(func(b []byte) []byte { b[40] ^= 1; return b })},
		"bad IV": {PKCSReq, envelopeWith(t, good, func(e *envelopedData, _ *keyTransport) {
			e.Content.Algorithm.Parameters = asn1.RawValue{Tag: 4, Bytes: make([]byte, 8)}
		})},
		"not a CSR":            {RenewalReq, sealed(t, []byte{0x30, 0}, AES128)},
		"not DER":              {PKCSReq, sealed(t, []byte("garbage"), AES128)},
		"CSR not signed right": {PKCSReq, sealed(t, badSignature, AES128)},
	})
	if err := mustParse(t, newMessage(PKCSReq, p.phone, good).encode(t)).Open(p.ra.cert, stubborn{p.ra.key.(*rsa.PrivateKey)}, false); err != nil {
		t.Errorf("good message: %v", err)
	}
}

// A name of a certificate shows that it was decrypted only by the issuer in it.
func TestOpenNamesAreNoOracle(t *testing.T) {
	p := testParties()
	name := p.ra.cert.RawIssuer
	list := func(names ...[]byte) []byte {
		values := make([]asn1.RawValue, len(names))
		for i, n := range names {
			values[i].FullBytes = n
		}
		return sealed(t, mustMarshal(t, values), AES128)
	}
	serial := []byte{2, 1, 7}
	wantUnreadable(t, map[string]envelopeCase{
		"CSR as another type": {GetCert, sealed(t, csrWith(t, p.phone.key, pkix.Name{CommonName: "dev"}), AES128)},
		"another issuer":      {GetCRL, list(p.phone.cert.RawSubject, serial)},
		"serial as a poll":    {CertPoll, list(name, serial)},
		"poll as a serial":    {GetCert, list(name, name)},
		"names and more":      {CertPoll, list(name, name, name)},
		"one name":            {CertPoll, list(name)},
	})
}

// envelopeCase is an envelope whose content cannot be had.
type envelopeCase struct {
	kind     MessageType
	envelope []byte
}

func wantUnreadable(t *testing.T, cases map[string]envelopeCase) {
	t.Helper()
	ra := testParties().ra
	key := ra.key.(*rsa.PrivateKey)
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			r := mustParse(t, newMessage(test.kind, testParties().phone, test.envelope).encode(t))
			for _, k := range []crypto.Decrypter{key, stubborn{key}} {
				f := wantFailure(t, r.Open(ra.cert, k, false), BadMessageCheck)
				if f.Text != unreadable(nil).Text {
					t.Errorf("the text is %q", f.Text)
				}
			}
			if r.CSR != nil || r.Challenge != "" || r.Serial != nil || r.Subject != nil {
				t.Error("content was left in the Request")
			}
		})
	}
}

func TestDecryptCBCPadding(t *testing.T) {
	c := AES128.params()
	key, iv := make([]byte, 16), make([]byte, 16)
	block, err := c.newBlock(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		tail []byte
		want int // length of the content; -1 is refused
	}{
		{[]byte{1}, 31}, {[]byte{2, 2}, 30}, {bytes.Repeat([]byte{16}, 16), 16},
		{[]byte{0}, -1}, {[]byte{17}, -1}, {[]byte{255}, -1}, {[]byte{1, 2}, -1},
		{append([]byte{15}, bytes.Repeat([]byte{16}, 15)...), -1}, {bytes.Repeat([]byte{17}, 17), -1},
	} {
		plain := append(bytes.Repeat([]byte{0xaa}, 32-len(test.tail)), test.tail...)
		sealed := make([]byte, 32)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, plain)
		got, err := decryptCBC(c, key, iv, sealed)
		if (err == nil) != (test.want >= 0) || (err == nil && len(got) != test.want) {
			t.Errorf("% x: got %d, %v", test.tail, len(got), err)
		}
	}
}
