package ca

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"postern/certs"
	"postern/internal/trust"
)

// Request asks for a device certificate.
type Request struct {
	CSR      *x509.CertificateRequest // gives the public key and the proof that its holder has the private one; its names are ignored
	Device   trust.Device
	Owner    trust.Owner
	Profile  string         // name of a profile of package certs; empty for the default
	Evidence trust.Evidence // copied into the record

	// SID is the owner's security identifier in Active Directory, S-1-5-21-..., as a validated enrolment or the certificate that is renewed has it; empty for
	// none. It becomes the URI tag:microsoft.com,2022-09-14:sid:<SID>, by which Windows maps a certificate strongly to its user.
	SID string

	// Proof spares the verification of a CSR that Prove has verified. It counts for that very CSR only, and is empty for one that is to be verified here.
	Proof Proof
}

// Proof is a certificate request whose own signature was verified. It can only be made by Prove.
type Proof struct{ csr *x509.CertificateRequest }

// Prove verifies that a certificate request is signed by its own key. The caller has bounded the size of the key, which is the cost of it. The request must
// not be changed any more.
func Prove(csr *x509.CertificateRequest) (Proof, error) {
	if err := csr.CheckSignature(); err != nil {
		return Proof{}, err
	}
	return Proof{csr}, nil
}

// Part says which part of a request was refused.
type Part string

// The parts of a request.
const (
	PartKey     Part = "key"     // the kind or size of the public key
	PartProof   Part = "proof"   // the request's own signature
	PartName    Part = "name"    // a name of device or owner that this issuer does not certify
	PartProfile Part = "profile" // there is no such profile
)

// Refusal is why a certificate was not issued, where the request is to blame. It wraps trust.ErrForbidden.
type Refusal struct {
	Part Part
	Text string
}

// Error implements error.
func (r *Refusal) Error() string { return "certificate refused: " + r.Text }

// Unwrap implements errors.Unwrap.
func (r *Refusal) Unwrap() error { return trust.ErrForbidden }

func refuse(part Part, format string, args ...any) error {
	return &Refusal{Part: part, Text: fmt.Sprintf(format, args...)}
}

// promise is what the certificate will say. Everything in it is checked.
type promise struct {
	ca           string // the id of the CA that signs
	profile      certs.Profile
	org          string
	device       string
	cn           string
	mail         string
	upn          string
	urn          string
	serialNumber string   // of the hardware; empty for none
	aliases      []string // further mail addresses
	sid          string   // the whole URI; empty for none
	keyUsage     x509.KeyUsage
	keyID        []byte
	freshest     []byte // DER
	publicKey    crypto.PublicKey
	publicKeyDER []byte
}

// promise checks the request and settles what the certificate is to say.
func (i *Issuer) promise(r Request, ca string) (promise, error) {
	p := promise{ca: ca, org: i.spec.Organization, device: string(r.Device.ID)}
	var ok bool
	if p.profile, ok = certs.Lookup(r.Profile); !ok {
		return p, refuse(PartProfile, "there is no profile %q", r.Profile)
	}
	p.profile = p.profile.With(i.spec.Profile)
	if r.CSR == nil {
		return p, refuse(PartProof, "no certificate request")
	}
	if err := checkKey(r.CSR.PublicKey, p.profile.KeyTypes); err != nil { // before the signature: a huge key makes verification slow
		return p, err
	}
	if r.Proof.csr != r.CSR {
		if _, err := Prove(r.CSR); err != nil {
			return p, refuse(PartProof, "the request is not signed by its own key: %v", err)
		}
	}
	if err := i.names(&p, r); err != nil {
		return p, err
	}
	p.keyUsage = x509.KeyUsageDigitalSignature
	if _, ok := r.CSR.PublicKey.(*rsa.PublicKey); ok {
		// The reply to a SCEP renewal is enveloped for the certificate that signed it (RFC 8894, section 3.2.2). RFC 5280, section 4.2.1.12, does not
		// list keyEncipherment beside clientAuth, and linters say so. An EC key cannot encipher keys at all (RFC 5480, section 3).
		p.keyUsage |= x509.KeyUsageKeyEncipherment
	}
	p.publicKey, p.publicKeyDER = r.CSR.PublicKey, r.CSR.RawSubjectPublicKeyInfo
	var err error
	if p.keyID, err = keyID(r.CSR.PublicKey); err != nil {
		return p, err
	}
	p.freshest, err = distributionPoint(i.spec.DeltaURL(p.ca))
	return p, err
}

