package revocation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"

	"postern/internal/registry"
)

// maxCRL bounds a CRL that is read back from disk, in octets. Entra ID takes 20 MB.
const maxCRL = 64 << 20

// Object identifiers of CRL extensions that crypto/x509 does not read: RFC 5280, section 5.2.4, and Microsoft's szOID_CRL_NEXT_PUBLISH.
var (
	oidDeltaIndicator = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidNextPublish    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 4}
)

// signed is a CRL as the world gets it. It is immutable.
type signed struct {
	record  registry.CRL
	der     []byte
	content listing
	etag    string
	since   time.Time // when it was first served by this process
	told    bool      // found on disk without a record: what it covers is not known, and it is to be replaced
}

// pair is what is served for a CA. A base is always there; delta is nil only while the publisher primes.
type pair struct{ base, delta *signed }

// valid reports whether relying parties accept both at now.
func (p *pair) valid(now time.Time) bool {
	return p != nil && p.delta != nil && !now.After(p.base.record.NextUpdate) && !now.After(p.delta.record.NextUpdate)
}

// covers returns the revision up to which every change is in the pair.
func (p *pair) covers() registry.Revision {
	if p == nil {
		return 0
	}
	if p.delta == nil {
		return p.base.record.Covers
	}
	return p.delta.record.Covers
}

func (p *pair) listings() (base, delta listing) {
	if p == nil {
		return nil, nil
	}
	if p.delta != nil {
		delta = p.delta.content
	}
	return p.base.content, delta
}

// readCRL parses a CRL, verifies its signature with the CA's certificate and returns what it says; Covers, which no CRL says, is left zero.
func readCRL(der []byte, issuer, ca string, cert *x509.Certificate) (*signed, error) {
	if len(der) > maxCRL {
		return nil, fmt.Errorf("CRL of %d octets is larger than %d", len(der), maxCRL)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("parse CRL: %w", err)
	}
	if err := l.CheckSignatureFrom(cert); err != nil {
		return nil, fmt.Errorf("verify CRL: %w", err)
	}
	if !bytes.Equal(l.RawIssuer, cert.RawSubject) || !bytes.Equal(l.AuthorityKeyId, cert.SubjectKeyId) {
		return nil, errors.New("verify CRL: it names another issuer")
	}
	if l.Number == nil || !l.Number.IsUint64() {
		return nil, errors.New("parse CRL: its number does not fit 64 bits")
	}
	sum := sha256.Sum256(der)
	s := &signed{der: der, content: listingOf(l.RevokedCertificateEntries), etag: `"` + hex.EncodeToString(sum[:]) + `"`}
	s.record = registry.CRL{Issuer: issuer, CA: ca, Kind: registry.Base, Number: l.Number.Uint64(), ThisUpdate: l.ThisUpdate.UTC(), NextUpdate: l.NextUpdate.UTC(),
		NextPublish: l.NextUpdate.UTC(), Hash: hex.EncodeToString(sum[:]), Size: len(der), Entries: len(l.RevokedCertificateEntries)}
	if len(s.content) != s.record.Entries {
		return nil, errors.New("parse CRL: a serial number is listed twice")
	}
	return s, s.extensions(l)
}

// extensions reads those that crypto/x509 does not know.
func (s *signed) extensions(l *x509.RevocationList) error {
	for _, e := range l.Extensions {
		switch {
		case e.Id.Equal(oidDeltaIndicator):
			n := new(big.Int)
			if rest, err := asn1.Unmarshal(e.Value, &n); err != nil || len(rest) > 0 || !n.IsUint64() || !e.Critical {
				return errors.New("parse CRL: deltaCRLIndicator is malformed or not critical")
			}
			s.record.Kind, s.record.BaseNumber = registry.Delta, n.Uint64()
		case e.Id.Equal(oidNextPublish):
			var at time.Time
			if rest, err := asn1.Unmarshal(e.Value, &at); err != nil || len(rest) > 0 {
				return errors.New("parse CRL: Next CRL Publish is malformed")
			}
			s.record.NextPublish = at.UTC()
		}
	}
	return nil
}

// matches reports whether the CRL is the one of the record.
func (s *signed) matches(r registry.CRL) bool {
	got := s.record
	return got.Hash == r.Hash && got.Kind == r.Kind && got.Number == r.Number && got.BaseNumber == r.BaseNumber &&
		got.ThisUpdate.Equal(r.ThisUpdate) && got.NextUpdate.Equal(r.NextUpdate)
}
