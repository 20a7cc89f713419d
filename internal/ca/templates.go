package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // a name for a key, not a proof of anything
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"time"
)

// How long the certificates of an issuer's own keys are valid.
const (
	backdate      = 10 * time.Minute // of notBefore, for relying parties whose clock is late
	responderLife = 14 * 24 * time.Hour
	serverLife    = 397 * 24 * time.Hour // Apple takes at most 825 days from a private CA
)

// newSerial returns a serial number of exactly 16 octets (RFC 5280, section 4.1.2.2): 126 random bits, the top octet in 0x40 to 0x7f, so that it is
// positive without a leading zero and always 32 digits of hex.
func newSerial() *big.Int {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails: it ends the process instead
	raw[0] = raw[0]&0x3f | 0x40
	return new(big.Int).SetBytes(raw[:])
}

// publicKeyBits returns the subjectPublicKey of a key: its bits without tag, length and number of unused bits.
func publicKeyBits(pub crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil, err
	}
	return info.Key.Bytes, nil
}

// keyID returns the key identifier of RFC 5280, section 4.2.1.2, method 1. OCSP's byKey asks for the same.
func keyID(pub crypto.PublicKey) ([]byte, error) {
	bits, err := publicKeyBits(pub)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(bits) //nolint:gosec // see the import
	return sum[:], nil
}

func (s Spec) name(role string) pkix.Name {
	return pkix.Name{Organization: []string{s.Organization}, CommonName: s.commonName(role)}
}

// base is what all templates share.
func base(name pkix.Name, now, end time.Time, usage x509.KeyUsage) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: newSerial(), Subject: name, NotBefore: now.Add(-backdate), NotAfter: end, KeyUsage: usage, BasicConstraintsValid: true,
	}
}

func rootTemplate(s Spec, now time.Time) *x509.Certificate {
	t := base(s.name("Device Root CA"), now, now.AddDate(20, 0, 0), x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature)
	t.IsCA, t.MaxPathLen = true, 1
	return t
}

// issuingName is the common name of an issuing CA: two generations never share one, so that nobody who goes by names takes one for the other.
func issuingName(s Spec, number int) string { return s.commonName(issuingRole + strconv.Itoa(number)) }

const issuingRole = "Device Issuing CA "

func issuingTemplate(s Spec, commonName string, now time.Time) *x509.Certificate {
	t := base(pkix.Name{Organization: []string{s.Organization}, CommonName: commonName}, now, now.AddDate(10, 0, 0), x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature)
	t.IsCA, t.MaxPathLenZero = true, true
	return t
}

// raTemplate is the certificate of the SCEP registration authority (RFC 8894, section 2.1.2). Its extended key usage is that of the RA certificates of
// Microsoft's NDES, which every client knows, and emailProtection, which OpenSSL asks of whoever signs a CMS message; above all it has one, and it is
// not clientAuth: without the extension it would pass as a device certificate.
func raTemplate(s Spec, now time.Time) *x509.Certificate {
	t := base(s.name("SCEP RA"), now, now.AddDate(5, 0, 0), x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment)
	t.ExtKeyUsage, t.UnknownExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, []asn1.ObjectIdentifier{oidRequestAgent}
	return t
}

// responderTemplate is a delegated OCSP responder (RFC 6960, section 4.2.2.2), with nocheck (4.2.2.2.1): it is its short life that revokes it.
func responderTemplate(s Spec, ca string, now time.Time) *x509.Certificate {
	t := base(s.name("OCSP "+ca), now, now.Add(responderLife), x509.KeyUsageDigitalSignature)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	t.ExtraExtensions = []pkix.Extension{{Id: oidOCSPNoCheck, Value: asn1.NullBytes}}
	return t
}

func serverTemplate(s Spec, hosts []string, now time.Time) *x509.Certificate {
	t := base(pkix.Name{Organization: []string{s.Organization}}, now, now.Add(serverLife), x509.KeyUsageDigitalSignature)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	if len(hosts[0]) <= 64 {
		t.Subject.CommonName = hosts[0]
	}
	return t
}

// point adds where the signer's CRLs and certificate are.
func (s Spec) point(t *x509.Certificate, ca string) error {
	fresh, err := freshestCRL(s.DeltaURL(ca))
	t.CRLDistributionPoints = []string{s.CRLURL(ca)}
	t.IssuingCertificateURL = []string{s.CertificateURL(ca)}
	t.OCSPServer = []string{s.OCSPURL()}
	t.ExtraExtensions = append(t.ExtraExtensions, fresh)
	return err
}

// sign makes a certificate for one of the issuer's own keys; parent is nil for a self-signed one. Nothing outlives its signer.
func sign(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	var err error
	if t.SubjectKeyId, err = keyID(pub); err != nil {
		return nil, fmt.Errorf("sign %q: %w", t.Subject.CommonName, err)
	}
	if parent == nil {
		parent, t.AuthorityKeyId = t, t.SubjectKeyId
	}
	if t.NotAfter.After(parent.NotAfter) {
		t.NotAfter = parent.NotAfter
	}
	raw, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign %q: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(raw)
}
