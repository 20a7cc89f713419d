package mdm

import (
	"encoding/asn1"
	"errors"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/internal/ca"
	"postern/internal/trust"
)

const (
	maxCSR       = 64 << 10 // bytes
	maxNames     = 64       // in a subject or in a subjectAltName
	maxAttribute = 128      // bytes of what describes a device, as the registry has it
)

var (
	oidCommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSerialNumber     = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidEmailAddress     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidMSExtensions     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14} // the same, from older Windows
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidUPN              = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// csrNames is what a CSR asks to be called. Whoever validated the CSR vouches for it; where a kind of name occurs with two values it is not clear
// which of them was vouched for.
type csrNames struct {
	commonNames, serials, subjectMails []string
	mails, upns, uris                  []string
}

// readNames reads a PKCS#10 request (RFC 2986). There may be one extension request with one subjectAltName: a validator that reads the first of two
// would otherwise vouch for names that we do not read.
func readNames(der []byte) (csrNames, error) {
	var n csrNames
	if len(der) > maxCSR {
		return n, errors.New("read CSR: too large")
	}
	csr, err := ca.ParseCSR(der)
	if err != nil {
		return n, errors.New("read CSR: unreadable")
	}
	if len(csr.Subject.Names) > maxNames {
		return n, errors.New("read CSR: too many names")
	}
	for _, name := range csr.Subject.Names {
		s, ok := name.Value.(string)
		if !ok {
			continue
		}
		switch {
		case name.Type.Equal(oidCommonName):
			n.commonNames = append(n.commonNames, s)
		case name.Type.Equal(oidSerialNumber):
			n.serials = append(n.serials, s)
		case name.Type.Equal(oidEmailAddress):
			n.subjectMails = append(n.subjectMails, s)
		}
	}
	return n, n.addExtensions(csr.RawTBSCertificateRequest)
}

// addExtensions finds the one extension request among the attributes, and the one subjectAltName in it.
func (n *csrNames) addExtensions(tbs []byte) error {
	var info struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}
	if rest, err := asn1.Unmarshal(tbs, &info); err != nil || len(rest) > 0 {
		return errors.New("read CSR: unreadable attributes")
	}
	var requests []asn1.RawValue
	for _, raw := range info.Attributes {
		var attr struct {
			ID     asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		}
		if rest, err := asn1.Unmarshal(raw.FullBytes, &attr); err != nil || len(rest) > 0 {
			return errors.New("read CSR: unreadable attribute")
		}
		if attr.ID.Equal(oidExtensionRequest) || attr.ID.Equal(oidMSExtensions) {
			requests = append(requests, attr.Values...)
		}
	}
	if len(requests) == 0 {
		return nil
	}
	if len(requests) > 1 {
		return errors.New("read CSR: more than one extension request")
	}
	var extensions []struct {
		ID       asn1.ObjectIdentifier
		Critical bool `asn1:"optional"`
		Value    []byte
	}
	if rest, err := asn1.Unmarshal(requests[0].FullBytes, &extensions); err != nil || len(rest) > 0 {
		return errors.New("read CSR: unreadable extensions")
	}
	found := false
	for _, e := range extensions {
		if !e.ID.Equal(oidSubjectAltName) {
			continue
		}
		if found {
			return errors.New("read CSR: more than one subjectAltName")
		}
		found = true
		if err := n.addAltNames(e.Value); err != nil {
			return err
		}
	}
	return nil
}

// addAltNames adds the GeneralNames that matter here (RFC 5280, section 4.2.1.6).
func (n *csrNames) addAltNames(der []byte) error {
	var names []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 || len(names) > maxNames {
		return errors.New("read CSR: unreadable subjectAltName")
	}
	for _, name := range names {
		if name.Class != asn1.ClassContextSpecific {
			return errors.New("read CSR: unreadable subjectAltName")
		}
		switch name.Tag {
		case 0:
			if err := n.addOtherName(name.Bytes); err != nil {
				return err
			}
		case 1:
			n.mails = append(n.mails, string(name.Bytes))
		case 6:
			n.uris = append(n.uris, string(name.Bytes))
		}
	}
	return nil
}

