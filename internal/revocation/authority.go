package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
)

// authority publishes the CRLs of one CA, or the one that was imported of a CA that signs elsewhere.
type authority struct {
	issuer   *ca.Issuer
	name, id string // of the issuer and of the CA
	cert     *x509.Certificate
	registry *registry.Registry
	now      func() time.Time
	log      *slog.Logger
	schedule Schedule
	files    files
	imported bool // the CA's key is not here: see imported.go
	signCRL  func(ctx context.Context, ca string, c ca.CRL) (*ca.List, error)

	served atomic.Pointer[pair]
	status status

	mu       sync.Mutex                  // one publication at a time; guards the rest
	ledger   *ledger                     // nil before the first look
	restored bool                        // the registry is older than what was published: see restore.go
	floor    uint64                      // the greatest number found on disk, should the registry know less
	last     time.Time                   // the latest thisUpdate found on disk, likewise
	onFile   map[registry.CRLKind]uint64 // the numbers found on disk under the names that are served
	blind    uint64                      // the greatest number of a CRL whose bytes are not here, said once
}

// prime loads what was published and publishes what is missing or due. An error means that there is no valid pair.
func (a *authority) prime(ctx context.Context) error {
	if a.imported {
		a.take(ctx)
		return nil
	}
	a.mu.Lock()
	err := a.load(ctx)
	a.mu.Unlock()
	if err != nil {
		return err
	}
	_, _, err = a.step(ctx, nil)
	if err != nil && a.served.Load().valid(a.now()) {
		a.log.ErrorContext(ctx, "cannot publish a CRL, the old ones stay", "error", err)
		return nil
	}
	return err
}

// load takes up the newest recorded CRLs, and what the files say beyond the records: what the world was told stays told.
func (a *authority) load(ctx context.Context) error {
	known, err := a.registry.CRLs(ctx, a.name, a.id)
	if err != nil {
		return err
	}
	// Before anything is adopted: that would put what a backup knows in place of what was told since.
	told := a.onDisk(ctx)
	a.adopt(ctx, known)
	told.without(a.served.Load())
	if greatest := greatestNumber(known); a.floor > greatest {
		a.log.WarnContext(ctx, "the registry is older than the CRLs on disk: it was restored from a backup, or lost", "number", a.floor, "registry", greatest)
		if told.base == nil {
			if served := a.served.Load(); served != nil {
				told.base = served.base
			}
		}
		if told.base != nil {
			// What these cover is not known: new ones are due at once, and are compared with them.
			a.served.Store(told)
		}
		return a.restore(ctx, told)
	}
	return a.follow(ctx, known)
}

// onDisk reads the CRLs that were served last.
func (a *authority) onDisk(ctx context.Context) *pair {
	var told pair
	a.onFile = map[registry.CRLKind]uint64{}
	for _, f := range []struct {
		kind registry.CRLKind
		slot **signed
	}{{registry.Base, &told.base}, {registry.Delta, &told.delta}} {
		der, err := a.files.read(a.files.served(f.kind))
		var s *signed
		if err == nil {
			s, err = a.readSigned(der)
		}
		if err != nil || s.record.Kind != f.kind {
			if !errors.Is(err, fs.ErrNotExist) {
				a.log.WarnContext(ctx, "published CRL on disk is unreadable and will be replaced", "kind", f.kind, "error", err)
			}
			continue
		}
		s.told, s.since = true, a.now()
		*f.slot = s
		a.onFile[f.kind] = s.record.Number
		a.floor = max(a.floor, s.record.Number)
		if s.record.ThisUpdate.After(a.last) {
			a.last = s.record.ThisUpdate
		}
	}
	return &told
}

