package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"postern/internal/trust"
)

// Registry is the only way to change state. Its methods authorise the principal, change the store in one transaction and write the audit entry in the
// same transaction. They return errors that wrap trust.ErrNotFound, ErrConflict, ErrInvalid or ErrForbidden where one of these fits.
type Registry struct {
	store   Store
	now     func() time.Time
	log     *slog.Logger
	renewal RenewalRules
	writes  *writing

	policies     PolicyRules
	revocations  RevocationRules
	publishTimes *Timing
}

// New returns the rules over a store. now must not run backwards by more than the clock of the machine does.
func New(store Store, now func() time.Time, log *slog.Logger) *Registry {
	return &Registry{store: store, now: now, log: log, renewal: RenewalRules{}.complete(), publishTimes: &Timing{}, writes: &writing{}}
}

// Store returns the store below, for followers of the revision.
func (r *Registry) Store() Store { return r.store }

// txn is one change in progress: a Writer that remembers the first error of encoding, so that rules read as straight lines.
type txn struct {
	Writer
	p       trust.Principal
	now     time.Time
	renewal RenewalRules
}

func (r *Registry) txn(w Writer, p trust.Principal) *txn { return &txn{w, p, r.now(), r.renewal} }

// update authorises p for the action and runs fn in one transaction. A refused principal is audited too.
func (r *Registry) update(ctx context.Context, p trust.Principal, action, object string, fn func(*txn) error) (Revision, error) {
	if !permitted(p, action) {
		return 0, r.refuse(ctx, p, action, object, fmt.Sprintf("role %q may not do this", p.Role))
	}
	var ruled atomic.Bool // the transaction may run more than once, and after this has returned
	rev, err := r.store.Update(ctx, func(w Writer) error {
		err := fn(r.txn(w, p))
		ruled.Store(err != nil)
		return err
	})
	if !ruled.Load() {
		r.writes.saw(ctx, r.now(), err)
	}
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", action, object, err)
	}
	return rev, nil
}

// refuse audits what p may not do, and returns the error for it: trust.ErrForbidden.
func (r *Registry) refuse(ctx context.Context, p trust.Principal, action, object, why string) error {
	err := fmt.Errorf("%s %s: %s: %w", action, object, why, trust.ErrForbidden)
	_, failed := r.store.Update(ctx, func(w Writer) error {
		return r.txn(w, p).audit(AuditEntry{Action: action, Object: object, Outcome: Refused, Detail: why})
	})
	if failed != nil {
		return errors.Join(err, failed)
	}
	return err
}

// view runs fn on a snapshot.
func (r *Registry) view(ctx context.Context, fn func(Reader) error) error {
	return r.store.View(ctx, fn)
}

// put encodes v into the table.
func put(w Writer, t Table, key string, v any) error {
	b, err := encode(v)
	if err != nil {
		return fmt.Errorf("encode %s %s: %w", t, key, err)
	}
	w.Put(t, key, b)
	return nil
}

// get decodes the value of the key; a missing one is trust.ErrNotFound, an unreadable one is an error: never a zero value that looks real.
func get[T any](r Reader, t Table, key string) (T, error) {
	var v T
	b, ok := r.Get(t, key)
	if !ok {
		return v, fmt.Errorf("%s %q: %w", strings.TrimSuffix(string(t), "s"), key, trust.ErrNotFound)
	}
	if err := decode(b, &v); err != nil {
		return v, fmt.Errorf("decode %s %s: %w", t, key, err)
	}
	return v, nil
}

// list decodes up to limit values that keep accepts, in key order, and stops at the first that cannot be decoded.
func list[T any](r Reader, t Table, prefix, after string, limit int, keep func(T) bool) ([]T, error) {
	out := []T{}
	var bad error
	r.Scan(t, prefix, after, func(key string, value []byte) bool {
		var v T
		if err := decode(value, &v); err != nil {
			bad = fmt.Errorf("decode %s %s: %w", t, key, err)
			return false
		}
		if keep == nil || keep(v) {
			out = append(out, v)
		}
		return len(out) < limit
	})
	return out, bad
}

// Page limits of every list.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// unlimited is the limit of what must not be cut: what CRLs are made from.
const unlimited = math.MaxInt

// pageLimit bounds what a caller asks for.
func pageLimit(n int) int {
	switch {
	case n <= 0:
		return DefaultLimit
	case n > MaxLimit:
		return MaxLimit
	}
	return n
}
