package ca

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// rootCRLNotice is how long before its end the CRL of an offline root is asked for, or a third of its life where that is less: somebody has to go where the
// root's key is.
const rootCRLNotice = 30 * 24 * time.Hour

// RootTrouble says in words what the CRL of an offline root means for the issuer now: a problem where it lists the issuing CA in force, a warning where it ends
// soon. Both are empty where all is well, where the root is elsewhere, and where no CRL was imported. That it has expired is the publisher's to say.
func (i *Issuer) RootTrouble() (problem, warning string) {
	s := i.state.Load()
	if s.rootCRL == nil {
		return "", ""
	}
	l, err := x509.ParseRevocationList(s.rootCRL)
	if err != nil { // it was verified when it was taken up
		return fmt.Sprintf("the CRL of the root of issuer %s: %v", i.spec.ID, err), ""
	}
	if c := s.chain[0]; lists(l, c) {
		problem = fmt.Sprintf("the root of issuer %s has revoked %q (%x), which is in force: nobody who asks the root's CRL trusts a certificate of it; put another issuing CA in force (`postern issuer csr %s`, OPERATIONS.md)",
			i.spec.ID, c.Subject.CommonName, c.SerialNumber, i.spec.ID)
	}
	now := i.now()
	if notice := min(rootCRLNotice, l.NextUpdate.Sub(l.ThisUpdate)/3); now.Before(l.NextUpdate) && now.Add(notice).After(l.NextUpdate) {
		warning = fmt.Sprintf("the CRL of the root of issuer %s ends on %s, and sign-ins fail from then on: sign one where the root's key is (`postern issuer root-crl`) and import it (`postern issuer import-crl %s`)",
			i.spec.ID, stamp(l.NextUpdate), i.spec.ID)
	}
	return problem, warning
}

// lists reports whether a complete CRL of its issuer lists a certificate.
func lists(l *x509.RevocationList, c *x509.Certificate) bool {
	return slices.ContainsFunc(l.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(c.SerialNumber) == 0 })
}

// notRevoked refuses an issuing CA that the imported CRL of an offline root lists.
func notRevoked(dir string, h history, name string, c *x509.Certificate) error {
	if h.Root != rootOffline {
		return nil
	}
	root, err := readCertificate(dir, RootCA)
	if err != nil {
		return err
	}
	der, err := readRootCRL(dir, &Material{root: pair{cert: root}, history: h})
	if err != nil || der == nil {
		return err
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	if lists(l, c) {
		return fmt.Errorf("%s (%x) is revoked by the root: give it up (`postern issuer withdraw`) and have another one signed", name, c.SerialNumber)
	}
	return nil
}
