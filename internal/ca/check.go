package ca

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// check verifies that keys, certificates, spec and clock fit each other.
func (m *Material) check(spec Spec, now time.Time, log *slog.Logger) error {
	if m.history.Issuer != "" && m.history.Issuer != spec.ID {
		return fmt.Errorf("the keys are not of issuer %s but of %s", spec.ID, m.history.Issuer)
	}
	for _, p := range m.named() {
		if err := p.check(spec, now, log); err != nil {
			return err
		}
	}
	if m.root.key == nil && m.history.Root == rootHere {
		return errors.New("root.key is missing")
	}
	if err := signedBy(m.root.cert, m.root.cert); err != nil {
		return err
	}
	issuing := []namedPair{{&m.issuing, generationName(IssuingCA, current(m.history.Issuing).Number)}}
	for i := range m.cas {
		issuing = append(issuing, namedPair{&m.cas[i].pair, m.cas[i].id})
	}
	for _, p := range issuing {
		if err := m.checkIssuing(p, spec, log); err != nil {
			return err
		}
	}
	if err := checkRA(m.ra, "ra", m.issuing.cert); err != nil {
		return err
	}
	for _, ra := range m.ras {
		parents := make([]*x509.Certificate, 0, len(issuing))
		for _, p := range issuing {
			parents = append(parents, p.cert)
		}
		if err := checkRA(ra.pair, ra.id, parents...); err != nil {
			return err
		}
	}
	return nil
}

// check verifies what holds for every key and its certificate.
func (p namedPair) check(spec Spec, now time.Time, log *slog.Logger) error {
	if p.key != nil {
		if pub, ok := p.key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(p.cert.PublicKey) {
			return fmt.Errorf("%s.key is not the key of %s.crt", p.name, p.name)
		}
	}
	if now.Before(p.cert.NotBefore) || now.After(p.cert.NotAfter) {
		return fmt.Errorf("%s.crt is valid from %s to %s, and it is %s now", p.name, stamp(p.cert.NotBefore), stamp(p.cert.NotAfter), stamp(now))
	}
	if len(p.cert.SubjectKeyId) == 0 {
		return fmt.Errorf("%s.crt has no subject key identifier", p.name)
	}
	if o := p.cert.Subject.Organization; len(o) != 1 || o[0] != spec.Organization {
		log.Warn("certificate names another organization than the configuration", "certificate", p.name, "organization", o)
	}
	return nil
}

// checkIssuing verifies an issuing CA and its chain.
func (m *Material) checkIssuing(p namedPair, spec Spec, log *slog.Logger) error {
	chain := append(append([]*x509.Certificate{p.cert}, p.above...), m.root.cert)
	for n, c := range chain[:len(chain)-1] {
		if err := signedBy(c, chain[n+1]); err != nil {
			return err
		}
	}
	if !p.cert.IsCA {
		return fmt.Errorf("%s.crt must be a CA, and ra.crt must not", p.name)
	}
	if m.history.Root == rootForeign {
		return nil // its CRLs are its PKI's affair
	}
	// The id is in the URLs that the issuing CA's certificate names; a directory put in another's place would publish under the wrong ones.
	points := p.cert.CRLDistributionPoints
	if len(points) != 1 || !strings.HasSuffix(points[0], "/"+spec.ID+"/"+RootCA+".crl") {
		return fmt.Errorf("%s.crt is not of issuer %s: its CRL is at %q", p.name, spec.ID, points)
	}
	if points[0] != spec.CRLURL(RootCA) {
		log.Warn("issuing CA's certificate names another URL than the configuration", "certificate", points[0], "configuration", spec.CRLURL(RootCA))
	}
	return nil
}

// checkRA verifies a registration authority: an RSA key that decrypts, and a certificate of one of the CAs that no device could have.
func checkRA(p pair, name string, parents ...*x509.Certificate) error {
	_, decrypts := p.key.(crypto.Decrypter)
	if _, ok := p.key.Public().(*rsa.PublicKey); !ok || !decrypts {
		return fmt.Errorf("%s.key is not an RSA key that decrypts", name)
	}
	var err error
	for _, parent := range parents {
		if err = signedBy(p.cert, parent); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if p.cert.IsCA {
		return fmt.Errorf("issuing.crt must be a CA, and %s.crt must not", name)
	}
	usages := p.cert.ExtKeyUsage
	if len(usages) == 0 || slices.Contains(usages, x509.ExtKeyUsageClientAuth) || slices.Contains(usages, x509.ExtKeyUsageAny) {
		return fmt.Errorf("%s.crt would pass as a device certificate", name)
	}
	return nil
}

// signedBy verifies name, key identifiers and signature. It works for a root and itself.
func signedBy(child, parent *x509.Certificate) error {
	if err := namedBy(child, parent); err != nil {
		return err
	}
	if err := child.CheckSignatureFrom(parent); err != nil {
		return fmt.Errorf("%q was not signed by %q: %w", child.Subject.CommonName, parent.Subject.CommonName, err)
	}
	return nil
}

// namedBy verifies name and key identifiers.
func namedBy(child, parent *x509.Certificate) error {
	self := child.Equal(parent) // a company's root may leave out its own authority key identifier (RFC 5280, section 4.2.1.1)
	if !bytes.Equal(child.RawIssuer, parent.RawSubject) || !bytes.Equal(child.AuthorityKeyId, parent.SubjectKeyId) && !(self && len(child.AuthorityKeyId) == 0) {
		return fmt.Errorf("%q was not issued by %q", child.Subject.CommonName, parent.Subject.CommonName)
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
