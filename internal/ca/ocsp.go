package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // a name for an issuer, see certIDHashes
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"postern/internal/trust"
)

// OCSPStatus is what an OCSP answer says of a certificate (RFC 6960, section 2.2).
type OCSPStatus int

// The statuses, with the tags they have in DER.
const (
	OCSPGood    OCSPStatus = 0
	OCSPRevoked OCSPStatus = 1 // also of a certificate on hold
	OCSPUnknown OCSPStatus = 2 // the CA has never issued it
)

// OCSPAnswer is the status of one certificate. All times are cut to seconds.
type OCSPAnswer struct {
	ID         CertID
	Status     OCSPStatus
	ThisUpdate time.Time
	NextUpdate time.Time        // required, and within the life of the responder's certificate, of which 4 days are always left
	RevokedAt  time.Time        // for OCSPRevoked
	Reason     trust.ReasonCode // for OCSPRevoked; unspecified is left out, as CRLs do
}

// OCSPError is a status without an answer (RFC 6960, section 4.2.1).
type OCSPError int

// The errors that a responder sends.
const (
	OCSPMalformedRequest OCSPError = 1
	OCSPInternalError    OCSPError = 2
	OCSPTryLater         OCSPError = 3
	OCSPUnauthorized     OCSPError = 6 // not a CA of this responder
)

// OCSPErrorResponse returns the DER of an OCSPResponse that says only that.
func OCSPErrorResponse(e OCSPError) []byte { return []byte{0x30, 3, byte(cbasn1.ENUM), 1, byte(e)} }

// certIDHashes is how OCSP names a CA: hashes of its name and of its public key. They identify; nothing rests on SHA-1 here.
type certIDHashes struct{ name, key []byte }

// responder is a delegated OCSP responder. Its key lives in memory only.
type responder struct {
	pair
	keyHash []byte // SHA-1, the byKey responder id
	renew   time.Time
}

// prepare computes what Own and OCSP need and makes the first responder.
func (c *signer) prepare(s *state, now time.Time) error {
	c.own = map[string]bool{}
	for _, other := range s.cas {
		if signedBy(other.cert, c.cert) == nil {
			c.own[other.cert.SerialNumber.String()] = true
		}
	}
	for _, ra := range s.ras {
		if signedBy(ra.Cert, c.cert) == nil {
			c.own[ra.Cert.SerialNumber.String()] = true
		}
	}
	if c.key == nil {
		return nil // nobody asks it
	}
	bits, err := publicKeyBits(c.cert.PublicKey)
	if err != nil {
		return err
	}
	n1, k1 := sha1.Sum(c.cert.RawSubject), sha1.Sum(bits) //nolint:gosec // see certIDHashes
	n2, k2 := sha256.Sum256(c.cert.RawSubject), sha256.Sum256(bits)
	c.names = map[crypto.Hash]certIDHashes{crypto.SHA1: {n1[:], k1[:]}, crypto.SHA256: {n2[:], k2[:]}}
	_, err = c.currentResponder(now)
	return err
}

// currentResponder returns a responder with at least a third of its life left, making a new one where needed. The CA's key is not used otherwise.
func (c *signer) currentResponder(now time.Time) (*responder, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.responder; r != nil && now.Before(r.renew) && !now.Before(r.cert.NotBefore) {
		return r, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make OCSP responder: %w", err)
	}
	now = now.UTC().Truncate(time.Second)
	r := &responder{renew: now.Add(responderLife * 2 / 3)}
	r.key = key
	if r.cert, err = sign(responderTemplate(c.spec, c.id, now), c.cert, key.Public(), c.key); err != nil {
		return nil, fmt.Errorf("make OCSP responder: %w", err)
	}
	if r.keyHash, err = keyID(key.Public()); err != nil {
		return nil, fmt.Errorf("make OCSP responder: %w", err)
	}
	c.responder = r
	return r, nil
}

// CAOf returns the CA that a CertID names, or false: then the answer is OCSPUnauthorized (RFC 9919).
func (i *Issuer) CAOf(id CertID) (caID string, ok bool) {
	for _, c := range i.state.Load().cas {
		if c.issued(id) {
			return c.id, true
		}
	}
	return "", false
}

func (c *signer) issued(id CertID) bool {
	h, ok := c.names[id.Hash]
	return ok && bytes.Equal(h.name, id.NameHash) && bytes.Equal(h.key, id.KeyHash)
}

