package registry_test

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/registrytest"
)

// fullDisk is a store whose disk is full now and then: what it would write is then not written.
type fullDisk struct {
	registry.Store
	full atomic.Bool
}

func (f *fullDisk) Update(ctx context.Context, fn func(registry.Writer) error) (registry.Revision, error) {
	if !f.full.Load() {
		return f.Store.Update(ctx, fn)
	}
	_, err := f.Store.Update(ctx, func(w registry.Writer) error { return errors.Join(fn(w), syscall.ENOSPC) })
	return 0, err
}

// That nothing can be written is told until something can be; what a rule refuses and who gives up say nothing about it.
func TestUnwritable(t *testing.T) {
	store := &fullDisk{Store: registrytest.Store(t)}
	w := newWorldOn(t, store)
	d := w.device("alice@contoso.com")
	challenge := func(ctx context.Context) error {
		_, _, err := w.reg.CreateChallenge(ctx, root, d.ID, 0)
		return err
	}
	told := func(want int, since time.Time) {
		t.Helper()
		at, n, err := w.reg.Unwritable()
		if n != want || (err == nil) != (want == 0) || want > 0 && (!errors.Is(err, syscall.ENOSPC) || !at.Equal(since)) {
			t.Errorf("%s, %d failed, %v; want %d since %s", at, n, err, want, since)
		}
	}
	told(0, time.Time{})
	store.full.Store(true)
	since := w.now()
	w.want(challenge(t.Context()), syscall.ENOSPC)
	told(1, since)
	w.pass(time.Minute)
	w.want(challenge(t.Context()), syscall.ENOSPC)
	told(2, since)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if challenge(gone) == nil {
		t.Error("written for who has gone")
	}
	if _, _, err := w.reg.CreateChallenge(t.Context(), root, "nobody", 0); err == nil {
		t.Error("a challenge for nobody")
	}
	told(2, since)
	store.full.Store(false)
	if _, _, err := w.reg.CreateChallenge(t.Context(), root, "nobody", 0); err == nil {
		t.Error("a challenge for nobody")
	}
	told(2, since) // nothing was written
	w.must(challenge(t.Context()))
	told(0, time.Time{})
}
