package ca

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// CRL is what a certificate revocation list is to say (RFC 5280, section 5). All times are cut to seconds.
type CRL struct {
	Number      *big.Int // crlNumber, one sequence for complete and delta CRLs of a CA, at most 20 octets
	ThisUpdate  time.Time
	NextUpdate  time.Time
	NextPublish time.Time // when to look for the next one; zero leaves the extension out
	BaseNumber  *big.Int  // for a delta CRL, the complete CRL that it completes; nil for a complete CRL
	Entries     Entries
	FreshestURL string // where the delta CRL is; empty leaves the extension out, and in a delta CRL it must be empty (section 5.2.6)
}

// SignCRL signs a complete or delta CRL of the CA, and returns it as ReadCRL reads it back, once it has been verified and compared with what was asked for. It
// has no issuingDistributionPoint: its scope is everything the CA has issued. It costs a copy of the entries, and reading and hashing what was signed.
func (i *Issuer) SignCRL(ctx context.Context, caID string, c CRL) (*List, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := i.signCRL(caID, c)
	if err != nil {
		return nil, fmt.Errorf("sign CRL of CA %s: %w", caID, err)
	}
	return l, nil
}

func (i *Issuer) signCRL(caID string, c CRL) (*List, error) {
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
func (p pair) signCRL(c CRL) (*List, error) {
	c.ThisUpdate, c.NextUpdate, c.NextPublish = whole(c.ThisUpdate), whole(c.NextUpdate), whole(c.NextPublish)
	if err := c.check(); err != nil {
		return nil, err
	}
	raw, err := c.assemble(p)
	if err != nil {
		return nil, err
	}
	l, err := ReadCRL(raw, p.cert)
	if err == nil {
		err = c.validate(l)
	}
	if err != nil {
		return nil, fmt.Errorf("what was signed is not what was promised: %w", err)
	}
	return l, nil
}

// whole cuts a time to what a CRL can say.
func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func (c CRL) check() error {
	switch {
	case c.Number == nil || c.Number.Sign() <= 0 || c.Number.BitLen() > 159:
		return errors.New("want a positive number of at most 20 octets")
	case !c.NextUpdate.After(c.ThisUpdate):
		return errors.New("nextUpdate is not after thisUpdate")
	case !c.NextPublish.IsZero() && (c.NextPublish.Before(c.ThisUpdate) || c.NextPublish.After(c.NextUpdate)):
		return errors.New("next CRL publish is not between thisUpdate and nextUpdate")
	case c.BaseNumber != nil && (c.BaseNumber.Sign() <= 0 || c.BaseNumber.Cmp(c.Number) >= 0):
		return errors.New("the base of a delta CRL must have a lower number")
	case c.BaseNumber != nil && c.FreshestURL != "":
		return errors.New("a delta CRL must not have freshestCRL")
	case c.BaseNumber == nil && c.Entries.removals > 0:
		return errors.New("removeFromCRL is for delta CRLs only")
	case c.Entries.Size() > MaxEntries:
		return fmt.Errorf("entries of %d octets: at most %d", c.Entries.Size(), MaxEntries)
	}
	return nil
}

// validate compares what was read back with what was asked for. ReadCRL knows the CA and the extensions that may be there.
func (c CRL) validate(l *List) error {
	switch {
	case l.Number.Cmp(c.Number) != 0:
		return fmt.Errorf("number %v instead of %v", l.Number, c.Number)
	case (l.BaseNumber == nil) != (c.BaseNumber == nil) || c.BaseNumber != nil && l.BaseNumber.Cmp(c.BaseNumber) != 0:
		return fmt.Errorf("base number %v instead of %v", l.BaseNumber, c.BaseNumber)
	case !l.ThisUpdate.Equal(c.ThisUpdate) || !l.NextUpdate.Equal(c.NextUpdate) || !l.NextPublish.Equal(c.NextPublish):
		return errors.New("other times")
	case l.FreshestURL != c.FreshestURL:
		return errors.New("another freshestCRL")
	case l.Entries.Count() != c.Entries.Count() || !bytes.Equal(l.Entries.der, c.Entries.der):
		return fmt.Errorf("%d entries that are not the %d intended", l.Entries.Count(), c.Entries.Count())
	}
	return nil
}
