// Package bolt keeps the registry and the journal of a single machine in two bbolt files.
//
// Store groups the commits of concurrent Updates: while one group is being flushed, the next one gathers. Each closure runs on its caller's goroutine, one
// at a time, in the transaction of its group, and an undo log takes back the writes of one that fails. There is no delay: a lone Update is flushed at once.
//
// Journal is telemetry: it gathers in memory, writes in batches, and drops what it cannot write rather than hold up a decision.
package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"postern/internal/registry"
)

const (
	formatVersion        = 2 // 1 had every record in JSON
	defaultKeepRevisions = 200_000
	defaultChangesLimit  = 1000
	tablePrefix          = "table." // a table may be called like one of the buckets below
	bucketStore          = "store"
	bucketChanges        = "changes"
	keyFormat            = "format"
	keyState             = "state"
)

// Options of Open.
type Options struct {
	Log           *slog.Logger     // nil: nothing is logged
	Now           func() time.Time // nil: time.Now; only used to say since when the file is held
	KeepRevisions int              // how many revisions Changes reaches back; 0 means 200000
}

// Store is a registry.Store in one bbolt file. Make it with Open.
type Store struct {
	db     *bbolt.DB
	path   string
	log    *slog.Logger
	keep   registry.Revision
	commit func(*bbolt.Tx) error

	wake    chan struct{} // something is queued, or the store is closing
	stopped chan struct{} // closed when the committer has ended

	mu       sync.Mutex
	queue    []*request
	closed   bool
	failed   error // why the store takes no more Updates
	revision registry.Revision
	moved    chan struct{} // closed and replaced whenever one of the above changes for those who wait
}

var _ registry.Store = (*Store)(nil)

// Open opens the registry file, creating it in an existing directory. If somebody else holds it, the error is a *HeldError, after one second. A file that
// was written in another format, or that is not a registry, is refused and left as it is.
func Open(path string, opts Options) (*Store, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.KeepRevisions <= 0 {
		opts.KeepRevisions = defaultKeepRevisions
	}
	db, note, err := openFile(path, opts.Now())
	if err != nil {
		return nil, err
	}
	if note != nil {
		opts.Log.Warn("registry file: cannot leave a note of who holds it", "path", path, "error", note)
	}
	s := &Store{
		db: db, path: path, log: opts.Log, keep: registry.Revision(opts.KeepRevisions), commit: (*bbolt.Tx).Commit,
		wake: make(chan struct{}, 1), stopped: make(chan struct{}), moved: make(chan struct{}),
	}
	if err := s.prepare(); err != nil {
		_ = closeFile(db, path)
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.NoFreelistSync = true // after large changes the list of free pages is the most of what a commit writes
	go s.commitLoop()
	return s, nil
}

// prepare checks the format and creates what is missing, guarded because it is the first to read pages that may be damaged.
func (s *Store) prepare() error {
	return guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			if err := checkFormat(tx, bucketStore, formatVersion); err != nil {
				return err
			}
			for _, t := range registry.Tables() {
				if _, err := tx.CreateBucketIfNotExists([]byte(tablePrefix + string(t))); err != nil {
					return fmt.Errorf("create table %s: %w", t, err)
				}
			}
			if _, err := tx.CreateBucketIfNotExists([]byte(bucketChanges)); err != nil {
				return fmt.Errorf("create the history of changes: %w", err)
			}
			st, err := readState(tx)
			s.revision = st.revision
			return err
		})
	})
}

// checkFormat writes the format version into the bucket of a new file, and refuses the file of another version or of another program.
func checkFormat(tx *bbolt.Tx, bucket string, version int) error {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		if name, _ := tx.Cursor().First(); name != nil {
			return fmt.Errorf("not the expected file: it has a bucket %q but no %q", name, bucket)
		}
		b, err := tx.CreateBucket([]byte(bucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(keyFormat), []byte(strconv.Itoa(version)))
	}
	raw := string(b.Get([]byte(keyFormat)))
	found, err := strconv.Atoi(raw)
	if err != nil || found < 1 {
		return fmt.Errorf("not the expected file: format version %q", raw)
	}
	if found > version {
		return fmt.Errorf("the file has format version %d, this program writes version %d: run the newer program that wrote it", found, version)
	}
	if found < version {
		return fmt.Errorf("the file has format version %d of a program before the first release, this program writes version %d: begin with an empty file", found, version)
	}
	return nil
}

// state is what the store knows about itself.
type state struct {
	revision registry.Revision
	floor    registry.Revision // the greatest revision whose changes are gone
}

func readState(tx *bbolt.Tx) (state, error) {
	raw := tx.Bucket([]byte(bucketStore)).Get([]byte(keyState))
	switch len(raw) {
	case 0:
		return state{}, nil
	case 16:
		return state{registry.Revision(binary.BigEndian.Uint64(raw)), registry.Revision(binary.BigEndian.Uint64(raw[8:]))}, nil
	}
	return state{}, fmt.Errorf("%w: state of %d bytes", errDamaged, len(raw))
}

func (st state) write(tx *bbolt.Tx) error {
	raw := binary.BigEndian.AppendUint64(nil, uint64(st.revision))
	return tx.Bucket([]byte(bucketStore)).Put([]byte(keyState), binary.BigEndian.AppendUint64(raw, uint64(st.floor)))
}

// begin starts a read-only transaction on the latest commit.
func (s *Store) begin() (*bbolt.Tx, state, error) {
	tx, err := s.db.Begin(false)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return nil, state{}, registry.ErrClosed
	}
	if err != nil {
		return nil, state{}, fmt.Errorf("read registry: %w", err)
	}
	st, err := readState(tx)
	if err != nil {
		_ = tx.Rollback()
		return nil, state{}, fmt.Errorf("read registry: %w", err)
	}
	return tx, st, nil
}

// View implements registry.Store. An fn that names an unknown table fails with an error even if it returns nil.
func (s *Store) View(ctx context.Context, fn func(registry.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return registry.ErrClosed
	}
	tx, st, err := s.begin()
	if err != nil {
		return err
	}
	r := &reader{tx: tx, revision: st.revision, buckets: map[registry.Table]*bbolt.Bucket{}}
	defer func() {
		r.ended = true
		_ = tx.Rollback()
	}()
	if err := fn(r); err != nil {
		return err
	}
	return r.err
}

// Wait implements registry.Store.
func (s *Store) Wait(ctx context.Context, after registry.Revision) (registry.Revision, error) {
	for {
		s.mu.Lock()
		revision, closed, moved := s.revision, s.closed, s.moved
		s.mu.Unlock()
		switch {
		case closed:
			return 0, registry.ErrClosed
		case revision > after:
			return revision, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// broadcast wakes those who wait. The caller holds s.mu.
func (s *Store) broadcast() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// Close implements registry.Store. Updates that are already queued are still committed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return registry.ErrClosed
	}
	s.closed = true
	s.broadcast()
	s.mu.Unlock()
	s.signal()
	<-s.stopped
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed == nil {
		if err := saveFreelist(s.db); err != nil {
			s.log.Warn("registry file: cannot save the list of free pages, the next start will take longer", "path", s.path, "error", err)
		}
	}
	if err := closeFile(s.db, s.path); err != nil {
		return fmt.Errorf("close registry: %w", err)
	}
	return nil
}
