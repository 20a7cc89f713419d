// Package revocation is the door through which the world learns what has been revoked: CRLs and delta CRLs (RFC 5280, section 5), the distribution
// point that serves them, and OCSP (RFC 6960).
//
// Publisher keeps, for each CA, a pair that is always valid together: a base CRL and a delta CRL that was made after it. It follows the registry, signs a
// new delta as soon as something changed, distrusts what was signed until it has been parsed back, verified and compared with what the world already has,
// commits its number by compare-and-swap, and only then serves it. Its content is a function of the registry's history alone, see content.go.
//
// What holds whatever happens, also after kill -9: numbers only rise; thisUpdate is never earlier than one that was published and never in the future; what
// was published as revoked stays so until it is released or has expired; and if signing fails, the old pair stays served and Status says why.
package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// Schedule says how long CRLs are valid and how often they are renewed. Zero fields take the defaults.
type Schedule struct {
	BaseLifetime  time.Duration // thisUpdate to nextUpdate of a base CRL; 7 days
	BaseEvery     time.Duration // thisUpdate to Next CRL Publish of a base CRL; 24 hours
	DeltaLifetime time.Duration // of a delta CRL; 24 hours
	DeltaEvery    time.Duration // of a delta CRL, if nothing changes; 1 hour

	// DeltaOfNewest makes deltas refer to the newest base instead of the oldest that may be cached: they are smaller, and whoever has an older base has to fetch
	// the newer one before a delta is of use (RFC 5280, section 5.2.4). Entra ID does not document that it does.
	DeltaOfNewest bool
}

// complete fills in defaults.
func (s Schedule) complete() Schedule {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&s.BaseLifetime, 7 * 24 * time.Hour}, {&s.BaseEvery, 24 * time.Hour}, {&s.DeltaLifetime, 24 * time.Hour}, {&s.DeltaEvery, time.Hour},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	return s
}

// Check reports every setting that cannot work, with errors that wrap trust.ErrInvalid; zero fields count as their defaults.
func (s Schedule) Check() error {
	s = s.complete()
	var errs []error
	// A second is the resolution of a CRL's times; a pair takes up to one to make.
	if s.BaseEvery < 5*time.Second || s.BaseLifetime < 2*s.BaseEvery {
		errs = append(errs, fmt.Errorf("base CRLs every %s, valid for %s, %w: want at least two in a lifetime", s.BaseEvery, s.BaseLifetime, trust.ErrInvalid))
	}
	if s.DeltaEvery < 2*time.Second || s.DeltaLifetime < 2*s.DeltaEvery {
		errs = append(errs, fmt.Errorf("delta CRLs every %s, valid for %s, %w: want at least two in a lifetime", s.DeltaEvery, s.DeltaLifetime, trust.ErrInvalid))
	}
	if s.BaseLifetime > 366*24*time.Hour || s.DeltaLifetime > s.BaseLifetime {
		errs = append(errs, fmt.Errorf("base CRLs valid for %s, delta CRLs for %s, %w: want a year at most, and no delta that outlives its base", s.BaseLifetime, s.DeltaLifetime,
			trust.ErrInvalid))
	}
	return errors.Join(errs...)
}

// OCSPTimes says how long OCSP answers are good for. Zero fields take the defaults.
type OCSPTimes struct {
	Lifetime time.Duration // thisUpdate to nextUpdate; 1 hour, at most 4 days
	MaxAge   time.Duration // how long an HTTP cache may keep the answer to a GET, at most Lifetime; 1 minute
}

// Config is what a Publisher is made of.
type Config struct {
	Issuers  []*ca.Issuer
	Registry *registry.Registry
	Index    *registry.Index  // has to be followed (Index.Run) by the caller; OCSP answers from it
	Journal  registry.Journal // takes the receipts of fetches; nil keeps none
	Dir      string           // the data directory; CRLs are written to <Dir>/crl/<issuer>/
	Mirror   string           // a directory that is kept like the distribution point, for another web server; empty for none
	Now      func() time.Time
	Log      *slog.Logger
	Schedule Schedule
	OCSP     OCSPTimes

	// Own lists certificates beside those of the CAs and the registration authority that the CAs have signed and the registry does not hold, such as that of
	// the edge's TLS listener: without it OCSP calls them unknown.
	Own []*x509.Certificate
}