// adopt serves the newest recorded pair if it is newer than what is served and its bytes are here.
func (a *authority) adopt(ctx context.Context, known []registry.CRL) {
	base, delta := newest(known, registry.Base), newest(known, registry.Delta)
	if delta.Number < base.Number {
		delta = registry.CRL{} // of a base before
	}
	old := a.served.Load()
	if base.Number == 0 || old != nil && old.delta != nil && old.delta.record.Number >= delta.Number {
		return
	}
	next := new(pair)
	for _, r := range []struct {
		record registry.CRL
		slot   **signed
	}{{base, &next.base}, {delta, &next.delta}} {
		if r.record.Number == 0 {
			continue
		}
		s, err := old.record(r.record)
		if s == nil {
			s, err = a.readFile(a.files.hashed(r.record.Hash))
		}
		if err == nil && !s.matches(r.record) {
			err = errors.New("it is not the CRL of the record")
		}
		if err != nil {
			// Another node's, or lost. It is not signed again with the same number: the next publication gets a greater one.
			if r.record.Number > a.blind {
				a.blind = r.record.Number
				a.log.WarnContext(ctx, "a published CRL cannot be taken up", "number", r.record.Number, "error", err)
			}
			continue
		}
		*r.slot = s.as(r.record, a.now())
	}
	if next.base == nil || old != nil && next.delta == nil {
		return
	}
	a.served.Store(next)
	for _, s := range []*signed{next.base, next.delta} {
		if s != nil && s.record.Number >= a.onFile[s.record.Kind] { // what was told since a backup stays on disk until it is taken up
			if err := a.files.serve(s); err != nil {
				a.log.WarnContext(ctx, "CRL is served from memory only", "error", err)
			}
		}
	}
}

func (a *authority) readFile(path string) (*signed, error) {
	der, err := a.files.read(path)
	if err != nil {
		return nil, err
	}
	return a.readSigned(der)
}

// due says what has to be published.
type due struct {
	base, delta bool
	requests    []registry.PublishRequest
}

// look finds out what is due, with the revision up to which that is all and the time of the next scheduled publication.
func (a *authority) look(ctx context.Context) (d due, rev registry.Revision, next time.Time, err error) {
	known, err := a.registry.CRLs(ctx, a.name, a.id)
	if err != nil {
		return d, 0, next, err
	}
	a.adopt(ctx, known)
	p, now := a.served.Load(), a.now()
	if err := a.follow(ctx, known); err != nil {
		return d, 0, next, err
	}
	if a.restored || p.ahead(known) {
		if err := a.restore(ctx, p); err != nil {
			return d, 0, next, err
		}
		p = p.asTold()
		a.served.Store(p)
	}
	rev = a.ledger.at
	all, err := a.registry.PublishRequests(ctx)
	if err != nil {
		return d, 0, next, err
	}
	for _, r := range all {
		if r.Issuer != a.name {
			continue
		}
		d.requests = append(d.requests, r)
		if !a.status.carriedOut(r.At) {
			d.base, d.delta = d.base || r.Base, true
		}
	}
	// A base that the registry knows nothing of, or that nobody can combine with a delta any more, is replaced.
	_, usable := oldestBase(known, now)
	d.base = d.base || p == nil || !usable || p.base.told || !now.Before(p.base.record.NextPublish)
	d.delta = d.delta || d.base || p.delta == nil || p.delta.told || a.ledger.latest > p.covers() || !now.Before(p.delta.record.NextPublish)
	if !d.delta {
		next = p.base.record.NextPublish
		if p.delta.record.NextPublish.Before(next) {
			next = p.delta.record.NextPublish
		}
	}
	return d, rev, next, nil
}

// step publishes what is due. It returns the revision up to which everything was looked at, and when to look again if nothing changes.
func (a *authority) step(ctx context.Context, finish func(context.Context, registry.PublishRequest) error) (registry.Revision, time.Time, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, rev, next, err := a.look(ctx)
	if err != nil {
		a.status.failed(a.now(), err)
		return 0, next, err
	}
	if d.delta {
		a.status.waiting(a.now())
		if err := a.publish(ctx, d.base); err != nil {
			a.status.failed(a.now(), err)
			return 0, next, err
		}
		next = a.now()
	}
	a.status.idle()
	for _, r := range d.requests {
		a.status.carry(r.At)
		if finish == nil {
			continue // priming: Run finishes it
		}
		if err := finish(ctx, r); err != nil {
			return 0, next, fmt.Errorf("end a request to publish: %w", err)
		}
	}
	return rev, next, nil
}
