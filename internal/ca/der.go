package ca

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of extensions, RFC 5280, section 4.2 and 5.2, and of what goes into them.
var (
	oidCommonName         = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSerialNumber       = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidOrganization       = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidOrganizationalUnit = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidEmailAddress       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidCRLNumber        = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaIndicator   = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidCRLDistribution  = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidPolicies         = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidFreshestCRL      = asn1.ObjectIdentifier{2, 5, 29, 46}
	oidAuthorityInfo    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidAccessOCSP       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidAccessCAIssuers  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
	oidClientAuth       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	oidUPN              = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3} // Microsoft's szOID_NT_PRINCIPAL_NAME
	oidNextCRLPublish   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 4}    // Microsoft's szOID_CRL_NEXT_PUBLISH
	oidRequestAgent     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 1} // Microsoft's szOID_ENROLLMENT_AGENT
)

// Tags of GeneralName and other context-specific choices.
var (
	tag0      = cbasn1.Tag(0).ContextSpecific()
	tag0Cons  = tag0.Constructed()
	tag1Cons  = cbasn1.Tag(1).ContextSpecific().Constructed()
	tag2Cons  = cbasn1.Tag(2).ContextSpecific().Constructed()
	tagRFC822 = cbasn1.Tag(1).ContextSpecific()
	tagURI    = cbasn1.Tag(6).ContextSpecific()
)

// der runs a builder and returns its bytes. The builders of this package hold nothing that cannot be encoded, except an object identifier that is wrong.
func der(build func(*cryptobyte.Builder)) ([]byte, error) {
	var b cryptobyte.Builder
	build(&b)
	return b.Bytes()
}

func addString(b *cryptobyte.Builder, tag cbasn1.Tag, s string) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

// distributionPoint encodes CRLDistributionPoints with one full name, RFC 5280, section 4.2.1.13; freshestCRL has the same syntax (section 4.2.1.15).
func distributionPoint(url string) ([]byte, error) {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(tag0Cons, func(b *cryptobyte.Builder) {
					b.AddASN1(tag0Cons, func(b *cryptobyte.Builder) { addString(b, tagURI, url) })
				})
			})
		})
	})
}

// freshestCRL is the extension of a certificate that says where the delta CRL is.
func freshestCRL(url string) (pkix.Extension, error) {
	value, err := distributionPoint(url)
	return pkix.Extension{Id: oidFreshestCRL, Value: value}, err
}

// subjectAltName encodes rfc822Names, UPN and URIs, RFC 5280, section 4.2.1.6.
func subjectAltName(mails []string, upn string, uris ...string) ([]byte, error) {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, m := range mails {
				addString(b, tagRFC822, m)
			}
			b.AddASN1(tag0Cons, func(b *cryptobyte.Builder) { // otherName
				b.AddASN1ObjectIdentifier(oidUPN)
				b.AddASN1(tag0Cons, func(b *cryptobyte.Builder) { addString(b, cbasn1.UTF8String, upn) })
			})
			for _, u := range uris {
				addString(b, tagURI, u)
			}
		})
	})
}

// authorityInfo encodes AuthorityInfoAccess, RFC 5280, section 4.2.2.1.
func authorityInfo(ocsp, issuer string) ([]byte, error) {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, d := range []struct {
				method asn1.ObjectIdentifier
				url    string
			}{{oidAccessOCSP, ocsp}, {oidAccessCAIssuers, issuer}} {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(d.method)
					addString(b, tagURI, d.url)
				})
			}
		})
	})
}

// policies encodes CertificatePolicies without qualifiers, RFC 5280, section 4.2.1.4.
func policies(oids []string) ([]byte, error) {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, s := range oids {
				oid, err := parseOID(s)
				if err != nil {
					b.SetError(err)
					return
				}
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
			}
		})
	})
}

func parseOID(s string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("object identifier %q: %w", s, err)
		}
		oid = append(oid, int(n))
	}
	return oid, nil
}