// names takes device and owner from the registry's records. The library's name policy is not asked: a UPN in the SAN disables it.
func (i *Issuer) names(p *promise, r Request) error {
	if !validDeviceID(p.device) {
		return refuse(PartName, "device id %q: want 1 to 64 of a-z, 0-9 and '-'", p.device)
	}
	if r.Device.Issuer != i.spec.ID {
		return refuse(PartName, "device %s belongs to issuer %q, not to %q", p.device, r.Device.Issuer, i.spec.ID)
	}
	var err error
	if p.mail, err = i.address("mail address", r.Owner.Mail); err != nil {
		return err
	}
	if owner := strings.ToLower(r.Device.Owner); owner != p.mail {
		return refuse(PartName, "device %s belongs to %q, not to %q", p.device, owner, p.mail)
	}
	p.upn = p.mail
	if r.Owner.UPN != "" {
		if p.upn, err = i.address("user principal name", r.Owner.UPN); err != nil {
			return err
		}
	}
	p.urn = "urn:postern:device:" + p.device
	// RFC 5280, appendix A.1, allows 64 characters in a common name and 255 in an emailAddress, which always carries the address.
	if p.cn = p.mail; len(p.cn) > 64 {
		p.cn = p.device
	}
	return i.extraNames(p, r)
}

// sidURI is what Windows puts before a security identifier in a certificate.
const sidURI = "tag:microsoft.com,2022-09-14:sid:"

// sidText is the identifier of an account of a domain (MS-DTYP, section 2.4.2.1): three numbers of the domain and one of the account, without leading zeros.
var sidText = regexp.MustCompile(`^S-1-5-21(-(0|[1-9][0-9]{0,9})){4}$`)

func validSID(s string) bool {
	if !sidText.MatchString(s) {
		return false
	}
	for part := range strings.SplitSeq(s[len("S-1-5-21-"):], "-") {
		if _, err := strconv.ParseUint(part, 10, 32); err != nil {
			return false
		}
	}
	return true
}

// SIDOf returns the security identifier among the URIs of a certificate or a request, as Request.SID takes it; empty if there is not exactly one.
func SIDOf(uris []*url.URL) string {
	sid := ""
	for _, u := range uris {
		s, ok := strings.CutPrefix(u.String(), sidURI)
		switch {
		case !ok:
		case sid != "" || !validSID(s):
			return ""
		default:
			sid = s
		}
	}
	return sid
}

// maxAliases bounds the further mail addresses in a certificate.
const maxAliases = 16

// extraNames adds what the profile has beside the names that every certificate carries.
func (i *Issuer) extraNames(p *promise, r Request) error {
	if r.SID != "" {
		if !validSID(r.SID) {
			return refuse(PartName, "security identifier %q: want S-1-5-21-... of a domain account", r.SID)
		}
		p.sid = sidURI + r.SID
	}
	if slices.Contains(p.profile.Names, certs.SerialNumber) {
		if n := r.Device.SerialNumber; len(n) > 64 || strings.Trim(n, printable) != "" {
			return refuse(PartName, "serial number %q of device %s: want at most 64 letters, digits and -./:", n, p.device)
		}
		p.serialNumber = r.Device.SerialNumber
	}
	if !slices.Contains(p.profile.Names, certs.Aliases) {
		return nil
	}
	for _, a := range r.Owner.Proxies {
		_, domain, err := trust.Mail(a)
		if err == nil && !i.spec.certifies(domain) || a == p.mail {
			continue // of the same mailbox, and nothing that this issuer vouches for
		}
		if a, err = i.address("alias", a); err != nil {
			return err
		}
		if p.aliases = append(p.aliases, a); len(p.aliases) > maxAliases {
			return refuse(PartName, "owner %s has more than %d aliases", p.mail, maxAliases)
		}
	}
	return nil
}

// printable is what a hardware serial number is made of, all of it PrintableString (X.680, section 41.4).
const printable = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-./:"

// address checks that s is a mail address in one of the issuer's domains, exactly as the registry keeps it: lower case, nothing around it.
func (i *Issuer) address(what, s string) (string, error) {
	mail, domain, err := trust.Mail(s)
	switch {
	case err != nil:
		return "", refuse(PartName, "%s %q: %v", what, s, err)
	case mail != s:
		return "", refuse(PartName, "%s %q is not normalised", what, s)
	case !i.spec.certifies(domain):
		return "", refuse(PartName, "%s %q: domain %s is not one of issuer %s", what, s, domain, i.spec.ID)
	}
	return mail, nil
}

func validDeviceID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
