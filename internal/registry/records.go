package registry

import "postern/internal/trust"

// What is stored of each kind of record, in order. A change of these lists is a change of the format of the store: what is new is read from its format on.

// certificate is all but the bytes of the certificate, which have a table of their own.
func (f *fields) certificate(c *trust.Certificate) {
	fact := factOf(*c)
	f.fact(&fact)
	fact.into(c)
	text(f, &c.Subject)
	f.time(&c.NotBefore)
	text(f, &c.SKI)
	word(f, &c.Profile)
	word(f, &c.Evidence.Kind)
	text(f, &c.Evidence.Challenge)
	text(f, &c.Evidence.Renews)
	text(f, &c.Evidence.Remote)
	word(f, &c.Evidence.Validator)
	text(f, &c.Evidence.Pending)
	f.flag(&c.Evidence.KeyAttested)
	text(f, &c.Comment)
	text(f, &c.Predecessor)
	f.time(&c.IssuedAt)
	f.time(&c.RevokeAt)
	n := uint64(c.Renewals)
	f.number(&n)
	c.Renewals = int(n)
	f.number(&c.Revision)
}

// fact is what the index keeps of a certificate; it stands first, so that the index need not read the rest.
func (f *fields) fact(c *CertFact) {
	word(f, &c.Issuer)
	word(f, &c.CA)
	text(f, &c.Serial)
	text(f, &c.Device)
	text(f, &c.Owner)
	text(f, &c.Fingerprint)
	word(f, &c.Status)
	word(f, &c.Reason)
	text(f, &c.Successor)
	f.time(&c.NotAfter)
	f.time(&c.ChangedAt)
	f.time(&c.FirstUsed)
}

func (f *fields) device(d *trust.Device) {
	text(f, &d.ID)
	word(f, &d.Issuer)
	text(f, &d.Owner)
	text(f, &d.SerialNumber)
	text(f, &d.UDID)
	text(f, &d.EASDeviceID)
	word(f, &d.Model)
	word(f, &d.OS)
	word(f, &d.OSVersion)
	word(f, &d.State)
	f.flag(&d.Managed)
	word(f, &d.Compliant)
	word(f, &d.Source)
	f.time(&d.SourceSync)
	f.labels(&d.Labels)
	f.time(&d.Created)
	f.time(&d.Updated)
	if f.format > 1 {
		f.time(&d.ComplianceSince)
		f.time(&d.Enrolled)
	}
}

func (f *fields) owner(o *trust.Owner) {
	text(f, &o.Mail)
	text(f, &o.UPN)
	f.texts(&o.Proxies)
	text(f, &o.SAM)
	text(f, &o.OID)
	word(f, &o.TID)
	f.texts(&o.Delegations)
}

func (f *fields) profile(p *trust.MailProfile) {
	text(f, &p.ID)
	word(f, &p.Tenant)
	word(f, &p.Protocol)
	text(f, &p.ClientID)
	text(f, &p.User)
	word(f, &p.Credential)
	word(f, &p.Family)
	word(f, &p.Model)
	text(f, &p.Serial)
	text(f, &p.Device)
	f.flags(&p.Linked, &p.Refused)
	f.time(&p.FirstSeen)
	f.time(&p.LastSeen)
}
