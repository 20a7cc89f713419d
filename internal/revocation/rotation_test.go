package revocation_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/trust"
)

// disk is a lab whose issuer is in a directory.
type disk struct {
	*lab
	dir    string
	phrase ca.Passphrase
}

func newDisk(t *testing.T, create func(*disk) error) *disk {
	t.Helper()
	d := &disk{dir: filepath.Join(t.TempDir(), "contoso")}
	newLabOf(t, func(l *lab) *ca.Issuer {
		d.lab = l
		var err error
		d.phrase, err = ca.NewPassphrase("x")
		l.must(err)
		l.must(create(d))
		return d.issuerNow()
	})
	d.start()
	return d
}

func (d *disk) issuerNow() *ca.Issuer {
	d.t.Helper()
	i, err := ca.Open(d.dir, catest.Spec(), d.phrase, d.now, discard())
	d.must(err)
	d.t.Cleanup(func() { _ = i.Close() })
	return i
}

// restart opens the issuer again, and starts another publisher.
func (d *disk) restart() {
	d.t.Helper()
	d.stop()
	d.issuer = d.issuerNow()
	d.register()
	d.start()
}

// reload takes a rotation up in the running publisher.
func (d *disk) reload() {
	d.t.Helper()
	changed, err := d.issuer.Reload(func([]ca.CACertificate) error { return nil })
	d.must(err)
	if !changed {
		d.t.Fatal("nothing changed")
	}
	d.register()
}

func (d *disk) askFor(q question) {
	d.t.Helper()
	d.answered(q, "POST", d.do("POST", "/ocsp/contoso", nil, d.ask(q.issuer, q.serial, crypto.SHA256)))
}

// After a rotation the CA in force, the root and the retired CA are all published, each with what it has issued itself; so is one that is next.
func TestRotation(t *testing.T) {
	t.Parallel()
	l := newDisk(t, func(d *disk) error { return ca.Create(d.dir, catest.Spec(), d.phrase, d.now()) })
	before := l.issuer.Chain()[0]
	old := l.leaf()
	for range 2 {
		l.must(ca.Rotate(l.dir, catest.Spec(), l.phrase, l.now(), ca.RotateIssuing))
		l.restart()
		next := l.issuer.Certificates()[2]
		if c := l.crl("/contoso/" + next.ID + ".crl"); c.CheckSignatureFrom(next.Cert) != nil {
			t.Errorf("CRL of %s, which is next", next.ID)
		}
		l.must(ca.Activate(l.dir, l.now()))
		l.restart()
	}
	if l.issuer.IssuingCA() != "issuing-3" || len(l.pub.Status()) != 4 {
		t.Fatalf("%s, %+v", l.issuer.IssuingCA(), l.pub.Status())
	}
	young := l.leaf()
	l.revoke(trust.SerialOf(old.SerialNumber))
	l.revoke(trust.SerialOf(young.SerialNumber))
	listed := func(id string, want *x509.Certificate) {
		t.Helper()
		l.eventually(id, func() bool { return len(l.crl("/contoso/"+id+"-delta.crl").RevokedCertificateEntries) == 1 })
		if got := l.crl("/contoso/" + id + "-delta.crl").RevokedCertificateEntries[0]; got.SerialNumber.Cmp(want.SerialNumber) != 0 {
			t.Errorf("%s lists %x", id, got.SerialNumber)
		}
	}
	listed("issuing", old)
	listed("issuing-3", young)
	for _, c := range l.issuer.Certificates() {
		if w := l.get("/contoso/" + c.ID + ".cer"); !bytes.Equal(w.Body.Bytes(), c.Cert.Raw) {
			t.Errorf("%s.cer: %d", c.ID, w.Code)
		}
		if c.ID == ca.RootCA {
			l.askFor(question{name: "retired CA", issuer: c.Cert, serial: before.SerialNumber, status: ocsp.Good})
		}
	}
	l.askFor(question{name: "of the retired CA", issuer: before, serial: old.SerialNumber, status: ocsp.Revoked, reason: ocsp.KeyCompromise})
	for _, ra := range l.issuer.RAs() {
		for _, c := range l.issuer.Certificates() {
			if ra.Cert.CheckSignatureFrom(c.Cert) == nil {
				l.askFor(question{name: "RA", issuer: c.Cert, serial: ra.Cert.SerialNumber, status: ocsp.Good})
			}
		}
	}
}

