package bolt

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
)

const (
	groupLimit  = 512     // closures in one commit
	groupWeight = 8 << 20 // bytes written in one commit, after which no further closure joins
)

// errUnfinished is what the committer is told about a closure that panicked or ended its goroutine; its caller never sees it.
var errUnfinished = errors.New("the closure did not return")

// request is one Update on its way. The committer gives it its turn; the caller runs the closure and hands the transaction back; the committer answers.
type request struct {
	turn chan *writer
	back chan error
	done chan answer

	taken, withdrawn bool // guarded by Store.mu
}

type answer struct {
	revision registry.Revision
	err      error
}

// Update implements registry.Store. A panic of fn goes up to the caller of Update after its writes were taken back. Calling Update within fn blocks for
// ever. Once a flush has failed in a way that leaves the outcome unknown, all further Updates fail until the file is opened again.
func (s *Store) Update(ctx context.Context, fn func(registry.Writer) error) (registry.Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	r := &request{turn: make(chan *writer, 1), back: make(chan error, 1), done: make(chan answer, 1)}
	if err := s.enqueue(r); err != nil {
		return 0, err
	}
	select {
	case w := <-r.turn:
		r.run(ctx, w, fn)
	case a := <-r.done:
		return a.revision, a.err
	case <-ctx.Done():
		if s.withdraw(r) {
			return 0, ctx.Err()
		}
		select {
		case <-r.turn:
			r.back <- ctx.Err()
		case a := <-r.done:
			return a.revision, a.err
		}
	}
	a := <-r.done // not cancelled any more: the caller must learn whether it was committed
	return a.revision, a.err
}

// run runs the closure on the caller's goroutine, so that a panic has the caller's stack and stays the caller's.
func (r *request) run(ctx context.Context, w *writer, fn func(registry.Writer) error) {
	err := errUnfinished
	defer func() { r.back <- err }()
	if cancelled := ctx.Err(); cancelled != nil {
		err = cancelled
		return
	}
	err = fn(w)
}

func (s *Store) enqueue(r *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return registry.ErrClosed
	}
	if s.failed != nil {
		return s.failed
	}
	s.queue = append(s.queue, r)
	s.signal()
	return nil
}

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// withdraw reports whether the request could be taken back before its turn came.
func (s *Store) withdraw(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.withdrawn = !r.taken
	return r.withdrawn
}

// next takes a request from the queue. It returns nil if there is none, and then whether the store is closing.
func (s *Store) next() (r *request, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		r, s.queue[0] = s.queue[0], nil
		s.queue = s.queue[1:]
		if !r.withdrawn {
			r.taken = true
			return r, false
		}
	}
	s.queue = nil
	return nil, s.closed
}

func (s *Store) commitLoop() {
	defer close(s.stopped)
	for {
		r, closing := s.next()
		switch {
		case r != nil:
			s.commitGroup(r)
		case closing:
			return
		default:
			<-s.wake
		}
	}
}

// commitGroup commits the request together with all that queue up behind it.
func (s *Store) commitGroup(first *request) {
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed != nil {
		first.done <- answer{err: failed}
		return
	}
	g, err := s.newGroup()
	if err != nil {
		first.done <- answer{err: err}
		return
	}
	for r := first; r != nil && g.err == nil; r = s.joining(g) {
		g.add(r)
	}
	err = s.finish(g)
	for i, r := range g.members {
		if err != nil {
			g.answers[i] = answer{err: err}
		}
		r.done <- g.answers[i]
	}
}

// joining returns the next request for the group, or nil if it is time to commit.
func (s *Store) joining(g *group) *request {
	if g.err != nil || len(g.members) >= groupLimit || g.weight >= groupWeight {
		return nil
	}
	r, _ := s.next()
	if r == nil {
		// Those who were answered a moment ago may be about to ask again: let them run before paying for a flush. This is no delay, an idle machine comes
		// straight back.
		runtime.Gosched()
		r, _ = s.next()
	}
	return r
}

// finish commits the group, unless nobody wrote, and returns the error that all of its members get.
func (s *Store) finish(g *group) error {
	if g.err == nil && g.state == g.before {
		return g.tx.Rollback()
	}
	id := g.tx.ID()
	err := g.err
	if err == nil {
		err = guard(func() error { return g.commit(s.keep, s.commit) })
	}
	if err == nil {
		s.advance(g.state.revision, nil)
		return nil
	}
	_ = guard(g.tx.Rollback) // does nothing if the failed commit has ended the transaction
	err = fmt.Errorf("commit registry: %w", err)
	tx, st, readErr := s.begin()
	if readErr == nil {
		defer func() { _ = tx.Rollback() }()
	}
	switch {
	case readErr != nil || tx.ID() >= id:
		// The new root page was written, but its flush failed: it can be seen now and may be gone after a crash. Writing on top of it could overwrite
		// what the older root still needs, so this is the end of writing.
		s.advance(st.revision, fmt.Errorf("registry takes no more changes since a flush failed, start Postern again: %w", err))
		err = fmt.Errorf("%w: %w", registry.ErrUnknownOutcome, err)
	case errors.Is(err, errDamaged):
		s.advance(st.revision, fmt.Errorf("registry takes no more changes: %w", err))
	}
	s.log.Error("commit of the registry failed", "path", s.path, "updates", len(g.members), "error", err)
	return err
}

// advance publishes the revision that can be seen now, and why the store takes no more Updates, if so.
func (s *Store) advance(revision registry.Revision, failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision = max(s.revision, revision)
	s.failed = failed
	s.broadcast()
}

// group is one bbolt transaction and the Updates that it commits.
type group struct {
	tx            *bbolt.Tx
	buckets       map[registry.Table]*bbolt.Bucket
	before, state state
	weight        int
	members       []*request
	answers       []answer
	err           error // the transaction cannot be committed any more
}

func (s *Store) newGroup() (*group, error) {
	tx, err := s.db.Begin(true)
	if err != nil {
		return nil, fmt.Errorf("begin commit: %w", err)
	}
	st, err := readState(tx)
	if err != nil {
		_ = tx.Rollback()
		return nil, fmt.Errorf("begin commit: %w", err)
	}
	return &group{tx: tx, buckets: map[registry.Table]*bbolt.Bucket{}, before: st, state: st}, nil
}

// add gives the request its turn and keeps or undoes what its closure wrote. A refusal is not answered before the commit either: it may rest on what an
// earlier closure of the group wrote.
func (g *group) add(r *request) {
	w := &writer{reader: reader{tx: g.tx, revision: g.state.revision + 1, buckets: g.buckets}}
	r.turn <- w
	err := <-r.back
	w.ended = true
	if err == nil {
		err = w.err
	}
	if err == nil && (w.wrote || len(w.touched) > 0) {
		if err = guard(w.record); err == nil {
			g.state.revision = w.revision
		}
	}
	if err != nil {
		g.err = guard(w.undo)
	}
	g.weight += w.weight
	g.members = append(g.members, r)
	if err != nil {
		g.answers = append(g.answers, answer{err: err})
		return
	}
	g.answers = append(g.answers, answer{revision: g.state.revision})
}

func (g *group) commit(keep registry.Revision, commit func(*bbolt.Tx) error) error {
	floor, err := pruneChanges(g.tx, g.state, keep, int(g.state.revision-g.before.revision))
	if err != nil {
		return err
	}
	g.state.floor = floor
	if err := g.state.write(g.tx); err != nil {
		return err
	}
	return commit(g.tx)
}
