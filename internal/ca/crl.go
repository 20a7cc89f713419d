package ca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// CRL is what a certificate revocation list is to say (RFC 5280, section 5). All times are cut to seconds.
type CRL struct {
	Number      *big.Int // crlNumber, one sequence for complete and delta CRLs of a CA, at most 20 octets
	ThisUpdate  time.Time
	NextUpdate  time.Time
	NextPublish time.Time // when to look for the next one; zero leaves the extension out
	BaseNumber  *big.Int  // for a delta CRL, the complete CRL that it completes; nil for a complete CRL
	Entries     []x509.RevocationListEntry
	FreshestURL string // where the delta CRL is; empty leaves the extension out, and in a delta CRL it must be empty (section 5.2.6)
}

// SignCRL signs a complete or delta CRL of the CA, parses it back, verifies it and returns its DER. It has no issuingDistributionPoint: its scope is
// everything the CA has issued.
func (i *Issuer) SignCRL(ctx context.Context, caID string, c CRL) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := i.signCRL(caID, c)
	if err != nil {
		return nil, fmt.Errorf("sign CRL of CA %s: %w", caID, err)
	}
	return raw, nil
}

func (i *Issuer) signCRL(caID string, c CRL) ([]byte, error) {
	ca, err := i.state.Load().ca(caID)
	if err != nil {
		return nil, err
	}
	if ca.key == nil {
		return nil, ErrOffline
	}
	return ca.signCRL(c)
}

// signCRL signs with the pair's key.
func (p pair) signCRL(c CRL) ([]byte, error) {
	c.ThisUpdate, c.NextUpdate = c.ThisUpdate.UTC().Truncate(time.Second), c.NextUpdate.UTC().Truncate(time.Second)
	if err := c.check(); err != nil {
		return nil, err
	}
	t := &x509.RevocationList{Number: c.Number, ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate, RevokedCertificateEntries: c.Entries}
	var err error
	if t.ExtraExtensions, err = c.extensions(); err != nil {
		return nil, err
	}
	raw, err := x509.CreateRevocationList(rand.Reader, t, p.cert, p.key)
	if err != nil {
		return nil, err
	}
	if err := c.validate(raw, p.cert, t.ExtraExtensions); err != nil {
		return nil, fmt.Errorf("what was signed is not what was promised: %w", err)
	}
	return raw, nil
}

func (c CRL) check() error {
	switch {
	case c.Number == nil || c.Number.Sign() <= 0:
		return errors.New("want a positive number")
	case !c.NextUpdate.After(c.ThisUpdate):
		return errors.New("nextUpdate is not after thisUpdate")
	case !c.NextPublish.IsZero() && (c.NextPublish.Before(c.ThisUpdate) || c.NextPublish.After(c.NextUpdate)):
		return errors.New("next CRL publish is not between thisUpdate and nextUpdate")
	case c.BaseNumber != nil && (c.BaseNumber.Sign() <= 0 || c.BaseNumber.Cmp(c.Number) >= 0):
		return errors.New("the base of a delta CRL must have a lower number")
	case c.BaseNumber != nil && c.FreshestURL != "":
		return errors.New("a delta CRL must not have freshestCRL")
	}
	for n, e := range c.Entries {
		switch {
		case e.SerialNumber == nil || e.SerialNumber.Sign() <= 0:
			return fmt.Errorf("entry %d has no positive serial number", n)
		case e.ReasonCode < 0 || e.ReasonCode == 7 || e.ReasonCode > 10:
			return fmt.Errorf("entry %x has reason %d, which does not exist", e.SerialNumber, e.ReasonCode)
		case e.ReasonCode == 8 && c.BaseNumber == nil:
			return fmt.Errorf("entry %x: removeFromCRL is for delta CRLs only", e.SerialNumber)
		}
	}
	return nil
}

// extensions returns those that crypto/x509 does not make itself.
func (c CRL) extensions() ([]pkix.Extension, error) {
	var list []pkix.Extension
	if c.BaseNumber != nil {
		value, err := asn1.Marshal(c.BaseNumber)
		if err != nil {
			return nil, err
		}
		list = append(list, pkix.Extension{Id: oidDeltaIndicator, Critical: true, Value: value}) // section 5.2.4
	}
	if c.FreshestURL != "" {
		fresh, err := freshestCRL(c.FreshestURL)
		if err != nil {
			return nil, err
		}
		list = append(list, fresh)
	}
	if !c.NextPublish.IsZero() {
		value, err := asn1.Marshal(c.NextPublish.UTC().Truncate(time.Second)) // UTCTime through 2049, as for every Time in a CRL
		if err != nil {
			return nil, err
		}
		list = append(list, pkix.Extension{Id: oidNextCRLPublish, Value: value})
	}
	return list, nil
}

func (c CRL) validate(raw []byte, ca *x509.Certificate, extra []pkix.Extension) error {
	l, err := x509.ParseRevocationList(raw)
	if err != nil {
		return err
	}
	if err := l.CheckSignatureFrom(ca); err != nil {
		return err
	}
	switch {
	case !bytes.Equal(l.RawIssuer, ca.RawSubject) || !bytes.Equal(l.AuthorityKeyId, ca.SubjectKeyId):
		return errors.New("another issuer")
	case l.Number.Cmp(c.Number) != 0:
		return fmt.Errorf("number %v instead of %v", l.Number, c.Number)
	case !l.ThisUpdate.Equal(c.ThisUpdate) || !l.NextUpdate.Equal(c.NextUpdate):
		return errors.New("other times")
	case len(l.RevokedCertificateEntries) != len(c.Entries):
		return fmt.Errorf("%d entries instead of %d", len(l.RevokedCertificateEntries), len(c.Entries))
	case len(l.Extensions) != len(extra)+2: // authorityKeyIdentifier and crlNumber
		return fmt.Errorf("%d extensions instead of %d", len(l.Extensions), len(extra)+2)
	}
	for _, w := range extra {
		if !slices.ContainsFunc(l.Extensions, func(e pkix.Extension) bool {
			return e.Id.Equal(w.Id) && e.Critical == w.Critical && bytes.Equal(e.Value, w.Value)
		}) {
			return fmt.Errorf("extension %s is missing or wrong", w.Id)
		}
	}
	for n, e := range l.RevokedCertificateEntries {
		w := c.Entries[n]
		if e.SerialNumber.Cmp(w.SerialNumber) != 0 || e.ReasonCode != w.ReasonCode || !e.RevocationTime.Equal(w.RevocationTime.Truncate(time.Second)) {
			return fmt.Errorf("entry %d is not %x", n, w.SerialNumber)
		}
	}
	return nil
}
