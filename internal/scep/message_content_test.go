package scep

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func readCSR(t *testing.T, subject pkix.Name, attrs ...csrAttribute) (*Request, error) {
	t.Helper()
	p := testParties()
	csr := csrWith(t, p.phone.key, subject, attrs...)
	r := mustParse(t, newMessage(PKCSReq, p.phone, sealed(t, csr, AES128)).encode(t))
	return r, open(r, false)
}

func TestChallenge(t *testing.T) {
	for name, test := range map[string]struct {
		tag         int
		value, want string
	}{
		"PrintableString": {asn1.TagPrintableString, "abc123", "abc123"},
		"UTF8String":      {asn1.TagUTF8String, "schlüssel", "schlüssel"},
		"IA5String":       {asn1.TagIA5String, "a@b_c*", "a@b_c*"},
		"T61String":       {asn1.TagT61String, "gr\xfcn", "grün"},
		"BMPString":       {asn1.TagBMPString, "\x00a\x00\xfc\xd8\x3d\xdd\x11", "aü🔑"},
		"NumericString":   {asn1.TagNumericString, "123456", "123456"},
		"VisibleString":   {tagVisibleString, "abc", "abc"},
		"UniversalString": {tagUniversalString, "\x00\x00\x00a\x00\x01\xf5\x11", "a🔑"},
		"empty":           {asn1.TagUTF8String, "", ""},
		"longest":         {asn1.TagUTF8String, strings.Repeat("x", 255), strings.Repeat("x", 255)},
	} {
		r, err := readCSR(t, pkix.Name{CommonName: "dev"}, challengeAttr(test.tag, test.value))
		if err != nil || string(r.Challenge) != test.want {
			t.Errorf("%s: got %q, %v", name, string(r.Challenge), err)
		}
	}
	if r, err := readCSR(t, pkix.Name{CommonName: "dev"}); err != nil || r.Challenge != "" {
		t.Errorf("none: %v", err)
	}
	good := challengeAttr(asn1.TagUTF8String, "a")
	for name, attrs := range map[string][]csrAttribute{
		"too long":      {challengeAttr(asn1.TagUTF8String, strings.Repeat("x", 256))},
		"far too long":  {challengeAttr(asn1.TagUTF8String, strings.Repeat("x", 5000))},
		"long in UTF-8": {challengeAttr(asn1.TagT61String, strings.Repeat("\xfc", 200))},
		"two":           {good, good},
		"two values":    {{oidChallenge, append(good.Values, good.Values...)}},
		"no value":      {{oidChallenge, nil}},
		"a number":      {challengeAttr(asn1.TagInteger, "\x01")},
		"broken UTF-8":  {challengeAttr(asn1.TagUTF8String, "\xff")},
		"odd BMP":       {challengeAttr(asn1.TagBMPString, "abc")},
		"odd Universal": {challengeAttr(tagUniversalString, "abc")},
		"no character":  {challengeAttr(tagUniversalString, "\xff\xff\xff\xff")},
		"control":       {challengeAttr(asn1.TagPrintableString, "a\x00b")},
		"many":          make([]csrAttribute, maxAttributes+1),
	} {
		for i := range attrs {
			if attrs[i].Type == nil {
				attrs[i].Type = asn1.ObjectIdentifier{1, 2, 3, i}
			}
		}
		r, err := readCSR(t, pkix.Name{CommonName: "dev"}, attrs...)
		f := wantFailure(t, err, BadRequest)
		if r.CSR != nil || strings.Contains(f.Error(), "xxx") {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func otherName(t *testing.T, oid asn1.ObjectIdentifier, tag int, value string) asn1.RawValue {
	inner := mustMarshal(t, asn1.RawValue{Tag: tag, Bytes: []byte(value)})
	explicit := mustMarshal(t, asn1.RawValue{Class: 2, IsCompound: true, Bytes: inner})
	return asn1.RawValue{Class: 2, IsCompound: true, Bytes: append(mustMarshal(t, oid), explicit...)}
}

func generalName(tag int, value string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(value)}
}

func TestRequestedNames(t *testing.T) {
	subject := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: oidCommonName, Value: "dev"},
		{Type: oidEmailAddress, Value: "alice@contoso.com"},
		{Type: oidCommonName, Value: "dev2"},
	}}
	r, err := readCSR(t, subject,
		namesAttr(t, oidExtensionRequest,
			generalName(1, "bob@contoso.com"), otherName(t, oidUPN, asn1.TagUTF8String, "ceo@contoso.com"),
			otherName(t, asn1.ObjectIdentifier{1, 2, 3}, asn1.TagUTF8String, "x"),
			generalName(2, "phone.contoso.com"), generalName(6, "urn:x"), generalName(7, "\x7f\x00\x00\x01")),
		namesAttr(t, oidMSExtensions, generalName(1, "eve@contoso.com")))
	if err != nil {
		t.Fatal(err)
	}
	want := RequestedNames{
		Emails: []string{"bob@contoso.com", "eve@contoso.com"}, UPNs: []string{"ceo@contoso.com"},
		DNSNames: []string{"phone.contoso.com"}, URIs: []string{"urn:x"}, IPAddresses: []string{"127.0.0.1"}, Others: 1,
	}
	slices.Sort(r.Names.Emails) // attributes are a SET
	if !reflect.DeepEqual(r.Names, want) {
		t.Errorf("got %+v", r.Names)
	}
}

