package mdm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"postern/internal/trust"
)

func TestApplicant(t *testing.T) {
	const guid2 = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
	cn := pkix.Name{CommonName: deviceID}
	for name, c := range map[string]struct {
		subject pkix.Name
		names   []asn1.RawValue
		want    trust.Applicant // or
		code    string
	}{
		"mail before UPN":      {cn, []asn1.RawValue{mail("A@contoso.com"), upn(t, "U@contoso.com")}, trust.Applicant{Mail: "a@contoso.com", UPN: "u@contoso.com", UDID: deviceID}, ""},
		"UPN":                  {cn, []asn1.RawValue{upn(t, "U@contoso.com")}, trust.Applicant{Mail: "u@contoso.com", UPN: "u@contoso.com", UDID: deviceID}, ""},
		"subject's address":    {pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{attribute(oidCommonName, deviceID), attribute(oidEmailAddress, "e@contoso.com")}}, nil, trust.Applicant{Mail: "e@contoso.com", UDID: deviceID}, ""},
		"the same twice":       {cn, []asn1.RawValue{mail("a@contoso.com"), mail("A@CONTOSO.com")}, trust.Applicant{Mail: "a@contoso.com", UDID: deviceID}, ""},
		"serial number":        {pkix.Name{CommonName: "Alice", SerialNumber: "C39XYZ"}, []asn1.RawValue{mail("a@contoso.com")}, trust.Applicant{Mail: "a@contoso.com", SerialNumber: "C39XYZ"}, ""},
		"upper case":           {pkix.Name{CommonName: strings.ToUpper(deviceID)}, []asn1.RawValue{mail("a@contoso.com")}, trust.Applicant{Mail: "a@contoso.com", UDID: deviceID}, ""},
		"URI":                  {pkix.Name{CommonName: "a"}, []asn1.RawValue{mail("a@contoso.com"), uri("urn:uuid:" + deviceID)}, trust.Applicant{Mail: "a@contoso.com", UDID: deviceID}, ""},
		"NAC":                  {pkix.Name{CommonName: "a"}, []asn1.RawValue{mail("a@contoso.com"), uri("IntuneDeviceId://" + deviceID)}, trust.Applicant{Mail: "a@contoso.com", UDID: deviceID}, ""},
		"NAC, other form":      {pkix.Name{CommonName: "a"}, []asn1.RawValue{mail("a@contoso.com"), uri("ID:Microsoft Endpoint Manager:GUID:" + deviceID)}, trust.Applicant{Mail: "a@contoso.com", UDID: deviceID}, ""},
		"common name first":    {cn, []asn1.RawValue{mail("a@contoso.com"), uri("IntuneDeviceId://" + guid2)}, trust.Applicant{Mail: "a@contoso.com", UDID: deviceID}, ""},
		"SID is no device":     {pkix.Name{CommonName: "a"}, []asn1.RawValue{mail("a@contoso.com"), uri("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1")}, trust.Applicant{}, "DeviceMissing"},
		"no address":           {cn, []asn1.RawValue{uri("https://contoso.com")}, trust.Applicant{}, "MailMissing"},
		"common name only":     {pkix.Name{CommonName: "a@contoso.com", SerialNumber: "X"}, nil, trust.Applicant{}, "MailMissing"},
		"UPN is no address":    {cn, []asn1.RawValue{upn(t, "alice")}, trust.Applicant{}, "MailInvalid"},
		"address with a blank": {cn, []asn1.RawValue{mail("a b@contoso.com")}, trust.Applicant{}, "MailInvalid"},
		"two addresses":        {cn, []asn1.RawValue{mail("a@contoso.com"), mail("b@contoso.com")}, trust.Applicant{}, "AmbiguousName"},
		"two UPNs":             {cn, []asn1.RawValue{mail("a@contoso.com"), upn(t, "a@contoso.com"), upn(t, "b@contoso.com")}, trust.Applicant{}, "AmbiguousName"},
		"two serial numbers": {pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{attribute(oidSerialNumber, "A"), attribute(oidSerialNumber, "B")}}, []asn1.RawValue{mail("a@contoso.com")},
			trust.Applicant{}, "AmbiguousName"},
		"two addresses in the subject": {pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{attribute(oidEmailAddress, "a@contoso.com"), attribute(oidEmailAddress, "b@contoso.com")}}, nil,
			trust.Applicant{}, "AmbiguousName"},
		"two ids": {pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{attribute(oidCommonName, deviceID), attribute(oidCommonName, guid2)}}, []asn1.RawValue{mail("a@contoso.com")},
			trust.Applicant{}, "DeviceMissing"},
		"long serial number": {pkix.Name{SerialNumber: strings.Repeat("1", 129)}, []asn1.RawValue{mail("a@contoso.com")}, trust.Applicant{}, "NameInvalid"},
	} {
		n, err := readNames(request(t, c.subject, c.names...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		a, code, text := n.applicant()
		if code != c.code || (code == "") != (text == "") || code == "" && a != c.want {
			t.Errorf("%s: got %+v %s %s", name, a, code, text)
		}
	}
}

// attributed is a CSR whose attributes are exactly these: each an OID and its values.
func attributed(t testing.TB, attributes ...[]any) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: deviceID}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Version            int
		Subject, PublicKey asn1.RawValue
		Attributes         []asn1.RawValue `asn1:"tag:0"`
	}
	if _, err := asn1.Unmarshal(parsed.RawTBSCertificateRequest, &info); err != nil {
		t.Fatal(err)
	}
	info.Attributes = nil
	for _, a := range attributes {
		var values []byte
		for _, v := range a[1:] {
			values = append(values, v.([]byte)...)
		}
		raw, err := asn1.Marshal(struct {
			ID     asn1.ObjectIdentifier
			Values asn1.RawValue
		}{a[0].(asn1.ObjectIdentifier), asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: values}})
		if err != nil {
			t.Fatal(err)
		}
		info.Attributes = append(info.Attributes, asn1.RawValue{FullBytes: raw})
	}
	tbs, err := asn1.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	der, err = asn1.Marshal(struct {
		TBS asn1.RawValue
		Alg pkix.AlgorithmIdentifier
		Sig asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, asn1.BitString{Bytes: []byte{0}, BitLength: 8}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// extensions is a value of an extension request, with a subjectAltName for each address.
func extensions(t testing.TB, addresses ...string) []byte {
	t.Helper()
	var list []pkix.Extension
	for _, a := range addresses {
		value, err := asn1.Marshal([]asn1.RawValue{mail(a)})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, pkix.Extension{Id: oidSubjectAltName, Value: value})
	}
	der, err := asn1.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Names in two places could be one for the validator and another for us.
func TestNamesInTwoPlaces(t *testing.T) {
	a, b := extensions(t, "alice@contoso.com"), extensions(t, "boss@contoso.com")
	for name, der := range map[string][]byte{
		"two requests":    attributed(t, []any{oidExtensionRequest, a}, []any{oidExtensionRequest, b}),
		"two values":      attributed(t, []any{oidExtensionRequest, a, b}),
		"two kinds":       attributed(t, []any{oidExtensionRequest, a}, []any{oidMSExtensions, b}),
		"kinds, reversed": attributed(t, []any{oidMSExtensions, a}, []any{oidExtensionRequest, b}),
		"two names":       attributed(t, []any{oidExtensionRequest, extensions(t, "alice@contoso.com", "boss@contoso.com")}),
		"too large":       make([]byte, maxCSR+1),
		"empty":           nil,
	} {
		if n, err := readNames(der); err == nil {
			t.Errorf("%s: read as %+v", name, n)
		}
	}
	for _, id := range []asn1.ObjectIdentifier{oidExtensionRequest, oidMSExtensions} {
		if n, err := readNames(attributed(t, []any{id, a})); err != nil || len(n.mails) != 1 {
			t.Errorf("%s: %v, %v", id, n, err)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add(request(f, pkix.Name{CommonName: deviceID, SerialNumber: "X"}, mail("a@contoso.com"), upn(f, "u@contoso.com"), uri("urn:uuid:"+deviceID)))
	f.Add(attributed(f, []any{oidMSExtensions, extensions(f, "a@contoso.com")}))
	f.Fuzz(func(t *testing.T, der []byte) {
		n, err := readNames(der)
		if err != nil {
			return
		}
		a, code, _ := n.applicant()
		if code == "" && (a.Mail == "" || a.SerialNumber == "" && a.UDID == "" || !plain(a.SerialNumber, maxAttribute)) {
			t.Errorf("nobody is an applicant: %+v", a)
		}
	})
}
