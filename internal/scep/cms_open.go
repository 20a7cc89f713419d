package scep

import (
	"bytes"
	"crypto"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"

	"github.com/smallstep/pkcs7"
)

// maxRecipients is the number of recipients that are looked at. Some clients
// encrypt to every certificate of GetCACert.
const maxRecipients = 16

// Open decrypts the envelope with the recipient's RSA key and reads what is in
// it into the Request: a CSR, or for CertPoll, GetCert and GetCRL the names of a
// certificate, of the CA that has certified the recipient or of one of cas, its other
// generations. legacy admits SHA-1 signatures, DES and triple DES, which are otherwise
// badAlg. The error is a *Failure; its cause is ErrNotRecipient if another
// key may be tried.
//
// SCEP encrypts with CBC and RSA PKCS #1 v1.5, which carry no integrity, and
// anybody can put a captured envelope into a message of his own. A server that tells
// bad padding from bad content reads the challengePassword out to him. So there is one
// failure, the same to the last letter, for everything that depends on the key:
// until the CSR's own signature is verified, or the issuer named is ours.
func (r *Request) Open(cert *x509.Certificate, key crypto.Decrypter, legacy bool, cas ...*x509.Certificate) error {
	if r.SignatureWeak && !legacy {
		return fail(BadAlg, nil, "a SHA-1 signature is refused, use SHA-256")
	}
	env, f := parseEnvelope(r.Envelope)
	if f != nil {
		return f
	}
	p := cipherOf(env.Content.Algorithm.Algorithm)
	if p == nil {
		return fail(BadAlg, nil, "encryption algorithm %s is not supported", oidText(env.Content.Algorithm.Algorithm))
	}
	r.Cipher = p.cipher
	if p.legacy && !legacy {
		return fail(BadAlg, nil, "%s is refused, use AES", p.name)
	}
	sealed, f := env.Content.ciphertext()
	if f != nil {
		return f
	}
	recipient, f := env.recipient(cert)
	if f != nil {
		return f
	}
	opts, f := recipient.options(p.keySize)
	if f != nil {
		return f
	}
	contentKey, keyErr := key.Decrypt(rand.Reader, recipient.EncryptedKey, opts)
	if keyErr != nil || len(contentKey) != p.keySize {
		contentKey = make([]byte, p.keySize)
		rand.Read(contentKey) // go on as if nothing were wrong
	}
	content, err := decryptCBC(p, contentKey, env.Content.Algorithm.Parameters.Bytes, sealed)
	if err != nil {
		return unreadable(errors.Join(keyErr, err))
	}
	return r.readContent(content, append([]*x509.Certificate{cert}, cas...))
}

// unreadable is the one failure for all that depends on the key.
func unreadable(cause error) *Failure {
	return fail(BadMessageCheck, cause, "the message cannot be decrypted, or what is in it is damaged")
}

// parseEnvelope reads the structure of an EnvelopedData.
func parseEnvelope(ber []byte) (*envelopedData, *Failure) {
	const text = "the pkcsPKIEnvelope is not a readable EnvelopedData"
	der, err := normalize(ber)
	if err != nil {
		return nil, fail(BadRequest, err, text)
	}
	var outer contentInfo
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return nil, fail(BadRequest, err, text)
	}
	if !outer.ContentType.Equal(pkcs7.OIDEnvelopedData) {
		return nil, fail(BadRequest, nil, text)
	}
	var env envelopedData
	if rest, err := asn1.Unmarshal(outer.Content.Bytes, &env); err != nil || len(rest) > 0 {
		return nil, fail(BadRequest, err, text)
	}
	if !env.Content.ContentType.Equal(pkcs7.OIDData) {
		return nil, fail(BadRequest, nil, "the pkcsPKIEnvelope holds something else than data")
	}
	if len(env.Recipients) > maxRecipients {
		return nil, fail(BadRequest, nil, "more than %d recipients", maxRecipients)
	}
	return &env, nil
}

// ciphertext returns the encrypted content, whole or in segments.
func (e *encryptedContentInfo) ciphertext() ([]byte, *Failure) {
	if !e.Content.IsCompound {
		return e.Content.Bytes, nil
	}
	var all []byte
	for rest := e.Content.Bytes; len(rest) > 0; {
		var piece []byte
		var err error
		if rest, err = asn1.Unmarshal(rest, &piece); err != nil {
			return nil, fail(BadRequest, err, "the encrypted content is not made of OCTET STRINGs")
		}
		all = append(all, piece...)
	}
	return all, nil
}

