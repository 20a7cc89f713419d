package registrytest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"postern/internal/registry"
)

// Fresh prepares empty storage of its own for one test and returns how to open a store on it, again after a Close. keep is how many revisions Changes has to
// reach back; 0 means the default of the backend.
type Fresh func(t *testing.T, keep int) (open func() (registry.Store, error))

// Run checks that a backend keeps the contract of registry.Store.
func Run(t *testing.T, fresh Fresh) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *suite)
		keep int
	}{
		{"Durable", durable, 0},
		{"Revisions", revisions, 0},
		{"CountersNeverLose", countersNeverLose, 0},
		{"FailureLeavesOthers", failureLeavesOthers, 0},
		{"UndoRestores", undoRestores, 0},
		{"Panic", panicking, 0},
		{"Goexit", goexit, 0},
		{"Misuse", misuse, 0},
		{"Changes", changes, 0},
		{"ChangesFollowed", changesFollowed, 0},
		{"Compacted", compacted, 5},
		{"Wait", wait, 0},
		{"Snapshot", snapshot, 0},
		{"Scan", scan, 0},
		{"RandomOperations", randomOperations, 0},
		{"ValuesAreCopies", valuesAreCopies, 0},
		{"Context", contexts, 0},
		{"Close", closing, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, open: fresh(t, c.keep)}
			s.reopen()
			c.run(t, s)
		})
	}
}

// suite is one test with its store.
type suite struct {
	*testing.T
	registry.Store
	open func() (registry.Store, error)
}

func (s *suite) reopen() {
	s.Helper()
	if s.Store != nil {
		if err := s.Store.Close(); err != nil {
			s.Fatalf("Close: %v", err)
		}
	}
	store, err := s.open()
	if err != nil {
		s.Fatalf("open: %v", err)
	}
	s.Store = store
	closeAfter(s.T, store)
}

// must updates and returns the revision.
func (s *suite) must(fn func(registry.Writer)) registry.Revision {
	s.Helper()
	r, err := s.Update(context.Background(), func(w registry.Writer) error { fn(w); return nil })
	if err != nil {
		s.Errorf("Update: %v", err)
	}
	return r
}

func (s *suite) put(key, value string) registry.Revision {
	s.Helper()
	return s.must(func(w registry.Writer) { w.Put(tableA, key, []byte(value)) })
}

func (s *suite) view(fn func(registry.Reader)) {
	s.Helper()
	if err := s.View(context.Background(), func(r registry.Reader) error { fn(r); return nil }); err != nil {
		s.Errorf("View: %v", err)
	}
}

// want checks the value of a key; "" means that it is not there.
func (s *suite) want(key, value string) {
	s.Helper()
	s.view(func(r registry.Reader) {
		if v, ok := r.Get(tableA, key); string(v) != value || ok != (value != "") {
			s.Errorf("Get(%q) = %q, %t, want %q", key, v, ok, value)
		}
	})
}

func (s *suite) revision() (r registry.Revision) {
	s.Helper()
	s.view(func(reader registry.Reader) { r = reader.Revision() })
	return r
}

func (s *suite) changesAfter(after registry.Revision, limit int) []registry.Change {
	s.Helper()
	c, err := s.Changes(context.Background(), after, limit)
	if err != nil {
		s.Fatalf("Changes(%d, %d): %v", after, limit, err)
	}
	return c
}

// The tables that the suite writes to. Which ones does not matter.
const (
	tableA registry.Table = "devices"
	tableB registry.Table = "owners"
)

var errRefused = errors.New("refused by the closure")

func durable(t *testing.T, s *suite) {
	for _, table := range registry.Tables() {
		s.must(func(w registry.Writer) {
			w.Put(table, "k", []byte("of "+table))
			w.Put(table, "empty", nil)
			w.Put(table, "gone", []byte("x"))
			w.Touch(registry.KindOwner, string(table))
		})
		s.must(func(w registry.Writer) { w.Delete(table, "gone") })
	}
	at, changed := s.revision(), s.changesAfter(0, 1000)
	s.reopen()
	if r := s.revision(); r != at {
		t.Errorf("revision %d after reopening, want %d", r, at)
	}
	if c := s.changesAfter(0, 1000); !reflect.DeepEqual(c, changed) {
		t.Errorf("changes %v after reopening, want %v", c, changed)
	}
	s.view(func(r registry.Reader) {
		for _, table := range registry.Tables() {
			if v, ok := r.Get(table, "k"); !ok || string(v) != "of "+string(table) {
				t.Errorf("%s: got %q, %t", table, v, ok)
			}
			if v, ok := r.Get(table, "empty"); !ok || len(v) != 0 {
				t.Errorf("%s: empty value came back as %q, %t", table, v, ok)
			}
			if _, ok := r.Get(table, "gone"); ok {
				t.Errorf("%s: deleted key is back", table)
			}
		}
	})
	if r, err := s.Wait(context.Background(), at-1); err != nil || r != at {
		t.Errorf("Wait after reopening = %d, %v, want %d", r, err, at)
	}
	if r := s.put("more", "1"); r != at+1 {
		t.Errorf("first revision after reopening is %d, want %d", r, at+1)
	}
}

