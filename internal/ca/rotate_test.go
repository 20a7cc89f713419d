package ca_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/peertest"
	"postern/internal/trust"
)

// disk is an issuer in a directory, with a clock.
type disk struct {
	*ca.Issuer
	t      *testing.T
	dir    string
	phrase ca.Passphrase
	clock  atomic.Int64 // Unix seconds
}

func newDisk(t *testing.T, o ca.Options) *disk {
	t.Helper()
	d := &disk{t: t, dir: filepath.Join(t.TempDir(), "contoso"), phrase: phrase(t, "x")}
	d.clock.Store(time.Now().Unix())
	d.must(ca.CreateWith(d.dir, catest.Spec(), d.phrase, d.now(), o))
	d.open()
	return d
}

func (d *disk) now() time.Time { return time.Unix(d.clock.Load(), 0).UTC() }

func (d *disk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) open() {
	d.t.Helper()
	var err error
	d.Issuer, err = ca.Open(d.dir, catest.Spec(), d.phrase, d.now, quiet)
	d.must(err)
	i := d.Issuer
	d.t.Cleanup(func() { _ = i.Close() })
}

// reload takes up what has changed on disk, after the CAs were announced while everything was as before.
func (d *disk) reload() {
	d.t.Helper()
	before, told := d.Changed(), d.ids()
	refused := errors.New("refused")
	if changed, err := d.Reload(func([]ca.CACertificate) error { return refused }); changed || !errors.Is(err, refused) || !slices.Equal(d.ids(), told) {
		d.t.Errorf("refused: %t %v", changed, err)
	}
	var announced []ca.CACertificate
	changed, err := d.Reload(func(all []ca.CACertificate) error {
		announced = all
		select {
		case <-before:
			d.t.Error("changed before it was announced")
		default:
		}
		return nil
	})
	d.must(err)
	if !changed || !slices.EqualFunc(announced, d.Certificates(), func(a, b ca.CACertificate) bool { return a.ID == b.ID && a.Cert.Equal(b.Cert) }) {
		d.t.Errorf("changed %t, announced %v", changed, announced)
	}
	select {
	case <-before:
	default:
		d.t.Error("nobody was told")
	}
}

func (d *disk) ids() (out []string) {
	for _, c := range d.Certificates() {
		out = append(out, c.ID)
	}
	return out
}

func (d *disk) crl(id string) error {
	_, err := d.SignCRL(d.t.Context(), id, ca.CRL{Number: big.NewInt(1), ThisUpdate: d.now(), NextUpdate: d.now().Add(time.Hour)})
	return err
}

// openssl verifies a device certificate against the root, with the issuing CAs that are published.
func (d *disk) openssl(c *x509.Certificate) {
	d.t.Helper()
	openssl := peertest.Find(d.t, "openssl")
	b := bench{d.Issuer, d.t.TempDir()}
	chain := d.Chain()
	b.write(d.t, "leaf.pem", "CERTIFICATE", c.Raw)
	b.write(d.t, "root.pem", "CERTIFICATE", chain[len(chain)-1].Raw)
	var between []byte
	for _, other := range d.Certificates() {
		if other.ID != ca.RootCA {
			b.write(d.t, "one.pem", "CERTIFICATE", other.Cert.Raw)
			between = append(between, b.read(d.t, "one.pem")...)
		}
	}
	for _, other := range chain[1 : len(chain)-1] {
		b.write(d.t, "one.pem", "CERTIFICATE", other.Raw)
		between = append(between, b.read(d.t, "one.pem")...)
	}
	d.must(os.WriteFile(b.path("between.pem"), between, 0o600))
	out, ok := run(d.t, openssl, "verify", "-x509_strict", "-purpose", "sslclient", "-attime", big.NewInt(d.clock.Load()).String(), "-CAfile", b.path("root.pem"),
		"-untrusted", b.path("between.pem"), b.path("leaf.pem"))
	if !ok {
		d.t.Errorf("openssl: %s", out)
	}
}

