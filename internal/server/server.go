package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/internal/admin"
	"postern/internal/api"
	"postern/internal/ca"
	"postern/internal/decisionlog"
	"postern/internal/microsoft"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/revocation"
)

// Options say what to run and for whom. All fields but Ready are required.
type Options struct {
	Config  *Config
	Version string
	Getenv  func(string) string
	Now     func() time.Time
	Log     *slog.Logger
	Ready   func(Addresses) // called once when every listener is open
}

// Addresses are where the listeners really are; empty for a section that is not there.
type Addresses struct{ Public, PublicTLS, Edge, Admin, Socket string }

// Server is an assembled Postern. Make it with Open, run it once with Run.
type Server struct {
	opts      Options
	addresses Addresses
	closers   []func() error // in order of opening
	followers []part         // run until every door is closed
	doors     []part

	store     *bolt.Store
	journal   registry.Journal
	told      *decisionlog.Log // nil: decisions are told to nobody
	registry  *registry.Registry
	index     *registry.Index
	policy    *policy.Active
	keeper    *policyKeeper
	shadow    *shadowKeeper
	issuers   []*ca.Issuer
	rotations []*rotation
	publisher *revocation.Publisher
	forecasts forecasts
	reactions func() admin.EdgeReactions // of the edge; nil without one

	edgeTrouble func() string // likewise

	life    *lifecycle
	suppose func(context.Context, api.Suppose) (*policy.AccessInput, error) // of the edge; nil without one
}

// Open opens the data directory, the keys and every listener that the configuration asks for. Whatever is wrong is found here, before anything is answered.
func Open(ctx context.Context, opts Options) (_ *Server, err error) {
	s := &Server{opts: opts}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	for _, step := range []func(context.Context) error{s.openState, s.openIssuers, s.openIndex, s.openPolicy, s.openPublic, s.openEdge, s.openAdmin} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// opened remembers what has to be closed.
func (s *Server) opened(c func() error) { s.closers = append(s.closers, c) }

// close closes what was opened, the last first.
func (s *Server) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

func (s *Server) openState(context.Context) error {
	data := s.opts.Config.Data
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	store, err := bolt.Open(filepath.Join(data, "registry.db"), bolt.Options{Log: s.opts.Log, Now: s.opts.Now})
	var held *bolt.HeldError
	if errors.As(err, &held) {
		return fmt.Errorf("the data directory %s is in use by %s: stop that one first, or give this one another `data`", data, held.Holder)
	}
	if err != nil {
		return fmt.Errorf("open registry: %w", err)
	}
	s.store = store
	s.opened(store.Close)
	if err := s.openJournal(data); err != nil {
		return err
	}
	s.registry = registry.New(store, s.opts.Now, s.opts.Log).WithRenewal(s.opts.Config.Renewal)
	return nil
}

// IssuerDir is where the keys of an issuer are.
func IssuerDir(data, id string) string { return filepath.Join(data, "issuers", id) }

// Spec is what package ca has to know of an issuer.
func (i Issuer) Spec() ca.Spec {
	return ca.Spec{ID: i.ID, Organization: i.Organization, Domains: i.Domains, URL: i.URL, Profile: i.Profile, Keys: i.Keys}
}

func (s *Server) openIssuers(ctx context.Context) error {
	cfg := s.opts.Config
	if len(cfg.Issuers) == 0 {
		return nil
	}
	pass, err := ca.LoadPassphrase(ca.PassphraseSource{Getenv: s.opts.Getenv, Data: cfg.Data})
	if err != nil {
		return fmt.Errorf("open keys: %w", err)
	}
	for _, i := range cfg.Issuers {
		is, err := ca.Open(IssuerDir(cfg.Data, i.ID), i.Spec(), pass, s.opts.Now, s.opts.Log)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: make the keys of a new issuer with `postern init DIR --issuer %s`", err, i.ID)
		}
		if err != nil {
			return err
		}
		s.opened(is.Close)
		s.issuers = append(s.issuers, is)
		if err := s.announce(ctx, i, is.Certificates()); err != nil {
			return err
		}
		r := &rotation{server: s, issuer: is, config: i}
		s.rotations = append(s.rotations, r)
		s.followers = append(s.followers, part{"keys of " + i.ID, r.run})
	}
	return nil
}