// CertID returns how OCSP names a certificate of the CA; hash is SHA1 or SHA256. It is for answers that are signed before anybody has asked.
func (i *Issuer) CertID(caID string, hash crypto.Hash, serial *big.Int) (CertID, error) {
	c, err := i.state.Load().ca(caID)
	if err != nil {
		return CertID{}, err
	}
	h, ok := c.names[hash]
	if !ok {
		return CertID{}, fmt.Errorf("no CertID with hash %v", hash)
	}
	oid := oidSHA1
	if hash == crypto.SHA256 {
		oid = oidSHA256
	}
	id := CertID{Hash: hash, NameHash: h.name, KeyHash: h.key, Serial: serial}
	id.der, err = der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oid)
				b.AddASN1NULL() // as nearly every client writes it
			})
			b.AddASN1OctetString(h.name)
			b.AddASN1OctetString(h.key)
			b.AddASN1BigInt(serial)
		})
	})
	return id, err
}

// SignOCSP signs a successful response of the CA's delegated responder and returns the DER of the OCSPResponse: responder id by key, the responder's
// certificate included, the nonce echoed if there is one (RFC 6960, section 4.2.1; RFC 9919; RFC 9654).
func (i *Issuer) SignOCSP(ctx context.Context, caID string, nonce []byte, answers ...OCSPAnswer) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := i.state.Load().ca(caID)
	if err == nil && c.key == nil {
		err = ErrOffline
	}
	if err != nil {
		return nil, fmt.Errorf("sign OCSP: %w", err)
	}
	now := i.now()
	r, err := c.currentResponder(now)
	if err != nil {
		return nil, fmt.Errorf("sign OCSP: %w", err)
	}
	if len(answers) == 0 || len(nonce) > maxNonce {
		return nil, errors.New("sign OCSP: want at least one answer and a nonce of at most 128 octets")
	}
	for _, a := range answers {
		if err := a.check(c, r.cert); err != nil {
			return nil, fmt.Errorf("sign OCSP: %w", err)
		}
	}
	raw, err := r.encode(now, nonce, answers)
	if err != nil {
		return nil, fmt.Errorf("sign OCSP: %w", err)
	}
	return raw, nil
}

func (a OCSPAnswer) check(c *signer, responder *x509.Certificate) error {
	switch {
	case !c.issued(a.ID) || a.ID.Serial == nil || a.ID.der == nil:
		return fmt.Errorf("the CertID is not of CA %s", c.id)
	case a.Status < OCSPGood || a.Status > OCSPUnknown:
		return fmt.Errorf("status %d does not exist", a.Status)
	case a.Status == OCSPRevoked && a.RevokedAt.IsZero():
		return errors.New("revoked without a time")
	case !a.NextUpdate.After(a.ThisUpdate):
		return errors.New("nextUpdate is not after thisUpdate")
	case a.NextUpdate.After(responder.NotAfter):
		return fmt.Errorf("nextUpdate is after %s, when the responder's certificate ends", stamp(responder.NotAfter))
	}
	return nil
}

// encode builds and signs the response. golang.org/x/crypto/ocsp knows neither byKey nor a nonce of the response.
func (r *responder) encode(now time.Time, nonce []byte, answers []OCSPAnswer) ([]byte, error) {
	tbs, err := der(func(b *cryptobyte.Builder) { r.addResponseData(b, now, nonce, answers) })
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(tbs)
	sig, err := r.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	basic, err := der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(tbs)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}) // ecdsa-with-SHA256
			})
			b.AddASN1BitString(sig)
			b.AddASN1(tag0Cons, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(r.cert.Raw) })
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Enum(0) // successful
			b.AddASN1(tag0Cons, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidOCSPBasic)
					b.AddASN1OctetString(basic)
				})
			})
		})
	})
}

func (r *responder) addResponseData(b *cryptobyte.Builder, now time.Time, nonce []byte, answers []OCSPAnswer) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag2Cons, func(b *cryptobyte.Builder) { b.AddASN1OctetString(r.keyHash) })
		b.AddASN1GeneralizedTime(now.UTC())
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, a := range answers {
				a.add(b)
			}
		})
		if nonce == nil {
			return
		}
		b.AddASN1(tag1Cons, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidOCSPNonce)
					b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
				})
			})
		})
	})
}

// add encodes a SingleResponse.
func (a OCSPAnswer) add(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(a.ID.der)
		switch a.Status {
		case OCSPRevoked:
			b.AddASN1(tag1Cons, func(b *cryptobyte.Builder) {
				b.AddASN1GeneralizedTime(a.RevokedAt.UTC())
				if n := a.Reason.Number(); n != 0 {
					b.AddASN1(tag0Cons, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(n)) })
				}
			})
		default:
			b.AddASN1(cbasn1.Tag(a.Status).ContextSpecific(), func(*cryptobyte.Builder) {}) // NULL, implicitly tagged
		}
		b.AddASN1GeneralizedTime(a.ThisUpdate.UTC())
		b.AddASN1(tag0Cons, func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(a.NextUpdate.UTC()) })
	})
}
