package ca_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/trust"
)

func TestOfflineRoot(t *testing.T) {
	t.Parallel()
	away := filepath.Join(t.TempDir(), "usb", "root")
	d := newDisk(t, ca.Options{OfflineRoot: away})
	if _, err := os.Stat(filepath.Join(d.dir, "root.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the root's key is here: %v", err)
	}
	if d.Online(ca.RootCA) || !d.Online(ca.IssuingCA) || d.Online("other") {
		t.Error("who is online")
	}
	if err := d.crl(ca.RootCA); !errors.Is(err, ca.ErrOffline) {
		t.Errorf("CRL of the root: %v", err)
	}
	if err := ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), ca.RotateIssuing); !errors.Is(err, ca.ErrOffline) {
		t.Errorf("rotation without the root: %v", err)
	}
	d.must(d.crl(ca.IssuingCA))
	issuing := d.Chain()[0]
	if len(issuing.OCSPServer) != 0 || strings.Contains(string(issuing.Raw), "delta") || issuing.CRLDistributionPoints[0] != "http://127.0.0.1:8080/contoso/root.crl" {
		t.Errorf("the issuing CA promises what an offline root does not do: %v %v", issuing.OCSPServer, issuing.CRLDistributionPoints)
	}
	d.openssl(issue(t, d.Issuer, catest.Request(t, d.Issuer, "alice@contoso.com", ecKey(t, elliptic.P256()))).Cert)
	server := filepath.Join(t.TempDir(), "edge.pem")
	d.must(d.ServerCertificate(server, server+".key", "mail.contoso.com"))
	// The RA is rotated without the root.
	d.must(ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), ca.RotateRA))
	d.must(ca.Activate(d.dir, d.now()))
	d.reload()
	rootCRLs(t, d, away)
	rotateOffline(t, d, away)
}

// rootCRLs signs on the machine of the root and imports here.
func rootCRLs(t *testing.T, d *disk, away string) {
	t.Helper()
	first, err := d.StoredCRL(ca.RootCA)
	d.must(err)
	l, err := x509.ParseRevocationList(first)
	d.must(err)
	d.must(l.CheckSignatureFrom(d.Chain()[1]))
	if _, err := d.StoredCRL(ca.IssuingCA); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("stored CRL of the issuing CA: %v", err)
	}
	entry := x509.RevocationListEntry{SerialNumber: big.NewInt(77), RevocationTime: d.now(), ReasonCode: 2}
	second, err := ca.SignRootCRLOffline(away, d.phrase, d.now(), 90*24*time.Hour, entry)
	d.must(err)
	third, err := ca.SignRootCRLOffline(away, d.phrase, d.now(), 90*24*time.Hour)
	d.must(err)
	if l, err = x509.ParseRevocationList(third); err != nil || len(l.RevokedCertificateEntries) != 1 || l.RevokedCertificateEntries[0].ReasonCode != 2 {
		t.Errorf("the third CRL forgets: %v", err)
	}
	d.must(d.ImportCRL(second))
	d.must(ca.ImportCRL(d.dir, third, d.now())) // as the command line does
	d.must(ca.ImportCRL(d.dir, third, d.now()))
	d.reload()
	if now, err := d.StoredCRL(ca.RootCA); err != nil || !slices.Equal(now, third) {
		t.Errorf("not the third CRL: %v", err)
	}
	other := catest.New(t)
	foreign, err := other.SignCRL(t.Context(), ca.RootCA, ca.CRL{Number: new(big.Int).Add(l.Number, big.NewInt(1)), ThisUpdate: d.now(), NextUpdate: d.now().Add(time.Hour)})
	d.must(err)
	for what, raw := range map[string][]byte{"older": second, "foreign": foreign.DER, "nothing": nil, "noise": []byte("noise"), "large": make([]byte, 65<<10)} {
		if err := d.ImportCRL(raw); err == nil {
			t.Errorf("%s: imported", what)
		}
	}
	if err := d.ImportCRL(second); !errors.Is(err, trust.ErrConflict) {
		t.Errorf("older: %v", err)
	}
	for what, at := range map[string]time.Time{"expired": d.now().AddDate(1, 0, 0), "future": d.now().Add(-time.Hour)} {
		if err := ca.ImportCRL(d.dir, third, at); err == nil {
			t.Errorf("%s: imported", what)
		}
	}
	for _, life := range []time.Duration{0, time.Hour, 3 * 366 * 24 * time.Hour} {
		if _, err := ca.SignRootCRLOffline(away, d.phrase, d.now(), life); !errors.Is(err, trust.ErrInvalid) {
			t.Errorf("life of %s: %v", life, err)
		}
	}
	if _, err := ca.SignRootCRLOffline(away, d.phrase, d.now().Add(-time.Hour), 90*24*time.Hour); err == nil {
		t.Error("signed while the clock is behind")
	}
}