func (s *Server) openIndex(ctx context.Context) (err error) {
	if s.index, err = registry.NewIndex(ctx, s.store, s.opts.Now, s.opts.Log); err != nil {
		return err
	}
	s.warnOrphans(ctx)
	s.followers = append(s.followers, part{"index", s.index.Run}, part{"sweeper", s.registry.RunSweeper})
	return nil
}

// warnOrphans names issuers that the registry knows and this configuration no longer has: the edge goes on trusting them, and nobody publishes their CRLs.
func (s *Server) warnOrphans(ctx context.Context) {
	configured := map[string]bool{}
	for _, i := range s.issuers {
		configured[i.Spec().ID] = true
	}
	for _, c := range s.index.CAs() {
		if len(configured) > 0 && !configured[c.Issuer] {
			s.opts.Log.WarnContext(ctx, "an issuer is in the registry and not in the configuration: its certificates are still trusted at the edge, its CRLs are not renewed",
				"issuer", c.Issuer, "ca", c.ID)
		}
	}
}

func (s *Server) openPolicy(ctx context.Context) (err error) {
	cfg := s.opts.Config.Policy
	s.registry.WithRevocationRules(s.opts.Config.Revocation)
	s.registry.WithPolicyRules(registry.PolicyRules{TwoPersons: cfg.TwoPersons, MaxException: cfg.MaxException})
	if s.keeper, err = newPolicyKeeper(cfg, s.registry, s.opts.Now, s.opts.Log); err != nil {
		return err
	}
	if s.policy, err = s.keeper.open(ctx); err != nil {
		return err
	}
	s.shadow = &shadowKeeper{registry: s.registry, active: s.policy, now: s.opts.Now, log: s.opts.Log}
	s.followers = append(s.followers, part{"policy", s.keeper.run}, part{"policy in shadow", s.shadow.run})
	return nil
}

func (s *Server) openPublic(ctx context.Context) error {
	cfg := s.opts.Config
	if cfg.Public == nil {
		return nil
	}
	var err error
	s.publisher, err = revocation.NewPublisher(revocation.Config{Issuers: s.issuers, Registry: s.registry, Index: s.index, Journal: s.journal, Dir: cfg.Data, Mirror: cfg.Public.Directory,
		Now: s.opts.Now, Log: s.opts.Log, Own: s.ownCertificates(), Schedule: cfg.CRL})
	if err != nil {
		return err
	}
	if err := s.publisher.Prime(ctx); err != nil {
		return fmt.Errorf("publish CRLs: %w", err)
	}
	s.followers = append(s.followers, part{"publisher", s.publisher.Run}, part{"forecast", s.followForecast})
	doors, err := s.enrolment()
	if err != nil {
		return err
	}
	s.followers = append(s.followers, part{"scep", doors.scep.Run})
	published := s.publisher.Handler()
	ln, err := s.listen(&s.addresses.Public, "public.listen", cfg.Public.Listen)
	if err != nil {
		return err
	}
	s.doors = append(s.doors, part{"public", serveHTTP(publicServer(doors.plain(published), s.opts.Log), ln)})
	if cfg.Public.ListenTLS == "" {
		return nil
	}
	secure, err := s.listen(&s.addresses.PublicTLS, "public.https.listen", cfg.Public.ListenTLS)
	if err != nil {
		return err
	}
	if secure, err = s.secure(secure, "public.https", cfg.Public.Certificate, cfg.Public.Key); err != nil {
		return err
	}
	// CRLs and OCSP stay on plain HTTP: fetching them over TLS would need a CRL.
	s.doors = append(s.doors, part{"public https", serveHTTP(publicServer(doors.secure(), s.opts.Log), secure)})
	return nil
}

// ownCertificates are those that an issuer here has signed for Postern itself, for OCSP to know them.
func (s *Server) ownCertificates() []*x509.Certificate {
	if s.opts.Config.Edge == nil {
		return nil
	}
	pair, err := loadPair(s.opts.Config.Edge.Certificate, s.opts.Config.Edge.Key)
	if err != nil {
		return nil // openEdge says what is wrong
	}
	return []*x509.Certificate{pair.Leaf}
}

// networks are Microsoft's, from the operator's file or as known when this was built.
func (s *Server) networks() (admin.Networks, error) {
	n, err := microsoft.KnownNetworks()
	if p := s.opts.Config.Public; p != nil && p.Networks != "" {
		n, err = microsoft.ReadNetworks(p.Networks)
	}
	if err != nil {
		return admin.Networks{}, fmt.Errorf("public.microsoft_networks: %w", err)
	}
	return admin.Networks{Service: n.Service, Date: n.Date, Source: n.Source}, nil
}