// crypto/x509 does not look into these, so that only our reader can refuse them.
func TestRequestedNamesRefused(t *testing.T) {
	number := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidEmailAddress, Value: 5}}}
	for name, attr := range map[string]csrAttribute{
		"e-mail not ASCII": namesAttr(t, oidMSExtensions, generalName(1, "a\xff@b")),
		"line break":       namesAttr(t, oidMSExtensions, generalName(1, "a\n@b")),
		"IP address":       namesAttr(t, oidMSExtensions, generalName(7, "\x7f")),
		"universal":        namesAttr(t, oidMSExtensions, asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte("a@b")}),
		"UPN as a number":  namesAttr(t, oidMSExtensions, otherName(t, oidUPN, asn1.TagInteger, "\x01")),
		"UPN twice":        namesAttr(t, oidMSExtensions, asn1.RawValue{Class: 2, IsCompound: true, Bytes: append(otherName(t, oidUPN, 12, "a").Bytes, 5, 0)}),
		"no type":          namesAttr(t, oidMSExtensions, generalName(0, "")),
		"too many":         namesAttr(t, oidMSExtensions, make([]asn1.RawValue, maxNames+1)...),
		"no list":          {oidMSExtensions, []asn1.RawValue{{Tag: asn1.TagInteger, Bytes: []byte{1}}}},
	} {
		if _, err := readCSR(t, pkix.Name{CommonName: "dev"}, attr); err == nil {
			t.Errorf("%s passes", name)
		} else {
			wantFailure(t, err, BadRequest)
		}
	}
	_, err := readCSR(t, number)
	wantFailure(t, err, BadRequest)
}

func TestCSRKeys(t *testing.T) {
	p := testParties()
	for _, test := range []struct {
		key  party
		want string
	}{{p.small, "1024 bits is too short"}, {p.ec, ""}, {p.phone, ""}} {
		csr := csrWith(t, test.key.key, pkix.Name{CommonName: "dev"})
		r := mustParse(t, newMessage(PKCSReq, p.phone, sealed(t, csr, AES128)).encode(t))
		err := open(r, false)
		if test.want != "" {
			if f := wantFailure(t, err, BadAlg); !strings.Contains(f.Text, test.want) {
				t.Errorf("got %v", f)
			}
			continue
		}
		if err != nil || r.SameKey() != (test.key == p.phone) {
			t.Errorf("%v: same key %v, %v", test.key.cert.Subject, r.SameKey(), err)
		}
	}
}

func TestCertificateNames(t *testing.T) {
	p := testParties()
	issuer := asn1.RawValue{FullBytes: p.ca.cert.RawSubject}
	subject := asn1.RawValue{FullBytes: p.phone.cert.RawSubject}
	content := mustMarshal(t, issuerAndSerial{issuer, big.NewInt(77)})
	for _, kind := range []MessageType{GetCert, GetCRL} {
		r := mustParse(t, newMessage(kind, p.phone, sealed(t, content, AES128)).encode(t))
		if err := open(r, false); err != nil || r.Serial.Int64() != 77 || !bytes.Equal(r.Issuer, issuer.FullBytes) {
			t.Errorf("%v: %v, %v", kind, r.Serial, err)
		}
	}
	content = mustMarshal(t, []asn1.RawValue{{FullBytes: p.ra.cert.RawSubject}, subject})
	r := mustParse(t, newMessage(CertPoll, p.phone, sealed(t, content, AES128)).encode(t))
	if err := open(r, false); err != nil || !bytes.Equal(r.Issuer, p.ra.cert.RawSubject) || !bytes.Equal(r.Subject, subject.FullBytes) {
		t.Errorf("CertPoll: %v", err)
	}
}
