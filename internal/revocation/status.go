package revocation

import (
	"sync"
	"time"

	"postern/internal/registry"
)

// CRLStatus is what health tells of one published CRL. Number is 0 if there is none.
type CRLStatus struct {
	Number      uint64    `json:"number"`
	BaseNumber  uint64    `json:"base_number,omitempty"`
	ThisUpdate  time.Time `json:"this_update"`
	NextUpdate  time.Time `json:"next_update"`
	NextPublish time.Time `json:"next_publish"`
	Entries     int       `json:"entries"`
	Size        int       `json:"size"` // octets
}

// CAStatus is the state of one CA's publication.
type CAStatus struct {
	Issuer  string            `json:"issuer"`
	CA      string            `json:"ca"`
	Base    CRLStatus         `json:"base"`
	Delta   CRLStatus         `json:"delta"`
	Covers  registry.Revision `json:"covers"`           // every change up to this revision is served
	Valid   bool              `json:"valid"`            // base and delta are both there and not expired; of an imported CRL, there is no delta
	Error   string            `json:"error,omitempty"`  // why the last publication failed; empty once one has succeeded
	Failing time.Time         `json:"failing,omitzero"` // since when
	Pending time.Time         `json:"pending,omitzero"` // since when a publication is due that has not happened; zero for none
	Until   time.Time         `json:"until,omitzero"`   // when what is served ceases to be valid: nextUpdate of base or delta, whichever is earlier
	Late    bool              `json:"late,omitempty"`   // a tenth of the time between Next CRL Publish and nextUpdate is over, and there is no newer one
}

// Trouble says in a sentence what is wrong with the publication, and until when relying parties do not notice; empty if nothing is.
func (c CAStatus) Trouble() string {
	why := c.Error
	switch {
	case why != "":
		why = "are not renewed since " + c.Failing.Format(time.RFC3339) + ": " + why
	case c.Late:
		why = "are late"
	case !c.Valid:
		why = "are not valid"
	default:
		return ""
	}
	text := "CRLs of " + c.Issuer + "/" + c.CA + " " + why
	switch {
	case c.Valid:
		text += "; what is served holds until " + c.Until.Format(time.RFC3339)
	case !c.Until.IsZero():
		text += "; what is served has expired on " + c.Until.Format(time.RFC3339) + ", and sign-ins fail"
	}
	return text
}

// Status tells how the publication of every CA stands, in the order of the configuration.
func (p *Publisher) Status() []CAStatus {
	all := p.authorities()
	out := make([]CAStatus, 0, len(all))
	for _, a := range all {
		s := CAStatus{Issuer: a.name, CA: a.id}
		if served := a.served.Load(); served != nil {
			s.Base, s.Covers, s.Valid = served.base.status(), served.covers(), served.valid(a.now()) || a.imported && !a.now().After(served.base.record.NextUpdate)
			s.Until, s.Late = served.base.record.NextUpdate, served.base.late(a.now())
			if served.delta != nil {
				s.Delta = served.delta.status()
				s.Late = s.Late || served.delta.late(a.now())
				if s.Delta.NextUpdate.Before(s.Until) {
					s.Until = s.Delta.NextUpdate
				}
			}
		}
		a.status.fill(&s)
		out = append(out, s)
	}
	return out
}

// late reports whether a newer one should be there.
func (s *signed) late(now time.Time) bool {
	publish, end := s.record.NextPublish, s.record.NextUpdate
	return now.After(publish.Add(end.Sub(publish) / 10))
}

func (s *signed) status() CRLStatus {
	r := s.record
	return CRLStatus{Number: r.Number, BaseNumber: r.BaseNumber, ThisUpdate: r.ThisUpdate, NextUpdate: r.NextUpdate, NextPublish: r.NextPublish, Entries: r.Entries, Size: r.Size}
}

// status is what changes of a CAStatus, for readers beside the publication.
type status struct {
	mu      sync.Mutex
	err     string
	failing time.Time
	pending time.Time
	request time.Time // when the last request that was carried out had been made
}

func (s *status) fill(c *CAStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Error, c.Failing, c.Pending = s.err, s.failing, s.pending
}

// waiting notes that a publication is due.
func (s *status) waiting(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending.IsZero() {
		s.pending = now.UTC()
	}
}

// failed notes why there was none.
func (s *status) failed(now time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == "" {
		s.failing = now.UTC()
	}
	s.err = err.Error()
}

// idle notes that nothing is due.
func (s *status) idle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.failing, s.pending = "", time.Time{}, time.Time{}
}

func (s *status) carry(request time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.request = request
}

func (s *status) carriedOut(request time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.request.Equal(request)
}