func TestRotateIssuing(t *testing.T) {
	t.Parallel()
	d := newDisk(t, ca.Options{})
	before := issue(t, d.Issuer, catest.Request(t, d.Issuer, "alice@contoso.com", ecKey(t, elliptic.P256())))
	oldRA, oldChain := d.RACertificate(), d.Chain()
	if d.NextCA() != nil {
		t.Error("a CA is next in a new issuer")
	}
	if _, err := d.NextCAMessage(); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("next CA of a new issuer: %v", err)
	}
	if changed, err := d.Reload(nil); changed || err != nil {
		t.Errorf("reload of nothing: %t %v", changed, err)
	}
	d.must(ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), ca.RotateIssuing))
	if err := ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), ca.RotateRA); !errors.Is(err, trust.ErrConflict) {
		t.Errorf("a second one is next: %v", err)
	}
	d.reload()
	if got := d.ids(); !slices.Equal(got, []string{"issuing", "root", "issuing-2"}) {
		t.Errorf("CAs %v", got)
	}
	// What is next is published, and signs nothing else.
	d.must(d.crl("issuing-2"))
	if got := issue(t, d.Issuer, catest.Request(t, d.Issuer, "alice@contoso.com", ecKey(t, elliptic.P256()))); got.Record.CA != "issuing" || d.RACertificate() == nil ||
		!d.RACertificate().Equal(oldRA) || !d.Chain()[0].Equal(oldChain[0]) {
		t.Error("the next CA is in force already")
	}
	checkNextMessage(t, d, oldChain[0])

	d.must(ca.Activate(d.dir, d.now()))
	if err := ca.Activate(d.dir, d.now()); !errors.Is(err, trust.ErrConflict) {
		t.Errorf("activated twice: %v", err)
	}
	d.reload()
	if got := d.ids(); !slices.Equal(got, []string{"issuing-2", "root", "issuing"}) || d.IssuingCA() != "issuing-2" || d.NextCA() != nil {
		t.Errorf("CAs %v", got)
	}
	after := issue(t, d.Issuer, catest.Request(t, d.Issuer, "alice@contoso.com", ecKey(t, elliptic.P256())))
	if after.Record.CA != "issuing-2" || after.Cert.CRLDistributionPoints[0] != "http://127.0.0.1:8080/contoso/issuing-2.crl" ||
		after.Cert.IssuingCertificateURL[0] != "http://127.0.0.1:8080/contoso/issuing-2.cer" || !strings.Contains(string(after.Cert.Raw), "issuing-2-delta.crl") ||
		after.Cert.Issuer.CommonName != "Contoso Device Issuing CA 2" {
		t.Errorf("%+v", after.Record)
	}
	d.openssl(before.Cert)
	d.openssl(after.Cert)
	checkRetired(t, d, oldRA, oldChain[0], before.Cert)
	// A second opening sees the same.
	d.open()
	if got := d.ids(); !slices.Equal(got, []string{"issuing-2", "root", "issuing"}) {
		t.Errorf("CAs %v", got)
	}
}

// checkNextMessage reads GetNextCACert's answer as a client does.
func checkNextMessage(t *testing.T, d *disk, current *x509.Certificate) {
	t.Helper()
	raw, err := d.NextCAMessage()
	d.must(err)
	outer, err := pkcs7.Parse(raw)
	d.must(err)
	d.must(outer.Verify())
	if !outer.GetOnlySigner().Equal(current) {
		t.Errorf("signed by %v", outer.GetOnlySigner().Subject)
	}
	inner, err := pkcs7.Parse(outer.Content)
	d.must(err)
	next := d.NextCA()
	if len(next) != 3 || len(inner.Certificates) != 3 || !next[1].Equal(inner.Certificates[1]) || next[1].Subject.CommonName != "Contoso Device Issuing CA 2" ||
		next[0].CheckSignatureFrom(next[1]) != nil || !next[2].Equal(d.Chain()[1]) {
		t.Errorf("next: %v", next)
	}
}