// A publisher that runs takes up a CA that is next, goes on with one that is retired, and leaves it when its last certificate has expired.
func TestRotationWhileRunning(t *testing.T) {
	t.Parallel()
	l := newDisk(t, func(d *disk) error { return ca.Create(d.dir, catest.Spec(), d.phrase, d.now()) })
	old := l.leaf()
	before := statusOf(l.pub, ca.IssuingCA)
	if w := l.get("/contoso/issuing-2.cer"); w.Code != http.StatusNotFound {
		t.Fatalf("issuing-2.cer: %d", w.Code)
	}
	l.must(ca.Rotate(l.dir, catest.Spec(), l.phrase, l.now(), ca.RotateIssuing))
	l.reload()
	l.eventually("CRLs of what is next", func() bool { return statusOf(l.pub, "issuing-2").Valid })
	next := l.issuer.Certificates()[2].Cert
	if c := l.crl("/contoso/issuing-2.crl"); c.CheckSignatureFrom(next) != nil || !bytes.Equal(l.get("/contoso/issuing-2.cer").Body.Bytes(), next.Raw) {
		t.Error("what is next is not published")
	}
	if statusOf(l.pub, ca.IssuingCA).Base.Number != before.Base.Number {
		t.Error("the CA in force began anew")
	}
	chain := l.get("/contoso/chain.p7b").Body.Bytes()
	l.must(ca.Activate(l.dir, l.now()))
	l.reload()
	l.eventually("the chain of the new CA", func() bool { return !bytes.Equal(l.get("/contoso/chain.p7b").Body.Bytes(), chain) })
	young := l.leaf()
	if young.CheckSignatureFrom(next) != nil {
		t.Fatal("the old CA has issued")
	}
	l.revoke(trust.SerialOf(old.SerialNumber))
	l.revoke(trust.SerialOf(young.SerialNumber))
	for _, id := range []string{ca.IssuingCA, "issuing-2"} {
		l.eventually(id, func() bool { return len(l.crl("/contoso/"+id+"-delta.crl").RevokedCertificateEntries) == 1 })
	}
	l.askFor(question{name: "of the new CA", issuer: next, serial: young.SerialNumber, status: ocsp.Revoked, reason: ocsp.KeyCompromise})
	_, err := l.reg.RequestPublish(t.Context(), root, "contoso", true)
	l.must(err)
	l.eventually("end of the request", func() bool { all, err := l.reg.PublishRequests(t.Context()); return err == nil && len(all) == 0 })
	issuing, _, err := ca.Generations(l.dir)
	l.must(err)
	l.skew.Store(int64(4 * 365 * 24 * time.Hour)) // an RA lives five years
	l.must(ca.Rotate(l.dir, catest.Spec(), l.phrase, l.now(), ca.RotateRA))
	l.must(ca.Activate(l.dir, l.now()))
	l.reload()
	l.skew.Store(int64(time.Until(issuing[0].Until) + time.Minute))
	l.reload()
	l.eventually("end of the retired CA", func() bool { return l.get("/contoso/issuing.crl").Code == http.StatusNotFound })
	if len(l.pub.Status()) != 2 {
		t.Errorf("%+v", l.pub.Status())
	}
}

// Of an offline root, the CRL that was imported is served as it is, also when it has expired, and there is no delta.
func TestOfflineRoot(t *testing.T) {
	t.Parallel()
	away := filepath.Join(t.TempDir(), "away")
	l := newDisk(t, func(d *disk) error {
		return ca.CreateWith(d.dir, catest.Spec(), d.phrase, d.now(), ca.Options{OfflineRoot: away})
	})
	first, err := l.issuer.StoredCRL(ca.RootCA)
	l.must(err)
	if w := l.get("/contoso/root.crl"); !bytes.Equal(w.Body.Bytes(), first) || w.Header().Get("Content-Type") != "application/pkix-crl" {
		t.Errorf("root.crl: %d %s", w.Code, w.Header())
	}
	if w := l.get("/contoso/root-delta.crl"); w.Code != http.StatusNotFound {
		t.Errorf("root-delta.crl: %d", w.Code)
	}
	if der, ok := l.pub.Base("contoso", ca.RootCA); !ok || !bytes.Equal(der, first) {
		t.Error("Base")
	}
	top := l.issuer.Chain()[1]
	l.askFor(question{name: "offline root", issuer: top, serial: l.issuer.Chain()[0].SerialNumber, fault: ocsp.Unauthorized})
	if s := statusOf(l.pub, ca.RootCA); !s.Valid || s.Error != "" || s.Base.Number == 0 || s.Delta.Number != 0 {
		t.Errorf("%+v", s)
	}
	l.fetch()
	// A request to publish is finished by those that sign here.
	_, err = l.reg.RequestPublish(t.Context(), root, "contoso", true)
	l.must(err)
	l.eventually("end of the request", func() bool { all, err := l.reg.PublishRequests(t.Context()); return err == nil && len(all) == 0 })
	second, err := ca.SignRootCRLOffline(away, l.phrase, l.now(), 24*time.Hour, x509.RevocationListEntry{SerialNumber: big.NewInt(77), RevocationTime: l.now()})
	l.must(err)
	l.must(ca.ImportCRL(l.dir, second, l.now()))
	l.skew.Store(int64(25 * time.Hour))
	l.restart()
	if c := l.crl("/contoso/root.crl"); len(c.RevokedCertificateEntries) != 1 {
		t.Error("the newer CRL is not served")
	}
	if s := statusOf(l.pub, ca.RootCA); s.Valid || s.Error == "" {
		t.Errorf("expired: %+v", s)
	}
}

// A company's own root publishes its CRLs itself.
func TestCompanyRoot(t *testing.T) {
	t.Parallel()
	l := newDisk(t, func(d *disk) error {
		path, err := ca.CSR(d.dir, catest.Spec(), d.phrase)
		d.must(err)
		data, err := os.ReadFile(path)
		d.must(err)
		block, _ := pem.Decode(data)
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		d.must(err)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		d.must(err)
		top := authority("Contoso Group Root", 1)
		rootDER, err := x509.CreateCertificate(rand.Reader, top, top, key.Public(), key)
		d.must(err)
		top, err = x509.ParseCertificate(rootDER)
		d.must(err)
		issuing := authority("", 2)
		issuing.Subject, issuing.MaxPathLenZero, issuing.CRLDistributionPoints = csr.Subject, true, []string{"http://pki.contoso-group.test/root.crl"}
		der, err := x509.CreateCertificate(rand.Reader, issuing, top, csr.PublicKey, key)
		d.must(err)
		chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		return ca.Import(d.dir, catest.Spec(), d.phrase, d.now(), append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})...))
	})
	l.fetch()
	for _, path := range []string{"/contoso/root.crl", "/contoso/root-delta.crl"} {
		if w := l.get(path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if all := l.pub.Status(); len(all) != 1 || all[0].CA != ca.IssuingCA || !all[0].Valid {
		t.Errorf("%+v", all)
	}
}

// authority is the template of a CA of the company.
func authority(name string, id byte) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(int64(id)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(8, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{id, 2, 3}}
}
