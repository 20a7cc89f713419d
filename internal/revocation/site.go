package revocation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// site is what is published of one issuer.
type site struct {
	cfg     *Config
	issuer  *ca.Issuer
	name    string
	edition atomic.Pointer[edition] // replaced by renew
}

// edition is what is published between two rotations. It never changes; the CRLs of its authorities do.
type edition struct {
	authorities []*authority
	documents   map[string]func() (document, bool) // by the last segment of the path; false: not there yet
	fixed       map[string]document                // those of documents that stay
	own         map[string]map[trust.Serial]bool   // CA id -> what it has signed of Config.Own
}

// renew makes an edition of the CAs that the issuer has now. Those that were there before go on as they are. It is called by one at a time.
func (s *site) renew() error {
	old := s.edition.Load()
	if old == nil {
		old = new(edition)
	}
	e := &edition{documents: map[string]func() (document, bool){}, fixed: map[string]document{}, own: map[string]map[trust.Serial]bool{}}
	chain, err := s.issuer.PKCS7Chain()
	if err != nil {
		return fmt.Errorf("distribution point of %s: %w", s.name, err)
	}
	e.fix(s.cfg, old, "chain.p7b", chain, typeBundle)
	for _, c := range s.issuer.Certificates() {
		e.fix(s.cfg, old, c.ID+".cer", c.Cert.Raw, typeCertificate)
		e.own[c.ID] = map[trust.Serial]bool{}
		for _, own := range s.cfg.Own {
			if own.CheckSignatureFrom(c.Cert) == nil {
				e.own[c.ID][trust.SerialOf(own.SerialNumber)] = true
			}
		}
		if a := s.authority(old, c); a != nil {
			e.publish(a)
		}
	}
	s.edition.Store(e)
	return nil
}

// authority is that of a CA, also if it was there before; nil if another PKI publishes the CRLs of the CA.
func (s *site) authority(old *edition, c ca.CACertificate) *authority {
	if i := slices.IndexFunc(old.authorities, func(a *authority) bool { return a.id == c.ID }); i >= 0 {
		return old.authorities[i]
	}
	online := s.issuer.Online(c.ID)
	if !online {
		if _, err := s.issuer.StoredCRL(c.ID); errors.Is(err, trust.ErrNotFound) {
			return nil
		}
	}
	return &authority{issuer: s.issuer, name: s.name, id: c.ID, cert: c.Cert, registry: s.cfg.Registry, now: s.cfg.Now, schedule: s.cfg.Schedule,
		imported: !online, log: s.cfg.Log.With("issuer", s.name, "ca", c.ID), files: files{dir: filepath.Join(s.cfg.Dir, "crl", s.name), ca: c.ID, write: (*os.File).Write},
		signCRL: s.issuer.SignCRL}
}

// publish adds the CRLs of an authority.
func (e *edition) publish(a *authority) {
	e.authorities = append(e.authorities, a)
	e.documents[a.id+".crl"] = func() (document, bool) { return a.crl(registry.Base) }
	if !a.imported {
		e.documents[a.id+"-delta.crl"] = func() (document, bool) { return a.crl(registry.Delta) }
	}
}

// fix adds a document that stays as it is in this edition, and keeps its age if it was the same in the one before.
func (e *edition) fix(cfg *Config, old *edition, name string, body []byte, contentType string) {
	sum := sha256.Sum256(body)
	d := document{body: body, contentType: contentType, etag: `"` + hex.EncodeToString(sum[:]) + `"`, since: cfg.Now(), maxAge: certificateMaxAge}
	if before, ok := old.fixed[name]; ok && before.etag == d.etag {
		d = before
	}
	e.fixed[name] = d
	e.documents[name] = func() (document, bool) { return d, true }
}

// run publishes for the CAs of the issuer until ctx ends.
func (s *site) run(ctx context.Context, finish func(context.Context, registry.PublishRequest) error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	running := map[*authority]context.CancelFunc{}
	primed := s.edition.Load().authorities
	for ctx.Err() == nil {
		changed := s.issuer.Changed()
		if err := s.renew(); err != nil {
			s.cfg.Log.ErrorContext(ctx, "a rotation is not published, what was before it stays", "issuer", s.name, "error", err)
		}
		now := s.edition.Load().authorities
		for _, a := range now {
			if running[a] == nil {
				mine, cancel := context.WithCancel(ctx)
				running[a] = cancel
				wg.Go(func() {
					if a.live(mine, slices.Contains(primed, a), finish); mine.Err() == nil { // the registry is closed
						stop()
					}
				})
			}
		}
		for a, cancel := range running {
			if !slices.Contains(now, a) {
				cancel()
				delete(running, a)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	for _, cancel := range running {
		cancel()
	}
	wg.Wait()
}

// live primes an authority that came with a rotation, and runs it until ctx ends.
func (a *authority) live(ctx context.Context, primed bool, finish func(context.Context, registry.PublishRequest) error) {
	for retry := firstRetry; !primed; retry = min(2*retry, lastRetry) {
		err := a.prime(ctx)
		if err == nil {
			a.log.InfoContext(ctx, "a CA of a rotation is published")
			break
		}
		if errors.Is(err, registry.ErrClosed) || ctx.Err() != nil {
			return
		}
		a.log.ErrorContext(ctx, "cannot publish the first CRLs of a CA", "error", err)
		_ = sleep(ctx, retry) // ends early with ctx
	}
	a.run(ctx, finish)
}