// recipient returns the key transport for a certificate.
func (e *envelopedData) recipient(cert *x509.Certificate) (*keyTransport, *Failure) {
	for _, raw := range e.Recipients {
		if raw.Class != asn1.ClassUniversal || raw.Tag != asn1.TagSequence {
			continue // another kind of recipient (RFC 5652, section 6.2)
		}
		var kt keyTransport
		if _, err := asn1.Unmarshal(raw.FullBytes, &kt); err != nil {
			return nil, fail(BadRequest, err, "a recipient of the envelope is unreadable")
		}
		if kt.isFor(cert) {
			return &kt, nil
		}
	}
	return nil, fail(BadMessageCheck, ErrNotRecipient, "the message is not encrypted to this server's certificate")
}

func (k *keyTransport) isFor(cert *x509.Certificate) bool {
	if k.Recipient.Class == asn1.ClassContextSpecific && k.Recipient.Tag == 0 {
		return len(cert.SubjectKeyId) > 0 && bytes.Equal(k.Recipient.Bytes, cert.SubjectKeyId)
	}
	var id issuerAndSerial
	if _, err := asn1.Unmarshal(k.Recipient.FullBytes, &id); err != nil || id.Serial == nil {
		return false
	}
	return bytes.Equal(id.Issuer.FullBytes, cert.RawIssuer) && id.Serial.Cmp(cert.SerialNumber) == 0
}

// options says how to decrypt the content key. With PKCS #1 v1.5 and a session
// key length, crypto/rsa itself answers bad padding with a random key, in
// constant time.
func (k *keyTransport) options(keySize int) (crypto.DecrypterOpts, *Failure) {
	switch alg := k.Algorithm.Algorithm; {
	case alg.Equal(pkcs7.OIDEncryptionAlgorithmRSA):
		return &rsa.PKCS1v15DecryptOptions{SessionKeyLen: keySize}, nil
	case alg.Equal(pkcs7.OIDEncryptionAlgorithmRSAESOAEP):
		return oaepOptions(k.Algorithm.Parameters)
	default:
		return nil, fail(BadAlg, nil, "key transport %s is not supported, use RSA", oidText(alg))
	}
}

var oidMGF1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}

// oaepOptions reads RSAES-OAEP-params (RFC 4055, section 4.1).
func oaepOptions(raw asn1.RawValue) (crypto.DecrypterOpts, *Failure) {
	const text = "unsupported parameters of RSAES-OAEP"
	var params struct {
		Hash   pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:0"`
		Mask   pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:1"`
		Source pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:2"`
	}
	if len(raw.FullBytes) > 0 {
		if rest, err := asn1.Unmarshal(raw.FullBytes, &params); err != nil || len(rest) > 0 {
			return nil, fail(BadAlg, err, text)
		}
	}
	opts := &rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA1}
	if len(params.Hash.Algorithm) > 0 {
		opts.Hash = hashOf(params.Hash.Algorithm)
	}
	if len(params.Mask.Algorithm) > 0 {
		var hash pkix.AlgorithmIdentifier
		if _, err := asn1.Unmarshal(params.Mask.Parameters.FullBytes, &hash); err != nil || !params.Mask.Algorithm.Equal(oidMGF1) {
			return nil, fail(BadAlg, err, text)
		}
		opts.MGFHash = hashOf(hash.Algorithm)
	}
	if opts.Hash == 0 || opts.MGFHash == 0 || len(params.Source.Parameters.Bytes) > 0 {
		return nil, fail(BadAlg, nil, text)
	}
	return opts, nil
}

// decryptCBC decrypts and takes off the padding (RFC 5652, section 6.3).
func decryptCBC(p *cipherParams, key, iv, sealed []byte) ([]byte, error) {
	block, err := p.newBlock(key)
	if err != nil {
		return nil, err
	}
	size := block.BlockSize()
	if len(iv) != size {
		return nil, errors.New("decrypt content: wrong length of the initialisation vector")
	}
	if len(sealed) == 0 || len(sealed)%size != 0 {
		return nil, errors.New("decrypt content: not a whole number of blocks")
	}
	content := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(content, sealed)

	// The same time for every padding, as far as Go goes.
	last := content[len(content)-size:]
	pad := int(last[size-1])
	good := subtle.ConstantTimeLessOrEq(1, pad) & subtle.ConstantTimeLessOrEq(pad, size)
	for i, b := range last {
		inside := subtle.ConstantTimeLessOrEq(size-pad, i)
		good &= subtle.ConstantTimeSelect(inside, subtle.ConstantTimeByteEq(b, byte(pad)), 1)
	}
	if good != 1 {
		return nil, errors.New("decrypt content: bad padding")
	}
	return content[:len(content)-pad], nil
}
