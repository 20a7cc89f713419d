package revocation

// Base returns the base CRL of a CA that is served now, in DER; ok is false for a CA that is not published here. The bytes are not to be changed.
func (p *Publisher) Base(issuer, ca string) (der []byte, ok bool) {
	for _, a := range p.authorities() {
		if a.name == issuer && a.id == ca {
			if pair := a.served.Load(); pair != nil {
				return pair.base.der, true
			}
		}
	}
	return nil, false
}
