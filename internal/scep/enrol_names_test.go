package scep

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/trust"
)

func rawValue(der []byte) asn1.RawValue { return asn1.RawValue{FullBytes: der} }

// impersonations are CSRs that claim to be the device or its owner, in every place where a name can stand.
func impersonations(t *testing.T, victim trust.Device) map[string]ask {
	t.Helper()
	subject := func(oid asn1.ObjectIdentifier, values ...string) ask {
		var n pkix.Name
		for _, v := range values {
			n.ExtraNames = append(n.ExtraNames, pkix.AttributeTypeAndValue{Type: oid, Value: v})
		}
		return ask{subject: n}
	}
	san := func(names ...asn1.RawValue) ask {
		return ask{subject: pkix.Name{CommonName: "phone"}, attrs: []csrAttribute{namesAttr(t, oidExtensionRequest, names...)}}
	}
	var (
		ou, serial = asn1.ObjectIdentifier{2, 5, 4, 11}, asn1.ObjectIdentifier{2, 5, 4, 5}
		uid        = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
		id         = string(victim.ID)
	)
	two := san(generalName(1, "alice@contoso.com"))
	two.attrs = append(two.attrs, namesAttr(t, oidMSExtensions, generalName(1, victim.Owner)))
	return map[string]ask{
		"device id in CN":           subject(oidCommonName, id),
		"device id in OU":           subject(ou, id),
		"device id in a second OU":  subject(ou, "phones", id),
		"device id in serialNumber": subject(serial, id),
		"serial number in CN":       subject(oidCommonName, victim.SerialNumber),
		"serial number in a 2nd CN": subject(oidCommonName, victim.SerialNumber, "phone"),
		"serial number there":       subject(serial, victim.SerialNumber),
		"serial numbers there":      subject(serial, victim.SerialNumber, "X"),
		"UDID in CN":                subject(oidCommonName, victim.UDID),
		"UDID in UID":               subject(uid, victim.UDID),
		"device in URI":             san(generalName(6, "urn:postern:device:"+id)),
		"device in URI, upper case": san(generalName(6, "URN:POSTERN:DEVICE:"+id)),
		"serial number in URI":      san(generalName(6, "https://mdm.contoso.com/device/"+victim.SerialNumber)),
		"UDID in URI":               san(generalName(6, "urn:udid:"+victim.UDID)),
		"bare id as URI":            san(generalName(6, id)),
		"device in DNS name":        san(generalName(2, id)),
		"mail in CN":                subject(oidCommonName, victim.Owner),
		"mail in CN, upper case":    subject(oidCommonName, strings.ToUpper(victim.Owner)),
		"mail in emailAddress":      subject(oidEmailAddress, victim.Owner),
		"second emailAddress":       subject(oidEmailAddress, "alice@contoso.com", victim.Owner),
		"mail in UID":               subject(uid, victim.Owner),
		"mail in OU":                subject(ou, victim.Owner),
		"rfc822Name":                san(generalName(1, victim.Owner)),
		"second rfc822Name":         san(generalName(1, "alice@contoso.com"), generalName(1, victim.Owner)),
		"second extension request":  two,
		"UPN":                       san(otherName(t, oidUPN, asn1.TagUTF8String, victim.Owner)),
		"UPN as BMPString":          san(otherName(t, oidUPN, asn1.TagBMPString, utf16Text(victim.Owner))),
		"mailto URI":                san(generalName(6, "mailto:"+victim.Owner)),
	}
}

func utf16Text(s string) string {
	var b []byte
	for i := range len(s) {
		b = append(b, 0, s[i])
	}
	return string(b)
}

// twoIssuers is a gate of contoso and fabrikam, with a challenge for a device of fabrikam.
func twoIssuers(t *testing.T) (*gate, string) {
	spec := ca.Spec{ID: "fabrikam", Organization: "Fabrikam", Domains: []string{"fabrikam.com"}, URL: "http://127.0.0.1:8080"}
	other := catest.New(t, catest.WithSpec(spec))
	g := newGate(t, func(c *Config) { c.Issuers = append(c.Issuers, other) })
	return g, g.challenge(g.deviceOf("fabrikam", "carol@fabrikam.com"))
}
