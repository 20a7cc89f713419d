package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/trust"
)

// Index is the read model in memory: what a door needs to decide a request, without disk or network. It follows the revision of a Store incrementally.
// Its answers are copies or immutable; all methods may be called at the same time.
type Index struct {
	store Store
	now   func() time.Time
	log   *slog.Logger

	rev   atomic.Uint64             // written under mu, after what the revision has changed
	heard atomic.Pointer[time.Time] // when the store last answered

	mu         sync.RWMutex  // guards all below
	moved      chan struct{} // closed and replaced when rev moves
	certs      map[certID]certRow
	names      *names                           // replaced as a whole, or changed by who follows the store
	tallies    []tally                          // of devices, by the numbers of their names
	devices    map[trust.DeviceID]*trust.Device // as owners and profiles: what is there is never changed, only replaced, so that it may be handed out
	owners     map[string]*trust.Owner
	cas        map[string]CA
	profiles   map[trust.ProfileKey]*trust.MailProfile
	profIDs    map[string]*trust.MailProfile
	byClient   map[string]set[*trust.MailProfile]         // by EAS DeviceId
	byDevice   map[trust.DeviceID]set[*trust.MailProfile] // by device
	byUser     map[string]set[*trust.MailProfile]         // by user; those that are a device's
	byEAS      map[string]set[trust.DeviceID]             // EAS DeviceId as the MDM reports it -> devices
	fleets     map[string][]enrolled                      // owner's mail address -> devices in use, in order
	tickets    map[string]Ticket                          // by hash
	grants     map[string]Grant                           // by keyed hash of the token
	exceptions exceptions
	topics     *topics
	watchers   map[int]func([]Change)
	nextID     int
}

// NewIndex reads the whole store once.
func NewIndex(ctx context.Context, store Store, now func() time.Time, log *slog.Logger) (*Index, error) {
	x := &Index{store: store, now: now, log: log, moved: make(chan struct{}), topics: newTopics(), watchers: map[int]func([]Change){}}
	if err := x.load(ctx); err != nil {
		return nil, fmt.Errorf("load index: %w", err)
	}
	return x, nil
}

// Run follows the store until ctx ends. While the store does not answer the index stays as it is, and Heard tells its age.
func (x *Index) Run(ctx context.Context) error {
	const patience = time.Second // how often an idle store has to say that it is alive
	for ctx.Err() == nil {
		wctx, cancel := context.WithTimeout(ctx, patience)
		_, err := x.store.Wait(wctx, x.Revision())
		cancel()
		switch {
		case err == nil:
			err = x.follow(ctx)
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			x.alive()
			continue
		}
		if errors.Is(err, ErrClosed) {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			x.log.ErrorContext(ctx, "index cannot follow the registry", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

func (x *Index) alive() {
	now := x.now()
	x.heard.Store(&now)
}

// follow applies what changed since the index's revision.
func (x *Index) follow(ctx context.Context) error {
	for {
		// Read before the changes: a commit between the two must not be passed over.
		var reached Revision
		if err := x.store.View(ctx, func(rd Reader) error { reached = rd.Revision(); return nil }); err != nil {
			return err
		}
		changes, err := x.store.Changes(ctx, x.Revision(), 1000)
		if errors.Is(err, ErrCompacted) {
			if err := x.load(ctx); err != nil {
				return err
			}
			x.tell(nil)
			return nil
		}
		if err != nil {
			return err
		}
		if len(changes) == 0 {
			x.advance(reached, nil) // past revisions that touched nothing
			return nil
		}
		objects, err := x.fetch(ctx, changes)
		if err != nil {
			return err
		}
		x.mu.Lock()
		for _, apply := range objects {
			apply()
		}
		x.mu.Unlock()
		x.advance(changes[len(changes)-1].Revision, changes)
	}
}

// fetch reads what the changes name, as it is now, and returns how to apply it. It may be newer than the change: a later change then applies it again.
func (x *Index) fetch(ctx context.Context, changes []Change) (apply []func(), err error) {
	err = x.store.View(ctx, func(rd Reader) error {
		for _, c := range changes {
			fn, err := x.fetchOne(rd, c)
			if err != nil {
				return fmt.Errorf("%s %s: %w", c.Kind, c.ID, err)
			}
			if fn != nil {
				apply = append(apply, fn)
			}
		}
		return nil
	})
	return apply, err
}

func (x *Index) fetchOne(rd Reader, c Change) (func(), error) {
	switch c.Kind {
	case KindDevice:
		d, err := deviceOf(rd, trust.DeviceID(c.ID))
		return func() { x.setDevice(&d) }, err
	case KindOwner:
		o, err := ownerOf(rd, c.ID)
		return func() { x.owners[o.Mail] = &o; x.topics.touch(topicOwner, o.Mail) }, err
	case KindCertificate:
		raw, ok := rd.Get(tableCertificates, c.ID)
		if !ok {
			return nil, trust.ErrNotFound
		}
		f, p := fields{raw: raw}, packed{}
		f.open()
		if x.names.pack(&f, &p); f.bad {
			return nil, errRecord
		}
		return func() { x.setCertificate(&p) }, nil
	case KindCA:
		ca, err := get[CA](rd, tableCAs, c.ID)
		return func() { x.cas[c.ID] = ca }, err
	case KindProfile:
		p, err := get[trust.MailProfile](rd, tableProfiles, c.ID)
		if errors.Is(err, trust.ErrNotFound) {
			return func() { x.dropProfile(c.ID) }, nil
		}
		return func() { x.setProfile(&p) }, err
	case KindException:
		return x.fetchException(rd, c.ID)
	case KindTicket, KindGrant:
		return x.fetchTicket(rd, c)
	}
	return nil, nil
}

// advance moves the revision, wakes who waits for it and tells the watchers, in order of revisions.
func (x *Index) advance(rev Revision, changes []Change) {
	x.alive()
	x.mu.Lock()
	if rev > x.Revision() {
		x.rev.Store(uint64(rev))
		close(x.moved)
		x.moved = make(chan struct{})
	}
	x.mu.Unlock()
	if len(changes) > 0 {
		x.tell(changes)
	}
}

// tell calls the watchers.
func (x *Index) tell(changes []Change) {
	x.mu.RLock()
	watchers := make([]func([]Change), 0, len(x.watchers))
	for _, w := range x.watchers {
		watchers = append(watchers, w)
	}
	x.mu.RUnlock()
	for _, w := range watchers {
		w(changes)
	}
}

// Watch calls fn with the changes of each step after they are visible, from the goroutine that follows the store: fn must be quick. No changes at all
// mean that the index was read anew and anything may have changed. Call stop to end it.
func (x *Index) Watch(fn func([]Change)) (stop func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	id := x.nextID
	x.nextID++
	x.watchers[id] = fn
	return func() {
		x.mu.Lock()
		delete(x.watchers, id)
		x.mu.Unlock()
	}
}

// Revision returns the revision that the index has reached.
func (x *Index) Revision() Revision { return Revision(x.rev.Load()) }

// CatchUp waits until the index has reached rev.
func (x *Index) CatchUp(ctx context.Context, rev Revision) error {
	for {
		x.mu.RLock()
		done, moved := x.Revision() >= rev, x.moved
		x.mu.RUnlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Heard returns when the store last answered.
func (x *Index) Heard() time.Time {
	if at := x.heard.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// clientKey makes DeviceIds of different case one.
func clientKey(id string) string { return strings.ToLower(id) }
