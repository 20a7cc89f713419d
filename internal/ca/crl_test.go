package ca_test

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
)

func TestSignCRL(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	now := time.Now()
	for _, c := range i.Certificates() {
		signed, err := i.SignCRL(t.Context(), c.ID, ca.CRL{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		l, err := x509.ParseRevocationList(signed.DER)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.CheckSignatureFrom(c.Cert); err != nil || string(l.AuthorityKeyId) != string(c.Cert.SubjectKeyId) || len(l.Extensions) != 2 {
			t.Errorf("%s: %v, extensions %v", c.ID, err, l.Extensions)
		}
		if l.RevokedCertificateEntries != nil {
			t.Errorf("%s: entries %v", c.ID, l.RevokedCertificateEntries)
		}
	}
}

func TestSignCRLReasons(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	now := time.Now()
	entry := func(reason int) ca.Entries {
		t.Helper()
		e, err := ca.EncodeEntries([]x509.RevocationListEntry{{SerialNumber: big.NewInt(9), RevocationTime: now, ReasonCode: reason}})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	base := ca.CRL{Number: big.NewInt(2), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
	sign := func(c ca.CRL) (*x509.RevocationList, error) {
		signed, err := i.SignCRL(t.Context(), ca.IssuingCA, c)
		if err != nil {
			return nil, err
		}
		return x509.ParseRevocationList(signed.DER)
	}
	base.Entries = entry(0)
	if l, err := sign(base); err != nil || len(l.RevokedCertificateEntries[0].Extensions) != 0 {
		t.Errorf("unspecified: %v %v", l, err)
	}
	base.Entries = entry(6)
	if l, err := sign(base); err != nil || l.RevokedCertificateEntries[0].ReasonCode != 6 {
		t.Errorf("hold: %v %v", l, err)
	}
	for what, change := range map[string]func(*ca.CRL){
		"removal in base":   func(c *ca.CRL) { c.Entries = entry(8) },
		"no number":         func(c *ca.CRL) { c.Number = nil },
		"number 0":          func(c *ca.CRL) { c.Number = big.NewInt(0) },
		"long number":       func(c *ca.CRL) { c.Number = new(big.Int).Lsh(big.NewInt(1), 161) },
		"no time":           func(c *ca.CRL) { c.NextUpdate = c.ThisUpdate },
		"publish too late":  func(c *ca.CRL) { c.NextPublish = c.NextUpdate.Add(time.Minute) },
		"base not before":   func(c *ca.CRL) { c.BaseNumber = c.Number },
		"freshest in delta": func(c *ca.CRL) { c.BaseNumber, c.FreshestURL = big.NewInt(1), "http://x.test/y.crl" },
	} {
		c := base
		change(&c)
		if _, err := sign(c); err == nil {
			t.Errorf("%s: signed", what)
		}
	}
	if _, err := i.SignCRL(t.Context(), "other", base); err == nil {
		t.Error("signed for a CA that is not there")
	}
}