// checkRetired: the old CA signs CRLs and OCSP until its last certificate has expired, and the old RA opens messages.
func checkRetired(t *testing.T, d *disk, oldRA, oldCA, leaf *x509.Certificate) {
	t.Helper()
	d.must(d.crl("issuing"))
	id, err := d.CertID("issuing", crypto.SHA256, leaf.SerialNumber)
	d.must(err)
	if caID, ok := d.CAOf(id); !ok || caID != "issuing" {
		t.Errorf("CA of an old certificate: %q", caID)
	}
	_, err = d.SignOCSP(t.Context(), "issuing", nil, good(id, d.now()))
	d.must(err)
	ras := d.RAs()
	if len(ras) != 2 || ras[0].State != ca.Current || !ras[0].Cert.Equal(d.RACertificate()) || ras[1].State != ca.Retired || !ras[1].Cert.Equal(oldRA) {
		t.Fatalf("RAs %v", ras)
	}
	if ras[0].Cert.CheckSignatureFrom(d.Chain()[0]) != nil {
		t.Error("the RA is not certified by the CA in force")
	}
	if !d.Own("issuing", oldRA.SerialNumber) || !d.Own("issuing-2", ras[0].Cert.SerialNumber) || !d.Own("root", oldCA.SerialNumber) || !d.Own("root", d.Chain()[0].SerialNumber) ||
		d.Own("issuing-2", oldRA.SerialNumber) {
		t.Error("whose is whose")
	}
	issuing, ra, err := ca.Generations(d.dir)
	d.must(err)
	if issuing[0].State != ca.Retired || issuing[0].Until.Before(leaf.NotAfter) || issuing[0].Until.After(oldCA.NotAfter) || issuing[0].Until.Before(oldRA.NotAfter) || ra[1].State != ca.Current {
		t.Errorf("%+v %+v", issuing, ra)
	}
	// When the last certificate has expired the CA is gone.
	then := d.clock.Load()
	d.clock.Store(issuing[0].Until.Unix() + 1)
	defer d.clock.Store(then)
	if _, err := d.Reload(nil); err == nil {
		t.Error("an RA that has expired was taken up") // five years: RA 2 is over as well
	}
	d.clock.Store(issuing[0].Until.Unix() - 1)
	if changed, err := d.Reload(nil); changed || err != nil {
		t.Errorf("before the end: %t %v", changed, err)
	}
}

// The old CA goes when its time is over, and the RA was rotated in time.
func TestRetiredEnds(t *testing.T) {
	t.Parallel()
	d := newDisk(t, ca.Options{})
	rotate := func(what ca.What) {
		t.Helper()
		d.must(ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), what))
		d.must(ca.Activate(d.dir, d.now()))
		d.reload()
	}
	rotate(ca.RotateIssuing)
	issuing, _, err := ca.Generations(d.dir)
	d.must(err)
	d.clock.Store(issuing[0].Until.Unix() - 10)
	rotate(ca.RotateRA)
	if got := d.ids(); !slices.Equal(got, []string{"issuing-2", "root", "issuing"}) || len(d.RAs()) != 3 {
		t.Errorf("CAs %v, %d RAs", got, len(d.RAs()))
	}
	if d.RACertificate().CheckSignatureFrom(d.Chain()[0]) != nil {
		t.Error("the RA is not certified by the CA in force")
	}
	d.clock.Store(issuing[0].Until.Unix() + 1)
	d.reload()
	if got := d.ids(); !slices.Equal(got, []string{"issuing-2", "root"}) || d.crl("issuing") == nil {
		t.Errorf("CAs %v", got)
	}
	if got := len(d.RAs()); got != 1 {
		t.Errorf("%d RAs", got) // both older ones have expired
	}
}

