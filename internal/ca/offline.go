package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/certs"
	"postern/internal/trust"
)

// discard is the log of functions that report by their result alone.
var discard = slog.New(slog.DiscardHandler)

// maxRootCRL bounds an imported CRL, in octets: it lists issuing CAs.
const maxRootCRL = 64 << 10

// offlineSpec is what the machine of the root has to know, in issuer.json.
type offlineSpec struct {
	ID           string   `json:"id"`
	Organization string   `json:"organization"`
	Domains      []string `json:"domains"`
	URL          string   `json:"url"`
}

// firstRootCRL is how long the CRL is good for that an offline root signs when it is made.
const firstRootCRL = 366 * 24 * time.Hour

// saveOfflineRoot writes root.key, root.crt, issuer.json and the first root.crl.
func (m *Material) saveOfflineRoot(dir string, spec Spec, passphrase Passphrase, now time.Time) error {
	now = now.UTC().Truncate(time.Second)
	first, err := m.root.signCRL(CRL{Number: big.NewInt(now.Unix()), ThisUpdate: now, NextUpdate: now.Add(firstRootCRL)})
	if err != nil {
		return fmt.Errorf("sign CRL of the offline root: %w", err)
	}
	crl := first.DER
	m.rootCRL = crl
	about, err := json.MarshalIndent(offlineSpec{spec.ID, spec.Organization, spec.Domains, spec.URL}, "", "  ")
	if err != nil {
		return err
	}
	err = makeDir(dir, func(tmp string) error {
		if err := m.root.save(tmp, RootCA, passphrase); err != nil {
			return err
		}
		if err := writeNew(filepath.Join(tmp, rootCRLName), crl, 0o644); err != nil {
			return err
		}
		return writeNew(filepath.Join(tmp, "issuer.json"), append(about, '\n'), 0o644)
	})
	if err != nil {
		return fmt.Errorf("save offline root: %w", err)
	}
	return nil
}

// openOfflineRoot opens what saveOfflineRoot has written.
func openOfflineRoot(dir string, passphrase Passphrase, now time.Time) (spec Spec, root pair, err error) {
	data, err := readFile(filepath.Join(dir, "issuer.json"))
	if err != nil {
		return spec, root, err
	}
	var about offlineSpec
	if err := json.Unmarshal(data, &about); err != nil {
		return spec, root, fmt.Errorf("issuer.json: %w", err)
	}
	spec = Spec{ID: about.ID, Organization: about.Organization, Domains: about.Domains, URL: about.URL}
	if err := spec.Check(); err != nil {
		return spec, root, fmt.Errorf("issuer.json: %w", err)
	}
	p := namedPair{&root, RootCA}
	if err := p.load(dir, passphrase, new(keyring), false); err != nil {
		return spec, root, err
	}
	return spec, root, p.check(spec, now, discard)
}

// SignRootCRLOffline signs a complete CRL of an offline root, on the machine that has it: dir is that of Options.OfflineRoot. What the last one listed stays
// listed, revoked is added. The CRL is good for life, kept in dir as root.crl, and returned in DER for ImportCRL.
func SignRootCRLOffline(dir string, passphrase Passphrase, now time.Time, life time.Duration, revoked ...x509.RevocationListEntry) ([]byte, error) {
	raw, err := signRootCRL(dir, passphrase, now.UTC().Truncate(time.Second), life, revoked)
	if err != nil {
		return nil, fmt.Errorf("sign CRL of the offline root: %w", err)
	}
	return raw, nil
}

