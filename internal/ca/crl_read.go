package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxCRL is the size of the largest CRL that is read, in octets.
const MaxCRL = MaxEntries + 64<<10

// List is a CRL of a CA of ours that was read and verified.
type List struct {
	DER         []byte // the whole; Entries share its memory
	Number      *big.Int
	BaseNumber  *big.Int // of a delta CRL; nil for a complete one
	ThisUpdate  time.Time
	NextUpdate  time.Time
	NextPublish time.Time // zero where the CRL does not say
	FreshestURL string
	Entries     Entries
}

// ReadCRL reads a CRL of the form that SignCRL signs, in DER, and verifies it with the CA's certificate. It takes nothing else: another issuer, algorithm,
// extension or order of entries is an error. It keeps the bytes, and needs memory for a few octets of each thirty-two entries beside them. Not for CRLs of
// others.
func ReadCRL(raw []byte, ca *x509.Certificate) (*List, error) {
	l, err := readCRL(raw, ca)
	if err != nil {
		return nil, fmt.Errorf("read CRL: %w", err)
	}
	return l, nil
}

func readCRL(raw []byte, ca *x509.Certificate) (*List, error) {
	if len(raw) > MaxCRL {
		return nil, fmt.Errorf("%d octets: at most %d", len(raw), MaxCRL)
	}
	alg, err := signatureOf(ca.PublicKey)
	if err != nil {
		return nil, err
	}
	var whole, tbs cryptobyte.String
	outer := cryptobyte.String(raw)
	if !outer.ReadASN1(&whole, cbasn1.SEQUENCE) || !outer.Empty() || !whole.ReadASN1Element(&tbs, cbasn1.SEQUENCE) {
		return nil, errors.New("it is not a CRL in DER")
	}
	var sig asn1.BitString
	if !takeBytes(&whole, alg.identifier) || !whole.ReadASN1BitString(&sig) || !whole.Empty() || sig.BitLength%8 != 0 {
		return nil, errors.New("another signature algorithm than the CA's")
	}
	if ca.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return nil, errors.New("the CA's certificate is not for signing CRLs")
	}
	if err := ca.CheckSignature(alg.name, tbs, sig.Bytes); err != nil {
		return nil, err
	}
	l := &List{DER: raw}
	return l, l.readTBS(tbs, ca, alg)
}

// takeBytes cuts off the beginning, if it is what is wanted.
func takeBytes(s *cryptobyte.String, want []byte) bool {
	var got []byte
	return s.ReadBytes(&got, len(want)) && bytes.Equal(got, want)
}

func (l *List) readTBS(tbs cryptobyte.String, ca *x509.Certificate, alg signature) error {
	var in cryptobyte.String
	var version int
	if !tbs.ReadASN1(&in, cbasn1.SEQUENCE) || !in.ReadASN1Integer(&version) || version != 1 || !takeBytes(&in, alg.identifier) {
		return errors.New("it is not of version 2, or names another algorithm inside")
	}
	if !takeBytes(&in, ca.RawSubject) {
		return errors.New("another issuer")
	}
	if !readTime(&in, &l.ThisUpdate) || !readTime(&in, &l.NextUpdate) {
		return errors.New("malformed thisUpdate or nextUpdate")
	}
	if in.PeekASN1Tag(cbasn1.SEQUENCE) {
		var entries cryptobyte.String
		if !in.ReadASN1(&entries, cbasn1.SEQUENCE) || entries.Empty() {
			return errors.New("malformed or empty revokedCertificates")
		}
		var err error
		if l.Entries, err = ReadEntries(entries); err != nil {
			return err
		}
	}
	var wrapped, list cryptobyte.String
	if !in.ReadASN1(&wrapped, tag0Cons) || !in.Empty() || !wrapped.ReadASN1(&list, cbasn1.SEQUENCE) || !wrapped.Empty() {
		return errors.New("malformed extensions")
	}
	if err := l.readExtensions(list, ca); err != nil {
		return err
	}
	if l.BaseNumber == nil && l.Entries.removals > 0 {
		return errors.New("removeFromCRL in a complete CRL")
	}
	return nil
}

// readTime reads a Time of a CRL, or a GeneralizedTime as Next CRL Publish may be.
func readTime(s *cryptobyte.String, t *time.Time) bool {
	if s.PeekASN1Tag(cbasn1.UTCTime) {
		return s.ReadASN1UTCTime(t)
	}
	return s.ReadASN1GeneralizedTime(t)
}

// readExtensions reads those that SignCRL writes; each may be there once.
func (l *List) readExtensions(list cryptobyte.String, ca *x509.Certificate) error {
	seen := map[string]bool{}
	for !list.Empty() {
		var one, value cryptobyte.String
		var id asn1.ObjectIdentifier
		critical := false
		if !list.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&id) ||
			one.PeekASN1Tag(cbasn1.BOOLEAN) && (!one.ReadASN1Boolean(&critical) || !critical) ||
			!one.ReadASN1(&value, cbasn1.OCTET_STRING) || !one.Empty() {
			return errors.New("malformed extension")
		}
		if seen[id.String()] || critical != id.Equal(oidDeltaIndicator) || !l.readExtension(id, value, ca) {
			return fmt.Errorf("extension %s is malformed, does not belong there, or is there twice", id)
		}
		seen[id.String()] = true
	}
	if !seen[oidAuthorityKeyID.String()] || !seen[oidCRLNumber.String()] {
		return errors.New("without authorityKeyIdentifier or crlNumber")
	}
	return nil
}

func (l *List) readExtension(id asn1.ObjectIdentifier, value cryptobyte.String, ca *x509.Certificate) bool {
	switch {
	case id.Equal(oidAuthorityKeyID):
		var in, key cryptobyte.String
		return value.ReadASN1(&in, cbasn1.SEQUENCE) && value.Empty() && in.ReadASN1(&key, tag0) && in.Empty() && bytes.Equal(key, ca.SubjectKeyId)
	case id.Equal(oidCRLNumber):
		l.Number = new(big.Int)
		return value.ReadASN1Integer(l.Number) && value.Empty() && l.Number.Sign() > 0
	case id.Equal(oidDeltaIndicator):
		l.BaseNumber = new(big.Int)
		return value.ReadASN1Integer(l.BaseNumber) && value.Empty() && l.BaseNumber.Sign() > 0
	case id.Equal(oidNextCRLPublish):
		return readTime(&value, &l.NextPublish) && value.Empty()
	case id.Equal(oidFreshestCRL):
		url, ok := readDistributionPoint(value)
		l.FreshestURL = url
		return ok
	}
	return false
}

// readDistributionPoint reads what distributionPoint writes.
func readDistributionPoint(value cryptobyte.String) (string, bool) {
	var points, point, name, full, url cryptobyte.String
	ok := value.ReadASN1(&points, cbasn1.SEQUENCE) && value.Empty() && points.ReadASN1(&point, cbasn1.SEQUENCE) && points.Empty() &&
		point.ReadASN1(&name, tag0Cons) && point.Empty() && name.ReadASN1(&full, tag0Cons) && name.Empty() && full.ReadASN1(&url, tagURI) && full.Empty()
	return string(url), ok && len(url) > 0
}