// A rotation while the issuer issues fails nothing, and every certificate fits the CA that it names.
func TestRotateUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDisk(t, ca.Options{})
	r := catest.Request(t, d.Issuer, "alice@contoso.com", ecKey(t, elliptic.P256()))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var count [4]atomic.Int64
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				got, err := d.Issue(context.Background(), r)
				if err != nil {
					t.Error(err)
					return
				}
				if !strings.HasSuffix(got.Cert.CRLDistributionPoints[0], "/"+got.Record.CA+".crl") {
					t.Errorf("%s with %v", got.Record.CA, got.Cert.CRLDistributionPoints)
				}
				for _, c := range d.Certificates() {
					if c.ID == got.Record.CA && got.Cert.CheckSignatureFrom(c.Cert) != nil {
						t.Errorf("not signed by %s", c.ID)
					}
				}
				ra := d.RAs()[0]
				if pub, ok := ra.Key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(ra.Cert.PublicKey) {
					t.Error("an RA's key is another's")
				}
				count[len(got.Record.CA)-len("issuing")].Add(1)
			}
		})
	}
	for range 2 {
		d.must(ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), ca.RotateIssuing))
		d.reload()
		d.must(ca.Activate(d.dir, d.now()))
		d.reload()
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	wg.Wait()
	if d.IssuingCA() != "issuing-3" || count[0].Load() == 0 || count[2].Load() == 0 {
		t.Errorf("%s, %d by the first and %d by later ones", d.IssuingCA(), count[0].Load(), count[2].Load())
	}
}

func TestWithdraw(t *testing.T) {
	t.Parallel()
	d := newDisk(t, ca.Options{})
	if err := ca.Withdraw(d.dir, d.now()); !errors.Is(err, trust.ErrConflict) {
		t.Errorf("nothing is next: %v", err)
	}
	d.must(ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), ca.RotateIssuing))
	d.must(ca.Withdraw(d.dir, d.now()))
	for _, name := range []string{"issuing-2.key", "ra-2.key"} {
		if _, err := os.Stat(filepath.Join(d.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	d.must(ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), ca.RotateIssuing))
	d.reload()
	if got := d.ids(); !slices.Equal(got, []string{"issuing", "root", "issuing-3"}) {
		t.Errorf("CAs %v", got)
	}
}

// What a crash between keys and history has left is passed over, and two rotations at once are one.
func TestRotateRaces(t *testing.T) {
	t.Parallel()
	d := newDisk(t, ca.Options{})
	d.must(os.WriteFile(filepath.Join(d.dir, "issuing-2.key"), []byte("left"), 0o600))
	var wg sync.WaitGroup
	var ok atomic.Int32
	for range 3 {
		wg.Go(func() {
			if err := ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), ca.RotateIssuing); err == nil {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 1 {
		t.Errorf("%d rotations", ok.Load())
	}
	d.reload()
	if got := d.ids(); len(got) != 3 || got[2] == "issuing-2" {
		t.Errorf("CAs %v", got)
	}
}

func TestReloadKeepsWhatWorks(t *testing.T) {
	t.Parallel()
	d := newDisk(t, ca.Options{})
	d.must(ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), ca.RotateIssuing))
	d.must(ca.Activate(d.dir, d.now()))
	good, err := os.ReadFile(filepath.Join(d.dir, "issuing-2.crt"))
	d.must(err)
	d.must(os.WriteFile(filepath.Join(d.dir, "issuing-2.crt"), []byte("damage"), 0o600))
	if changed, err := d.Reload(nil); err == nil || changed {
		t.Error("a damaged certificate was taken up")
	}
	issue(t, d.Issuer, catest.Request(t, d.Issuer, "alice@contoso.com", ecKey(t, elliptic.P256())))
	d.must(os.WriteFile(filepath.Join(d.dir, "issuing-2.crt"), good, 0o600))
	d.reload()
	for _, text := range []string{
		`{}`, `{"issuer":"contoso","root":"here","issuing":[],"ra":[]}`, `[`, `{"x":1}`, `{"issuer":"contoso","root":"here","issuing":[{"number":1,"state":"current"}],"ra":[{"number":1,"state":"what"}]}`,
		`{"issuer":"fabrikam","root":"here","issuing":[{"number":1,"state":"current"}],"ra":[{"number":1,"state":"current"}]}`,
	} {
		name := filepath.Join(d.dir, "generations-9.json")
		d.must(os.WriteFile(name, []byte(text), 0o600))
		if changed, err := d.Reload(nil); err == nil || changed {
			t.Errorf("%s: taken up", text)
		}
		d.must(os.Remove(name))
	}
	if err := ca.Rotate(d.dir, catest.Spec(), d.phrase, d.now(), "root"); !errors.Is(err, trust.ErrInvalid) {
		t.Errorf("rotate root: %v", err)
	}
}