func signRootCRL(dir string, passphrase Passphrase, now time.Time, life time.Duration, revoked []x509.RevocationListEntry) ([]byte, error) {
	if life < 24*time.Hour || life > 2*366*24*time.Hour {
		return nil, fmt.Errorf("life of %s %w: want a day to two years", life, trust.ErrInvalid)
	}
	_, root, err := openOfflineRoot(dir, passphrase, now)
	if err != nil {
		return nil, err
	}
	c := CRL{Number: big.NewInt(now.Unix()), ThisUpdate: now, NextUpdate: now.Add(life)}
	revoked = slices.Clone(revoked)
	path := filepath.Join(dir, rootCRLName)
	switch last, err := readFile(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		l, err := parseRootCRL(last, root.cert)
		if err != nil {
			return nil, fmt.Errorf("root.crl: %w", err)
		}
		if now.Before(l.ThisUpdate) {
			return nil, fmt.Errorf("the clock is wrong: it is %s, and the last CRL is of %s", stamp(now), stamp(l.ThisUpdate))
		}
		if l.Number.Cmp(c.Number) >= 0 {
			c.Number = new(big.Int).Add(l.Number, big.NewInt(1))
		}
		for _, e := range l.RevokedCertificateEntries {
			if !slices.ContainsFunc(revoked, func(n x509.RevocationListEntry) bool { return n.SerialNumber.Cmp(e.SerialNumber) == 0 }) {
				revoked = append(revoked, x509.RevocationListEntry{SerialNumber: e.SerialNumber, RevocationTime: e.RevocationTime, ReasonCode: e.ReasonCode})
			}
		}
	}
	if c.Entries, err = EncodeEntries(revoked); err != nil {
		return nil, err
	}
	signed, err := root.signCRL(c)
	if err != nil {
		return nil, err
	}
	return signed.DER, replaceFile(path, signed.DER, 0o644)
}