// A CA that the root has revoked is not put in force, and one that is in force makes the issuer unhealthy. Before its end, the root's CRL is asked for.
func TestRevokedByOfflineRoot(t *testing.T) {
	t.Parallel()
	away := filepath.Join(t.TempDir(), "root")
	d := newDisk(t, ca.Options{OfflineRoot: away})
	trouble := func(problem, warning string) {
		t.Helper()
		if p, w := d.RootTrouble(); (p == "") != (problem == "") || !strings.Contains(p, problem) || (w == "") != (warning == "") || !strings.Contains(w, warning) {
			t.Errorf("problem %q, warning %q; want %q, %q", p, w, problem, warning)
		}
	}
	revoke := func(list ...*x509.Certificate) {
		t.Helper()
		d.clock.Add(1)
		var entries []x509.RevocationListEntry
		for _, c := range list {
			entries = append(entries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: d.now(), ReasonCode: 2})
		}
		crl, err := ca.SignRootCRLOffline(away, d.phrase, d.now(), 90*24*time.Hour, entries...)
		d.must(err)
		d.must(ca.ImportCRL(d.dir, crl, d.now()))
		d.reload()
	}
	prepare := func() *x509.Certificate {
		t.Helper()
		path, err := ca.CSR(d.dir, catest.Spec(), d.phrase)
		d.must(err)
		csr, err := os.ReadFile(path)
		d.must(err)
		chain, err := ca.SignIssuingOffline(away, d.phrase, d.now(), csr)
		d.must(err)
		d.must(ca.Import(d.dir, catest.Spec(), d.phrase, d.now(), chain))
		d.reload()
		return d.NextCA()[1]
	}
	trouble("", "")
	first := d.Chain()[0]
	revoke(prepare())
	trouble("", "")
	if err := ca.Activate(d.dir, d.now()); err == nil || !strings.Contains(err.Error(), "revoked by the root") {
		t.Errorf("a revoked CA: %v", err)
	}
	d.must(ca.Withdraw(d.dir, d.now()))
	revoke(first)
	trouble(first.Subject.CommonName, "")
	prepare()
	d.must(ca.Activate(d.dir, d.now()))
	d.reload()
	trouble("", "")
	d.clock.Add(61 * 24 * 3600)
	trouble("", "import-crl")
	revoke()
	trouble("", "")
	d.clock.Add(91 * 24 * 3600) // it has expired: the publisher says that
	trouble("", "")
}

// rotateOffline has the root sign the next issuing CA where it is.
func rotateOffline(t *testing.T, d *disk, away string) {
	t.Helper()
	path, err := ca.CSR(d.dir, catest.Spec(), d.phrase)
	d.must(err)
	if again, err := ca.CSR(d.dir, catest.Spec(), d.phrase); err != nil || again != path || filepath.Base(path) != "issuing-2.csr" {
		t.Errorf("asked again: %s %s %v", path, again, err)
	}
	csr, err := os.ReadFile(path)
	d.must(err)
	chain, err := ca.SignIssuingOffline(away, d.phrase, d.now(), csr)
	d.must(err)
	d.must(ca.Import(d.dir, catest.Spec(), d.phrase, d.now(), chain))
	d.reload()
	if got := d.ids(); !slices.Equal(got, []string{"issuing", "root", "issuing-2"}) || len(d.NextCA()) != 3 {
		t.Errorf("CAs %v", got)
	}
	d.must(ca.Activate(d.dir, d.now()))
	d.reload()
	got := issue(t, d.Issuer, catest.Request(t, d.Issuer, "alice@contoso.com", ecKey(t, elliptic.P256())))
	if got.Record.CA != "issuing-2" {
		t.Errorf("issued by %s", got.Record.CA)
	}
	d.openssl(got.Cert)
	other, err := ca.CSR(filepath.Join(t.TempDir(), "fabrikam"), func() ca.Spec { s := catest.Spec(); s.Organization = "Fabrikam"; return s }(), d.phrase)
	d.must(err)
	foreign, err := os.ReadFile(other)
	d.must(err)
	for what, raw := range map[string][]byte{"another organization": foreign, "noise": []byte("x"), "two": append(slices.Clone(csr), csr...)} {
		if _, err := ca.SignIssuingOffline(away, d.phrase, d.now(), raw); err == nil {
			t.Errorf("%s: signed", what)
		}
	}
}
