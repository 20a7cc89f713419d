package server

import (
	"time"

	"postern/internal/admin"
	"postern/internal/revocation"
)

// CRLSection is when CRLs are published.
type CRLSection struct {
	BaseLifetime  Duration `yaml:"base_lifetime,omitempty" doc:"thisUpdate to nextUpdate of a base CRL; what is left out is 168h, 24h, 24h, 1h"`
	BaseEvery     Duration `yaml:"base_every,omitempty"`
	DeltaLifetime Duration `yaml:"delta_lifetime,omitempty"`
	DeltaEvery    Duration `yaml:"delta_every,omitempty"` // if nothing is revoked meanwhile; a revocation is published at once
	DeltaOf       string   `yaml:"delta_of,omitempty"`    // oldest (if left out) or newest
}

// valid returns the schedule, and adds what is wrong with it.
func (c *CRLSection) valid(p *problems) (s revocation.Schedule) {
	if c == nil {
		return s
	}
	s = revocation.Schedule{BaseLifetime: time.Duration(c.BaseLifetime), BaseEvery: time.Duration(c.BaseEvery), DeltaLifetime: time.Duration(c.DeltaLifetime),
		DeltaEvery: time.Duration(c.DeltaEvery), DeltaOfNewest: c.DeltaOf == "newest"}
	if c.DeltaOf != "" && c.DeltaOf != "oldest" && c.DeltaOf != "newest" {
		p.add("crl.delta_of", "%q: want oldest (a delta fits every base that may be cached) or newest", c.DeltaOf)
	}
	if err := s.Check(); err != nil {
		p.add("crl", "%v", err)
	}
	return s
}

// crlStates tells the metrics what is published.
func (s *Server) crlStates() (out []admin.CRLState) {
	if s.publisher == nil {
		return nil
	}
	for _, c := range s.publisher.Status() {
		out = append(out, admin.CRLState{Issuer: c.Issuer, CA: c.CA, Until: c.Until, Pending: c.Pending, Trouble: c.Trouble() != ""})
	}
	return out
}