func revisions(t *testing.T, s *suite) {
	if r := s.revision(); r != 0 {
		t.Errorf("revision of an empty store is %d, want 0", r)
	}
	for i, c := range []struct {
		name string
		fn   func(registry.Writer)
		want registry.Revision
	}{
		{"nothing in an empty store", func(registry.Writer) {}, 0},
		{"write", func(w registry.Writer) { w.Put(tableA, "a", []byte("1")) }, 1},
		{"touch", func(w registry.Writer) { w.Touch(registry.KindDevice, "d") }, 2},
		{"nothing", func(w registry.Writer) { w.Get(tableA, "a") }, 2},
		{"delete what is not there", func(w registry.Writer) { w.Delete(tableA, "zzz") }, 2},
		{"delete", func(w registry.Writer) { w.Delete(tableA, "a") }, 3},
	} {
		before := s.revision()
		if r := s.must(func(w registry.Writer) {
			if w.Revision() != before+1 {
				t.Errorf("%d, %s: revision within the update is %d, want %d", i, c.name, w.Revision(), before+1)
			}
			c.fn(w)
		}); r != c.want || s.revision() != c.want {
			t.Errorf("%d, %s: Update says %d and View %d, want %d", i, c.name, r, s.revision(), c.want)
		}
	}
}

func countersNeverLose(t *testing.T, s *suite) {
	const writers, rounds = 8, 25
	seen := make([][]registry.Revision, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for range rounds {
				inside := registry.Revision(0)
				r := s.must(func(w registry.Writer) {
					v, _ := w.Get(tableA, "counter")
					n, _ := strconv.Atoi(string(v))
					w.Put(tableA, "counter", []byte(strconv.Itoa(n+1)))
					w.Touch(registry.KindDevice, fmt.Sprint(i))
					inside = w.Revision()
				})
				if r != inside {
					t.Errorf("Update says %d, its closure saw %d", r, inside)
				}
				seen[i] = append(seen[i], r)
			}
		})
	}
	wg.Wait()
	s.want("counter", strconv.Itoa(writers*rounds))
	var all []registry.Revision
	for _, of := range seen {
		if !slices.IsSorted(of) {
			t.Errorf("revisions of one writer go back: %v", of)
		}
		all = append(all, of...)
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != writers*rounds || s.revision() != writers*rounds {
		t.Errorf("%d different revisions up to %d, want %d", n, s.revision(), writers*rounds)
	}
}

func wait(t *testing.T, s *suite) {
	at := s.put("a", "1")
	type result struct {
		r   registry.Revision
		err error
	}
	waiting := func(ctx context.Context, after registry.Revision) chan result {
		c := make(chan result, 1)
		go func() {
			r, err := s.Wait(ctx, after)
			c <- result{r, err}
		}()
		return c
	}
	if got := <-waiting(context.Background(), 0); got.r != at || got.err != nil {
		t.Errorf("Wait(0) = %v, want %d at once", got, at)
	}
	ctx, cancel := context.WithCancel(context.Background())
	one, two, never := waiting(context.Background(), at), waiting(context.Background(), at), waiting(ctx, at+100)
	select {
	case got := <-one:
		t.Errorf("Wait for the next revision returned %v before there was one", got)
	case <-time.After(20 * time.Millisecond):
	}
	next := s.put("a", "2")
	for _, c := range []chan result{one, two} {
		if got := <-c; got.r != next || got.err != nil {
			t.Errorf("Wait = %v, want %d", got, next)
		}
	}
	cancel()
	if got := <-never; !errors.Is(got.err, context.Canceled) {
		t.Errorf("cancelled Wait = %v", got)
	}
	last := waiting(context.Background(), next)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-last; !errors.Is(got.err, registry.ErrClosed) {
		t.Errorf("Wait on a closing store = %v", got)
	}
}

func contexts(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	ran := false
	if _, err := s.Update(ctx, func(registry.Writer) error { ran = true; return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Update with a dead context: %v", err)
	}
	if err := s.View(ctx, func(registry.Reader) error { ran = true; return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("View with a dead context: %v", err)
	}
	if _, err := s.Changes(ctx, 0, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("Changes with a dead context: %v", err)
	}
	if ran {
		t.Error("a closure ran with a dead context")
	}
	// Cancelled while another closure has its turn: not run. Cancelled within its own: committed, and told so.
	inside, leave, done := make(chan bool), make(chan bool), make(chan error)
	go func() {
		_, err := s.Update(context.Background(), func(registry.Writer) error { inside <- true; <-leave; return nil })
		done <- err
	}()
	<-inside
	ctx, cancel = context.WithCancel(context.Background())
	go func() {
		_, err := s.Update(ctx, func(w registry.Writer) error { w.Put(tableA, "late", []byte("1")); return nil })
		done <- err
	}()
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Update cancelled while it waits: %v", err)
	}
	leave <- true
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.want("late", "")
	ctx, cancel = context.WithCancel(context.Background())
	if _, err := s.Update(ctx, func(w registry.Writer) error { w.Put(tableA, "in time", []byte("1")); cancel(); return nil }); err != nil {
		t.Errorf("Update cancelled within its closure: %v", err)
	}
	s.want("in time", "1")
}

func closing(t *testing.T, s *suite) {
	at := s.put("a", "1")
	inside, leave, viewed := make(chan bool), make(chan bool), make(chan error)
	go func() {
		viewed <- s.View(context.Background(), func(r registry.Reader) error {
			inside <- true
			<-leave
			if v, ok := r.Get(tableA, "a"); !ok || string(v) != "1" {
				return fmt.Errorf("got %q, %t in a view during Close", v, ok)
			}
			return nil
		})
	}()
	<-inside
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		t.Errorf("Close did not wait for a view: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	leave <- true
	if err := <-viewed; err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	ctx := context.Background()
	_, update := s.Update(ctx, func(registry.Writer) error { return nil })
	_, changes := s.Changes(ctx, 0, 1)
	_, waited := s.Wait(ctx, at)
	for i, err := range []error{update, s.View(ctx, func(registry.Reader) error { return nil }), changes, waited, s.Close()} {
		if !errors.Is(err, registry.ErrClosed) {
			t.Errorf("call %d after Close: %v, want ErrClosed", i, err)
		}
	}
}
