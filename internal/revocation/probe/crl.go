package probe

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Extensions of CRLs: RFC 5280, section 5.2, and Microsoft's szOID_CRL_NEXT_PUBLISH.
var (
	oidKeyID          = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidNumber         = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaIndicator = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIDP            = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidFreshest       = asn1.ObjectIdentifier{2, 5, 29, 46}
	oidNextPublish    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 4}
)

// list is a CRL that was parsed.
type list struct {
	*x509.RevocationList
	base        *big.Int  // deltaCRLIndicator; nil for a complete CRL
	nextPublish time.Time // zero for none
	freshest    string    // the first URL of freshestCRL
}

// crl fetches and judges one CRL. The list is nil if there is none that can be read.
func (l *look) crl(ctx context.Context, about, raw string) (*CRL, *list) {
	out := &CRL{URL: raw}
	a, ok := l.fetch(ctx, about, raw)
	out.Status, out.Size, out.Millis = a.status, len(a.body), a.took.Milliseconds()
	if !ok {
		return out, nil
	}
	c, f, err := parse(a.body)
	if err != nil {
		l.fail(about, f, "%v", err)
		return out, nil
	}
	l.judge(about, c)
	if c.Number != nil {
		out.Number = c.Number.String()
	}
	if c.base != nil {
		out.BaseNumber = c.base.String()
	}
	out.ThisUpdate, out.NextUpdate, out.NextPublish, out.Entries = c.ThisUpdate, c.NextUpdate, c.nextPublish, len(c.RevokedCertificateEntries)
	return out, c
}

// parse reads a CRL of a size that was checked. An error comes with its fault.
func parse(raw []byte) (*list, fault, error) {
	var whole asn1.RawValue
	if rest, err := asn1.Unmarshal(raw, &whole); err != nil || len(rest) > 0 || whole.Tag != asn1.TagSequence || !whole.IsCompound {
		if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("-----BEGIN ")) {
			return nil, notDER, errors.New("it is PEM, not DER")
		}
		return nil, notDER, errors.New("it is not DER")
	}
	l, err := x509.ParseRevocationList(raw)
	if err != nil {
		return nil, notACRL, fmt.Errorf("it is not a CRL: %w", err)
	}
	if !bytes.Equal(l.Raw, raw) {
		return nil, notACRL, errors.New("it is not a CRL: something is behind its end")
	}
	c := &list{RevocationList: l}
	for _, e := range l.Extensions {
		if err := c.extension(e); err != nil {
			return nil, notACRL, err
		}
	}
	return c, fault{}, nil
}

func (c *list) extension(e pkix.Extension) error {
	switch {
	case e.Id.Equal(oidDeltaIndicator):
		n := new(big.Int)
		if rest, err := asn1.Unmarshal(e.Value, &n); err != nil || len(rest) > 0 {
			return errors.New("its deltaCRLIndicator cannot be read")
		}
		c.base = n
	case e.Id.Equal(oidNextPublish):
		if rest, err := asn1.Unmarshal(e.Value, &c.nextPublish); err != nil || len(rest) > 0 {
			return errors.New("its Next CRL Publish cannot be read")
		}
	case e.Id.Equal(oidFreshest):
		var points []struct {
			Name struct {
				Full []asn1.RawValue `asn1:"optional,tag:0"`
			} `asn1:"optional,tag:0"`
			Reasons asn1.BitString `asn1:"optional,tag:1"`
			Issuer  asn1.RawValue  `asn1:"optional,tag:2"`
		}
		if rest, err := asn1.Unmarshal(e.Value, &points); err != nil || len(rest) > 0 {
			return errors.New("its freshestCRL cannot be read")
		}
		for _, p := range points {
			for _, n := range p.Name.Full {
				if n.Class == asn1.ClassContextSpecific && n.Tag == 6 && c.freshest == "" {
					c.freshest = string(n.Bytes)
				}
			}
		}
	}
	return nil
}

// judge says what is wrong with one CRL for itself.
func (l *look) judge(about string, c *list) {
	l.signer(about, c)
	l.times(about, c)
	switch {
	case c.Number == nil:
		l.fail(about, notACRL, "it has no number, and Entra ID wants one that rises")
	case c.Number.BitLen() > 8*20:
		l.warn(about, notACRL.remedy, "its number has more than 20 octets")
	}
	if about == "base" && c.base != nil {
		l.fail(about, noSegments, "it is a delta CRL, under the URL of the base")
	}
	if about == "delta" && c.base == nil {
		l.fail(about, noSegments, "it is a complete CRL, under the URL of the delta")
	}
	for _, e := range c.Extensions {
		switch {
		case e.Id.Equal(oidIDP):
			l.warn(about, "publish one CRL for everything that the CA has issued", "it has an issuingDistributionPoint: Microsoft does not say that CRLs in parts are understood")
		case e.Id.Equal(oidDeltaIndicator) && !e.Critical:
			l.fail(about, notACRL, "its deltaCRLIndicator is not critical (RFC 5280, section 5.2.4): it would be taken for a complete CRL")
		case e.Critical && !e.Id.Equal(oidDeltaIndicator) && !e.Id.Equal(oidKeyID) && !e.Id.Equal(oidNumber):
			l.fail(about, notACRL, "it has a critical extension %s that nobody knows", e.Id)
		case e.Id.Equal(oidFreshest) && about == "delta":
			l.warn(about, notACRL.remedy, "a delta CRL must not have freshestCRL (RFC 5280, section 5.2.6)")
		}
	}
	l.entries(about, c)
}

