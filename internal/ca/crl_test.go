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
		raw, err := i.SignCRL(t.Context(), c.ID, ca.CRL{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		l, err := x509.ParseRevocationList(raw)
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
	entry := func(reason int) []x509.RevocationListEntry {
		return []x509.RevocationListEntry{{SerialNumber: big.NewInt(9), RevocationTime: now, ReasonCode: reason}}
	}
	base := ca.CRL{Number: big.NewInt(2), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
	sign := func(c ca.CRL) (*x509.RevocationList, error) {
		raw, err := i.SignCRL(t.Context(), ca.IssuingCA, c)
		if err != nil {
			return nil, err
		}
		return x509.ParseRevocationList(raw)
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
		"reason 7":           func(c *ca.CRL) { c.Entries = entry(7) },
		"reason 11":          func(c *ca.CRL) { c.Entries = entry(11) },
		"reason -1":          func(c *ca.CRL) { c.Entries = entry(-1) },
		"removal in base":    func(c *ca.CRL) { c.Entries = entry(8) },
		"no number":          func(c *ca.CRL) { c.Number = nil },
		"number 0":           func(c *ca.CRL) { c.Number = big.NewInt(0) },
		"long number":        func(c *ca.CRL) { c.Number = new(big.Int).Lsh(big.NewInt(1), 161) },
		"no time":            func(c *ca.CRL) { c.NextUpdate = c.ThisUpdate },
		"publish too late":   func(c *ca.CRL) { c.NextPublish = c.NextUpdate.Add(time.Minute) },
		"base not before":    func(c *ca.CRL) { c.BaseNumber = c.Number },
		"freshest in delta":  func(c *ca.CRL) { c.BaseNumber, c.FreshestURL = big.NewInt(1), "http://x.test/y.crl" },
		"entry without name": func(c *ca.CRL) { c.Entries = []x509.RevocationListEntry{{RevocationTime: now}} },
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

// BenchmarkSignCRL signs 10,000 entries and reads them back.
func BenchmarkSignCRL(b *testing.B) {
	i := catest.New(b)
	now := time.Now()
	c := ca.CRL{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
	for n := range int64(10_000) {
		c.Entries = append(c.Entries, x509.RevocationListEntry{SerialNumber: big.NewInt(n + 1), RevocationTime: now, ReasonCode: 4})
	}
	for b.Loop() {
		if _, err := i.SignCRL(b.Context(), ca.IssuingCA, c); err != nil {
			b.Fatal(err)
		}
	}
}