// addOtherName adds a user principal name: a type, and its value behind an explicit tag.
func (n *csrNames) addOtherName(der []byte) error {
	var id asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(der, &id)
	if err != nil || !id.Equal(oidUPN) {
		return err
	}
	var explicit asn1.RawValue
	var upn string
	if rest, err = asn1.Unmarshal(rest, &explicit); err == nil && len(rest) == 0 {
		rest, err = asn1.Unmarshal(explicit.Bytes, &upn)
	}
	if err != nil || len(rest) > 0 {
		return errors.New("read CSR: unreadable user principal name")
	}
	n.upns = append(n.upns, upn)
	return nil
}

// only returns the one value in the list, whatever its case and however often it stands there; ok is false when there are two.
func only(list []string) (value string, ok bool) {
	for _, s := range list {
		s = strings.TrimSpace(s)
		if value != "" && !strings.EqualFold(s, value) {
			return "", false
		}
		value = s
	}
	return value, true
}

// applicant says whose CSR it is, in the words of a profile: the mail address is the rfc822Name, else the user principal name, else the subject's
// emailAddress; the device is named by serialNumber in the subject, or by a GUID as common name or URI. code and text say why it is nobody's.
func (n csrNames) applicant() (a trust.Applicant, code, text string) {
	for _, kind := range []struct {
		name string
		list []string
		dst  *string
	}{{"rfc822Name", n.mails, &a.Mail}, {"user principal name", n.upns, &a.UPN}, {"serialNumber", n.serials, &a.SerialNumber}} {
		var ok bool
		if *kind.dst, ok = only(kind.list); !ok {
			return a, "AmbiguousName", "the request names two different values of " + kind.name + ": the profile must name one user and one device"
		}
	}
	a.UPN = strings.ToLower(a.UPN)
	subject, ok := only(n.subjectMails)
	if a.Mail == "" && a.UPN == "" && !ok {
		return a, "AmbiguousName", "the request names two addresses in its subject: the profile must name one user"
	}
	mail := a.Mail
	for _, other := range []string{a.UPN, subject} {
		if mail == "" {
			mail = other
		}
	}
	if mail == "" {
		return a, "MailMissing", "the request names no mail address: add {{EmailAddress}} or {{UserPrincipalName}} to the profile's subject alternative name"
	}
	var err error
	if a.Mail, _, err = trust.Mail(mail); err != nil {
		return a, "MailInvalid", "the request's mail address cannot be used: " + err.Error()
	}
	a.UDID = n.deviceID()
	if a.SerialNumber == "" && a.UDID == "" {
		return a, "DeviceMissing", "the request names no device: let the profile's subject have CN={{AAD_Device_ID}} or serialNumber={{SERIALNUMBER}}"
	}
	if !plain(a.SerialNumber, maxAttribute) || !plain(a.UPN, 320) {
		return a, "NameInvalid", "the request has a serial number or user principal name that is too long or has control characters"
	}
	return a, "", ""
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// deviceID returns the MDM's id of the device, a GUID in lower case; "" where there is none, or two. A common name is preferred to a URI, a bare URI to
// those that network access control wants (IntuneDeviceId://..., ID:Microsoft Endpoint Manager:GUID:...), which name Intune's own id of the device.
func (n csrNames) deviceID() string {
	var bare, named []string
	for _, uri := range n.uris {
		uri = strings.ToLower(strings.TrimSpace(uri))
		if s := strings.TrimPrefix(uri, "urn:uuid:"); guid.MatchString(s) {
			bare = append(bare, s)
		}
		for _, prefix := range []string{"intunedeviceid://", "id:microsoft endpoint manager:guid:"} {
			if s, ok := strings.CutPrefix(uri, prefix); ok && guid.MatchString(s) {
				named = append(named, s)
			}
		}
	}
	var common []string
	for _, cn := range n.commonNames {
		if cn = strings.ToLower(strings.TrimSpace(cn)); guid.MatchString(cn) {
			common = append(common, cn)
		}
	}
	for _, list := range [][]string{common, bare, named} {
		if len(list) > 0 {
			id, _ := only(list)
			return id
		}
	}
	return ""
}

// plain reports whether s is UTF-8 of at most limit bytes without control characters.
func plain(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
