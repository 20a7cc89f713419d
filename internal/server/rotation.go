package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// rotationEvery is how often the directory of an issuer's keys is looked at: `postern issuer rotate`, `activate` and their like change it beside the server.
const rotationEvery = time.Second

// announceTimeout is how long the index may take to know a new CA before the rotation is put off.
const announceTimeout = 10 * time.Second

// rotation follows the keys of one issuer on disk.
type rotation struct {
	server *Server
	issuer *ca.Issuer
	config Issuer

	mu      sync.Mutex
	problem string // why a rotation was not taken up; empty if there is none
}

// run takes up what changes, until ctx ends. What cannot be taken up leaves everything as it was, and is tried again.
func (r *rotation) run(ctx context.Context) error {
	t := time.NewTicker(rotationEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.look(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *rotation) look(ctx context.Context) {
	log := r.server.opts.Log.With("issuer", r.config.ID)
	changed, err := r.issuer.Reload(func(cas []ca.CACertificate) error { return r.server.announce(ctx, r.config, cas) })
	problem := ""
	switch {
	case err != nil && ctx.Err() == nil:
		problem = err.Error()
	case changed:
		log.InfoContext(ctx, "keys of the issuer changed", "issuing", r.issuer.IssuingCA(), "ra", ca.Fingerprint(r.issuer.RACertificate()))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if problem != "" && problem != r.problem {
		log.ErrorContext(ctx, "keys of the issuer changed and cannot be taken up, the old ones stay", "error", err)
	}
	r.problem = problem
}

func (r *rotation) trouble() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// announce makes the CAs of an issuer known to whoever follows the registry, and waits until the index of this process has them: the edge has to trust a CA
// before the first certificate of it is out.
func (s *Server) announce(ctx context.Context, i Issuer, cas []ca.CACertificate) error {
	for _, c := range cas {
		err := s.registry.PutCA(ctx, trust.Principal{Kind: "system", Name: "serve"}, registry.CA{Issuer: i.ID, ID: c.ID, Organization: i.Organization,
			Domains: i.Domains, URL: i.URL, DER: c.Cert.Raw})
		if err != nil {
			return err
		}
	}
	if s.index == nil { // while starting; it reads everything
		return nil
	}
	var rev registry.Revision
	if err := s.store.View(ctx, func(r registry.Reader) error { rev = r.Revision(); return nil }); err != nil {
		return fmt.Errorf("announce CAs: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	if err := s.index.CatchUp(ctx, rev); err != nil {
		return fmt.Errorf("announce CAs: the index does not follow: %w", err)
	}
	return nil
}