// Publisher publishes the CRLs of all CAs of its issuers. Make one per process with NewPublisher, call Prime, then Run.
type Publisher struct {
	cfg    Config
	sites  []*site // one per issuer, in the order of the configuration
	ocsp   ocspCache
	mirror *mirror // nil without Config.Mirror
}

// NewPublisher checks the configuration; it reads and writes nothing. It publishes for the CAs of the issuers, in force, next or retired; Run follows their
// rotations. Of a CA whose key is not here the CRL that was imported is served, without a delta, or nothing if it is another PKI's.
func NewPublisher(cfg Config) (*Publisher, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("revocation: %w", err)
	}
	p := &Publisher{cfg: cfg}
	for _, issuer := range cfg.Issuers {
		s := &site{cfg: &p.cfg, issuer: issuer, name: issuer.Spec().ID}
		if err := s.renew(); err != nil {
			return nil, err
		}
		p.sites = append(p.sites, s)
	}
	if cfg.Mirror != "" {
		p.mirror = &mirror{dir: cfg.Mirror, sites: p.sites, log: cfg.Log, now: cfg.Now, written: map[string]document{}}
	}
	return p, nil
}

// authorities lists the CAs that are published now.
func (p *Publisher) authorities() (all []*authority) {
	for _, s := range p.sites {
		all = append(all, s.edition.Load().authorities...)
	}
	return all
}

// complete fills in defaults and reports every setting that cannot work.
func (c *Config) complete() error {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.OCSP.Lifetime, time.Hour}, {&c.OCSP.MaxAge, time.Minute},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	var errs []error
	if len(c.Issuers) == 0 || c.Registry == nil || c.Index == nil || c.Now == nil || c.Log == nil || c.Dir == "" {
		errs = append(errs, errors.New("issuers, registry, index, clock, log and directory are all needed"))
	}
	errs = append(errs, c.Schedule.Check())
	c.Schedule = c.Schedule.complete()
	o := c.OCSP
	if o.Lifetime < time.Second || o.Lifetime > 4*24*time.Hour || o.MaxAge < 0 || o.MaxAge > o.Lifetime {
		errs = append(errs, fmt.Errorf("OCSP answers valid for %s, cached for %s, %w", o.Lifetime, o.MaxAge, trust.ErrInvalid))
	}
	return errors.Join(errs...)
}

// Prime loads what was published before and publishes what is missing or out of date, so that every CA has a valid pair before a listener opens. It takes up
// to two seconds per CA, all at once. It fails only if some CA that signs here is left without a valid pair; CRLs that are merely due and cannot be signed are
// left to Run.
func (p *Publisher) Prime(ctx context.Context) error {
	all := p.authorities()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, a := range all {
		wg.Go(func() {
			if err := a.prime(ctx); err != nil {
				errs[i] = fmt.Errorf("publish the first CRLs of %s/%s: %w", a.name, a.id, err)
			}
		})
	}
	wg.Wait()
	if p.mirror != nil {
		p.mirror.sync(ctx) // what fails is tried again by Run
	}
	return errors.Join(errs...)
}

// Run publishes until ctx ends, then returns nil. CAs that come or go with a rotation come and go here. Failures are retried, logged and reported by Status;
// they never end it.
func (p *Publisher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range p.sites {
		wg.Go(func() { s.run(ctx, p.finish) })
	}
	if p.mirror != nil {
		wg.Go(func() { p.mirror.run(ctx) })
	}
	wg.Wait()
	return nil
}

// finish ends a stored request once every CA of its issuer has carried it out.
func (p *Publisher) finish(ctx context.Context, r registry.PublishRequest) error {
	for _, a := range p.authorities() {
		if a.name == r.Issuer && !a.imported && !a.status.carriedOut(r.At) {
			return nil
		}
	}
	return p.cfg.Registry.PublishDone(ctx, principal(), r)
}

// principal is who commits CRLs.
func principal() trust.Principal { return trust.Principal{Kind: "publisher", Name: "revocation"} }