func (s *Server) openAdmin(context.Context) error {
	networks, err := s.networks()
	if err != nil {
		return err
	}
	a := admin.New(admin.Config{Registry: s.registry, Index: s.index, Journal: s.journal, Policy: s.policy, PolicySource: s.keeper.source(), Problems: s.problems,
		Warnings: s.warnings, Forecast: s.forecast, Networks: networks, Gate: s.ticketGate(), Edge: s.reactions, EdgeTrouble: s.edgeTrouble, DecisionLog: s.logCounts(), CRLs: s.crlStates,
		Version: s.opts.Version, Now: s.opts.Now, Log: s.opts.Log, NoChallenges: s.noChallenges()})
	ln, err := s.listenSocket()
	if err != nil {
		return err
	}
	s.life = &lifecycle{server: s, cfg: s.opts.Config.Lifecycle}
	if s.life.cfg.Every > 0 {
		s.followers = append(s.followers, part{"lifecycle", s.life.run})
	}
	a.With(admin.Parts{Lifecycle: s.life.sweep, Suppose: s.suppose})
	s.doors = append(s.doors, part{"admin socket", serveHTTP(adminServer(a.Local(), s.opts.Log), ln)})
	cfg := s.opts.Config.Admin
	if cfg == nil {
		return nil
	}
	tcp, err := s.listen(&s.addresses.Admin, "admin.listen", cfg.Listen)
	if err != nil {
		return err
	}
	srv := adminServer(a.Remote(), s.opts.Log)
	if cfg.Certificate != "" {
		if tcp, err = s.secure(tcp, "admin.tls", cfg.Certificate, cfg.Key); err != nil {
			return err
		}
	}
	s.doors = append(s.doors, part{"admin", serveHTTP(srv, tcp)})
	return nil
}

// warnings are what an operator should know though the process is healthy.
func (s *Server) warnings() []string {
	out := []string{}
	for _, i := range s.issuers {
		for _, c := range i.Chain() {
			for _, at := range c.CRLDistributionPoints {
				if !strings.HasPrefix(at, i.Spec().URL+"/") {
					out = append(out, fmt.Sprintf("the certificate %q says that its CRL is at %s, but the url of issuer %s is %s: who checks the whole chain cannot; make the issuer anew with `postern init --url`",
						c.Subject.CommonName, at, i.Spec().ID, i.Spec().URL))
				}
			}
		}
	}
	if since, failed, err := s.registry.Unwritable(); err != nil {
		out = append(out, fmt.Sprintf("nothing can be changed since %s (%d attempts failed, the last one: %v): enrolments and revocations are not carried out; is the disk full?", since.UTC().Format(time.RFC3339), failed, err))
	}
	for _, i := range s.issuers {
		if _, w := i.RootTrouble(); w != "" {
			out = append(out, w)
		}
	}
	out = append(append(append(out, s.faultWarnings()...), s.shadow.warnings()...), s.logWarnings()...)
	return append(out, s.forecasts.warnings()...)
}

// problems is what makes this process unhealthy.
func (s *Server) problems() []string {
	out := append([]string{}, s.keeper.problems()...)
	out = append(out, s.life.problems()...)
	for _, r := range s.rotations {
		if why := r.trouble(); why != "" {
			out = append(out, fmt.Sprintf("the keys of issuer %s on disk are not taken up: %s", r.config.ID, why))
		}
	}
	for _, i := range s.issuers {
		if p, _ := i.RootTrouble(); p != "" {
			out = append(out, p)
		}
	}
	if s.publisher != nil {
		for _, c := range s.publisher.Status() {
			if why := c.Trouble(); why != "" {
				out = append(out, why)
			}
		}
		if why := s.publisher.MirrorTrouble(); why != "" {
			out = append(out, "CRLs are not written to public.directory: "+why)
		}
	}
	return out
}

// listen opens a TCP listener of the configuration.
func (s *Server) listen(address *string, key, where string) (net.Listener, error) {
	ln, err := net.Listen("tcp", where)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: is the address in use, or not of this machine?", key, err)
	}
	*address = ln.Addr().String()
	s.opened(func() error { return ignoreClosed(ln.Close()) })
	return ln, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