// SignIssuingOffline signs the request of CSR for a new issuing CA, on the machine that has the offline root, and returns the chain in PEM for Import. Name and
// key are the request's, the name being one of this issuer's issuing CAs; everything else is the issuer's own.
func SignIssuingOffline(dir string, passphrase Passphrase, now time.Time, csrPEM []byte) ([]byte, error) {
	now = now.UTC().Truncate(time.Second)
	spec, root, err := openOfflineRoot(dir, passphrase, now)
	if err != nil {
		return nil, fmt.Errorf("sign issuing CA: %w", err)
	}
	block, rest := pem.Decode(csrPEM)
	if block == nil || len(csrPEM) > maxFile || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("sign issuing CA: not one certificate request in PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("sign issuing CA: %w", err)
	}
	if err := checkKey(csr.PublicKey, certs.KeyTypes()); err != nil {
		return nil, fmt.Errorf("sign issuing CA: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("sign issuing CA: %w", err)
	}
	if cn := csr.Subject.CommonName; !strings.HasPrefix(cn, spec.commonName(issuingRole)) {
		return nil, fmt.Errorf("sign issuing CA: the request is for %q, which is no issuing CA of %s", cn, spec.ID)
	}
	c, err := signIssuing(spec, root, rootOffline, csr.Subject.CommonName, csr.PublicKey, now)
	if err != nil {
		return nil, fmt.Errorf("sign issuing CA: %w", err)
	}
	return encodeCertificates(c, root.cert), nil
}

// parseRootCRL reads a complete CRL of the root and verifies it.
func parseRootCRL(der []byte, root *x509.Certificate) (*x509.RevocationList, error) {
	if len(der) > maxRootCRL {
		return nil, fmt.Errorf("larger than %d octets", maxRootCRL)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if err := l.CheckSignatureFrom(root); err != nil {
		return nil, err
	}
	switch {
	case !bytes.Equal(l.RawIssuer, root.RawSubject) || !bytes.Equal(l.AuthorityKeyId, root.SubjectKeyId):
		return nil, errors.New("of another CA")
	case l.Number == nil || l.Number.Sign() <= 0 || l.NextUpdate.IsZero():
		return nil, errors.New("without number or nextUpdate")
	}
	for _, e := range l.Extensions {
		if e.Critical || e.Id.Equal(oidDeltaIndicator) {
			return nil, fmt.Errorf("extension %s: want a complete CRL", e.Id)
		}
	}
	return l, nil
}

// rootCRLName is the file of an imported CRL.
const rootCRLName = "root.crl"

// readRootCRL returns the imported CRL of an offline root, verified; nil if there is none.
func readRootCRL(dir string, m *Material) ([]byte, error) {
	if m.history.Root != rootOffline {
		return nil, nil
	}
	der, err := readFile(filepath.Join(dir, rootCRLName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := parseRootCRL(der, m.root.cert); err != nil {
		return nil, fmt.Errorf("%s: %w", rootCRLName, err)
	}
	return der, nil
}

// ImportCRL verifies a CRL that SignRootCRLOffline has signed, DER or PEM, and stores it in dir. It must be in force and have a greater number than the one
// before, and may not drop what that one lists. Issuers that are open publish it after Reload. trust.ErrConflict means that a newer one is there already.
func ImportCRL(dir string, raw []byte, now time.Time) error {
	if err := importCRL(dir, raw, now); err != nil {
		return fmt.Errorf("import CRL of the root: %w", err)
	}
	return nil
}

func importCRL(dir string, raw []byte, now time.Time) error {
	if len(raw) > maxRootCRL {
		return fmt.Errorf("larger than %d octets", maxRootCRL)
	}
	if block, rest := pem.Decode(raw); block != nil && block.Type == "X509 CRL" && len(bytes.TrimSpace(rest)) == 0 {
		raw = block.Bytes
	}
	h, err := readHistory(dir)
	if err != nil {
		return err
	}
	if h.Root != rootOffline {
		return errors.New("the root of this issuer is not offline: its CRLs come from elsewhere")
	}
	root, err := readCertificate(dir, RootCA)
	if err != nil {
		return err
	}
	l, err := parseRootCRL(raw, root)
	if err != nil {
		return err
	}
	if now.Before(l.ThisUpdate) || !now.Before(l.NextUpdate) {
		return fmt.Errorf("it is valid from %s to %s, and it is %s now", stamp(l.ThisUpdate), stamp(l.NextUpdate), stamp(now))
	}
	last, err := readRootCRL(dir, &Material{root: pair{cert: root}, history: h})
	if err != nil {
		return err
	}
	if last != nil {
		old, err := x509.ParseRevocationList(last)
		if err != nil {
			return err
		}
		if err := follows(l, old); err != nil {
			return err
		}
	}
	return replaceFile(filepath.Join(dir, rootCRLName), raw, 0o644)
}

// follows reports whether a CRL may take the place of an older one.
func follows(l, old *x509.RevocationList) error {
	if bytes.Equal(l.Raw, old.Raw) {
		return nil
	}
	if l.Number.Cmp(old.Number) <= 0 || l.ThisUpdate.Before(old.ThisUpdate) {
		return fmt.Errorf("number %v of %s is not newer than number %v of %s: %w", l.Number, stamp(l.ThisUpdate), old.Number, stamp(old.ThisUpdate), trust.ErrConflict)
	}
	for _, e := range old.RevokedCertificateEntries {
		if !slices.ContainsFunc(l.RevokedCertificateEntries, func(n x509.RevocationListEntry) bool { return n.SerialNumber.Cmp(e.SerialNumber) == 0 }) {
			return fmt.Errorf("%x was revoked and is not listed any more", e.SerialNumber)
		}
	}
	return nil
}

// ImportCRL is the function ImportCRL for an open issuer, which has it at once.
func (i *Issuer) ImportCRL(raw []byte) error {
	if i.dir == "" {
		return errors.New("import CRL of the root: the issuer's keys are in memory only")
	}
	if err := ImportCRL(i.dir, raw, i.now()); err != nil {
		return err
	}
	_, err := i.Reload(nil)
	return err
}

// StoredCRL returns the complete CRL of a CA that does not sign here, in DER, as it was imported. trust.ErrNotFound: there is none yet, or the CA belongs to
// another PKI, which publishes it itself.
func (i *Issuer) StoredCRL(caID string) ([]byte, error) {
	s := i.state.Load()
	if caID != RootCA || s.rootCRL == nil {
		return nil, fmt.Errorf("no CRL of CA %q was imported: %w", caID, trust.ErrNotFound)
	}
	return bytes.Clone(s.rootCRL), nil
}

// replaceFile writes a file that is there whole, as it was or as it is now, and survives the death of the machine.
func replaceFile(path string, data []byte, mode os.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	if err := writeSynced(tmp, data, mode); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncDir(filepath.Dir(path))
}