// signer checks who has signed. Entra ID finds the issuer by key identifiers.
func (l *look) signer(about string, c *list) {
	if len(c.AuthorityKeyId) == 0 {
		l.fail(about, badSigner, "it has no authority key identifier")
	}
	if l.ca == nil {
		return
	}
	var weak x509.InsecureAlgorithmError
	switch err := c.CheckSignatureFrom(l.ca); {
	case len(c.AuthorityKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, l.ca.SubjectKeyId):
		l.fail(about, badSigner, "its authority key identifier is %x, and the CA's subject key identifier %x", c.AuthorityKeyId, l.ca.SubjectKeyId)
	case !bytes.Equal(c.RawIssuer, l.ca.RawSubject):
		l.fail(about, badSigner, "its issuer is %q, and the CA's subject %q", c.Issuer.String(), l.ca.Subject.String())
	case errors.As(err, &weak):
		l.fail(about, badSigner, "it is signed with %s, which nobody should believe", c.SignatureAlgorithm)
	case err != nil:
		l.fail(about, badSigner, "its signature is not the CA's: %v", err)
	}
}

// times checks validity, and whether the publisher is still alive.
func (l *look) times(about string, c *list) {
	now := l.now()
	switch {
	case c.NextUpdate.IsZero():
		l.fail(about, notACRL, "it has no nextUpdate")
		return
	case now.After(c.NextUpdate):
		l.fail(about, notValid, "it has expired on %s", stamp(c.NextUpdate))
		return
	case now.Before(c.ThisUpdate):
		l.fail(about, notValid, "it is valid from %s only", stamp(c.ThisUpdate))
		return
	}
	life := c.NextUpdate.Sub(c.ThisUpdate)
	switch {
	case !c.nextPublish.IsZero() && (c.nextPublish.Before(c.ThisUpdate) || c.nextPublish.After(c.NextUpdate)):
		l.warn(about, "let it lie between thisUpdate and nextUpdate", "its Next CRL Publish, %s, makes no sense", stamp(c.nextPublish))
	case c.nextPublish.IsZero():
		l.warn(about, "add Next CRL Publish (1.3.6.1.4.1.311.21.4)", "it has no Next CRL Publish: Entra ID keeps it until %s, and does not see what is revoked meanwhile", stamp(c.NextUpdate))
	case now.After(c.nextPublish.Add(life / 20)):
		l.warn(about, "see why the publisher makes no new one: `postern status`", "a new one was due on %s; this one expires on %s", stamp(c.nextPublish), stamp(c.NextUpdate))
	}
}

// removeFromCRL is the reason that only a delta may give (RFC 5280, section 5.3.1).
const removeFromCRL = 8

func (l *look) entries(about string, c *list) {
	seen := make(map[string]bool, len(c.RevokedCertificateEntries))
	var twice, removed, critical, future int
	for _, e := range c.RevokedCertificateEntries {
		key := string(e.SerialNumber.Bytes())
		if seen[key] {
			twice++
		}
		seen[key] = true
		if e.ReasonCode == removeFromCRL && c.base == nil {
			removed++
		}
		for _, x := range e.Extensions {
			if x.Critical {
				critical++
			}
		}
		if e.RevocationTime.After(c.ThisUpdate) {
			future++
		}
	}
	if critical > 0 {
		l.fail(about, notACRL, "%d entries have critical extensions, as of an indirect CRL", critical)
	}
	if twice > 0 {
		l.warn(about, notACRL.remedy, "%d serial numbers are listed more than once", twice)
	}
	if removed > 0 {
		l.warn(about, notACRL.remedy, "%d entries say removeFromCRL, which only a delta CRL may", removed)
	}
	if future > 0 {
		l.warn(about, "check the clock of the CA", "%d entries are revoked after the CRL was made", future)
	}
}

// pair checks whether base and delta can be combined (RFC 5280, section 5.2.4). That both are there was looked at before.
func (l *look) pair(base, delta *list, deltaURL string) {
	if base == nil || delta == nil {
		return
	}
	if base.freshest != "" && base.freshest != deltaURL {
		l.warn("pair", "register the URL that the base names", "the base CRL says that its delta is at %q", base.freshest)
	}
	if base.base != nil || delta.base == nil || base.Number == nil || delta.Number == nil {
		return // said already
	}
	switch base.Number.Cmp(delta.Number) {
	case 0:
		return // issued together: the base says everything that the delta says
	case 1:
		l.fail("pair", noSegments, "the delta, number %s, is older than the base, number %s", delta.Number, base.Number)
		return
	}
	if base.Number.Cmp(delta.base) < 0 {
		l.fail("pair", noSegments, "the delta, number %s, is for base %s or later, and the base is number %s", delta.Number, delta.base, base.Number)
	}
	if !delta.ThisUpdate.After(base.ThisUpdate) {
		l.warn("pair", noSegments.remedy, "the delta has the higher number and not the later thisUpdate")
	}
}
