package registrytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"postern/internal/registry"
)

func changes(t *testing.T, s *suite) {
	s.must(func(w registry.Writer) {
		w.Touch(registry.KindOwner, "z")
		w.Touch(registry.KindDevice, "a")
		w.Touch(registry.KindOwner, "z")
		w.Touch(registry.KindOwner, "a")
	})
	s.put("untouched", "x") // a revision without changes
	for i := range 3 {
		s.must(func(w registry.Writer) { w.Touch(registry.KindCRL, fmt.Sprint(i)) })
	}
	change := func(r registry.Revision, kind registry.Kind, id string) registry.Change {
		return registry.Change{Revision: r, Kind: kind, ID: id}
	}
	first := []registry.Change{change(1, registry.KindOwner, "z"), change(1, registry.KindDevice, "a"), change(1, registry.KindOwner, "a")}
	rest := []registry.Change{change(3, registry.KindCRL, "0"), change(4, registry.KindCRL, "1"), change(5, registry.KindCRL, "2")}
	for _, c := range []struct {
		after registry.Revision
		limit int
		want  []registry.Change
	}{
		{0, 100, append(slices.Clone(first), rest...)},
		{0, 1, first}, // a revision is never split
		{0, 3, first},
		{0, 4, append(slices.Clone(first), rest[0])},
		{1, 2, rest[:2]},
		{2, 100, rest},
		{4, 100, rest[2:]},
		{5, 100, nil},
	} {
		if got := s.changesAfter(c.after, c.limit); !slices.Equal(got, c.want) {
			t.Errorf("Changes(%d, %d) = %v, want %v", c.after, c.limit, got, c.want)
		}
	}
	if _, err := s.Changes(context.Background(), 6, 10); !errors.Is(err, registry.ErrCompacted) {
		t.Errorf("Changes after a revision that has not been: %v, want ErrCompacted", err)
	}
}

// changesFollowed follows a store that is being written to, and must come to the same picture.
func changesFollowed(t *testing.T, s *suite) {
	const n = 150
	go func() {
		for i := range n {
			key := fmt.Sprint(i % 10)
			s.must(func(w registry.Writer) {
				w.Put(tableA, key, []byte(fmt.Sprint(i)))
				w.Touch(registry.KindDevice, key)
			})
		}
	}()
	picture, at := map[string]string{}, registry.Revision(0)
	for at < n {
		if _, err := s.Wait(context.Background(), at); err != nil {
			t.Fatal(err)
		}
		for _, c := range s.changesAfter(at, 7) {
			if c.Revision != at && c.Revision != at+1 {
				t.Fatalf("change %v after revision %d", c, at)
			}
			at = c.Revision
			s.view(func(r registry.Reader) {
				v, _ := r.Get(tableA, c.ID)
				picture[c.ID] = string(v)
			})
		}
	}
	for i := range 10 {
		if want := fmt.Sprint(n - 10 + i); picture[fmt.Sprint(i)] != want {
			t.Errorf("key %d: followed to %q, want %q", i, picture[fmt.Sprint(i)], want)
		}
	}
}

// compacted runs with a history of 5 revisions.
func compacted(t *testing.T, s *suite) {
	for i := range 20 {
		s.must(func(w registry.Writer) { w.Touch(registry.KindDevice, fmt.Sprint(i)) })
	}
	check := func() {
		t.Helper()
		for _, after := range []registry.Revision{0, 3, 14} {
			if _, err := s.Changes(context.Background(), after, 100); !errors.Is(err, registry.ErrCompacted) {
				t.Errorf("Changes after %d of 20: %v, want ErrCompacted", after, err)
			}
		}
		if c := s.changesAfter(15, 100); len(c) != 5 || c[0].Revision != 16 || c[4].ID != "19" {
			t.Errorf("Changes after 15 of 20 = %v", c)
		}
	}
	check()
	s.reopen()
	check()
	// Revisions without changes move the horizon too.
	for range 10 {
		s.put("a", "b")
	}
	if _, err := s.Changes(context.Background(), 20, 100); !errors.Is(err, registry.ErrCompacted) {
		t.Errorf("Changes after 20 of 30: %v, want ErrCompacted", err)
	}
	if c := s.changesAfter(25, 100); len(c) != 0 {
		t.Errorf("Changes after 25 of 30 = %v", c)
	}
}

func snapshot(t *testing.T, s *suite) {
	at := s.put("a", "1")
	s.view(func(r registry.Reader) {
		done := make(chan bool)
		go func() {
			defer close(done)
			s.put("a", "2")
			s.put("b", "2")
		}()
		<-done
		if v, _ := r.Get(tableA, "a"); string(v) != "1" || r.Revision() != at {
			t.Errorf("a view that began at %d sees %q and says %d", at, v, r.Revision())
		}
		if _, ok := r.Get(tableA, "b"); ok {
			t.Error("a view sees what was committed after it began")
		}
	})
	s.want("a", "2")
}

type scanCase struct {
	back                     bool
	prefix, from, stop, want string
}

// scans are runs over the keys that scan writes; a run stops at the key stop.
func scans() []scanCase {
	return []scanCase{
		{false, "", "", "", "a b b/1 b/2 b/3 b0 c\xff c\xff\xff \xff \xff\xff"},
		{false, "b/", "", "", "b/1 b/2 b/3"},
		{false, "b/", "b/1", "", "b/2 b/3"},
		{false, "b/", "b/15", "", "b/2 b/3"},
		{false, "b/", "a", "", "b/1 b/2 b/3"},
		{false, "b/", "b/3", "", ""},
		{false, "b/", "c", "", ""},
		{false, "b/", "", "b/2", "b/1 b/2"},
		{false, "nothing", "", "", ""},
		{false, "", "\xff\xff", "", ""},
		{true, "", "", "", "\xff\xff \xff c\xff\xff c\xff b0 b/3 b/2 b/1 b a"},
		{true, "b/", "", "", "b/3 b/2 b/1"},
		{true, "b/", "b/3", "", "b/2 b/1"},
		{true, "b/", "b/25", "", "b/2 b/1"},
		{true, "b/", "z", "", "b/3 b/2 b/1"},
		{true, "b/", "b/1", "", ""},
		{true, "b/", "a", "", ""},
		{true, "b/", "", "b/2", "b/3 b/2"},
		{true, "c\xff", "", "", "c\xff\xff c\xff"},
		{true, "\xff", "", "", "\xff\xff \xff"},
		{true, "", "a", "", ""},
	}
}

func scan(t *testing.T, s *suite) {
	s.must(func(w registry.Writer) {
		for _, k := range []string{"a", "b", "b/1", "b/2", "b/3", "b0", "c\xff", "c\xff\xff", "\xff", "\xff\xff"} {
			w.Put(tableA, k, []byte("v"+k))
		}
	})
	run := func(r registry.Reader) {
		for _, c := range scans() {
			f := r.Scan
			if c.back {
				f = r.ScanBack
			}
			var got []string
			f(tableA, c.prefix, c.from, func(k string, v []byte) bool {
				if string(v) != "v"+k {
					t.Errorf("value of %q is %q", k, v)
				}
				got = append(got, k)
				return k != c.stop
			})
			if strings.Join(got, " ") != c.want {
				t.Errorf("back %t, prefix %q, from %q: %q, want %q", c.back, c.prefix, c.from, got, c.want)
			}
		}
		r.ScanBack(tableB, "", "", func(k string, _ []byte) bool { t.Errorf("empty table has %q", k); return true })
	}
	s.view(run)
	s.must(func(w registry.Writer) { run(w) })
	s.must(func(w registry.Writer) { // its own writes
		w.Delete(tableA, "b/2")
		w.Put(tableA, "b/4", []byte("v"))
		var got []string
		w.Scan(tableA, "b/", "", func(k string, _ []byte) bool { got = append(got, k); return true })
		w.ScanBack(tableA, "b/", "", func(k string, _ []byte) bool { got = append(got, k); return true })
		if strings.Join(got, " ") != "b/1 b/3 b/4 b/4 b/3 b/1" {
			t.Errorf("scans within the update: %q", got)
		}
	})
}

// randomOperations compares the store with a map.
func randomOperations(t *testing.T, s *suite) {
	rnd := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	for round := range 60 {
		next, fail := maps.Clone(model), rnd.IntN(4) == 0
		_, err := s.Update(context.Background(), func(w registry.Writer) error {
			for range rnd.IntN(120) {
				k := fmt.Sprintf("%02x/%d", rnd.IntN(256), rnd.IntN(3))
				if rnd.IntN(5) < 2 {
					w.Delete(tableA, k)
					delete(next, k)
				} else {
					next[k] = strings.Repeat("v", rnd.IntN(300))
					w.Put(tableA, k, []byte(next[k]))
				}
				if rnd.IntN(20) == 0 {
					compare(t, w, next, k)
				}
			}
			if fail {
				return errRefused
			}
			return nil
		})
		if fail != (err != nil) {
			t.Fatalf("round %d: %v", round, err)
		}
		if !fail {
			model = next
		}
		s.view(func(r registry.Reader) { compare(t, r, model, fmt.Sprintf("%02x/1", rnd.IntN(256))) })
	}
}

func compare(t *testing.T, r registry.Reader, model map[string]string, pivot string) {
	t.Helper()
	for _, prefix := range []string{"", pivot[:1], pivot[:3]} {
		var want, forth, back []string
		for _, k := range slices.Sorted(maps.Keys(model)) {
			if strings.HasPrefix(k, prefix) && k > pivot {
				want = append(want, k+model[k])
			}
		}
		r.Scan(tableA, prefix, pivot, func(k string, v []byte) bool { forth = append(forth, k+string(v)); return true })
		if !reflect.DeepEqual(forth, want) {
			t.Fatalf("Scan(%q, %q): %d rows, want %d", prefix, pivot, len(forth), len(want))
		}
		want = nil
		for _, k := range slices.Backward(slices.Sorted(maps.Keys(model))) {
			if strings.HasPrefix(k, prefix) && k < pivot {
				want = append(want, k+model[k])
			}
		}
		r.ScanBack(tableA, prefix, pivot, func(k string, v []byte) bool { back = append(back, k+string(v)); return true })
		if !reflect.DeepEqual(back, want) {
			t.Fatalf("ScanBack(%q, %q): %d rows, want %d", prefix, pivot, len(back), len(want))
		}
	}
	if v, ok := r.Get(tableA, pivot); string(v) != model[pivot] || (model[pivot] != "" && !ok) {
		t.Fatalf("Get(%q) = %d bytes, %t", pivot, len(v), ok)
	}
}

func valuesAreCopies(t *testing.T, s *suite) {
	mine := []byte("mine")
	var kept []byte
	s.must(func(w registry.Writer) {
		w.Put(tableA, "a", mine)
		mine[0] = 'X'
		v, _ := w.Get(tableA, "a")
		v[1] = 'X'
	})
	mine[2] = 'X'
	s.want("a", "mine")
	s.view(func(r registry.Reader) {
		kept, _ = r.Get(tableA, "a")
		kept[0] = 'l'
		again, _ := r.Get(tableA, "a")
		if string(again) != "mine" {
			t.Errorf("the view's value was changed through its copy: %q", again)
		}
		r.Scan(tableA, "", "", func(_ string, v []byte) bool { v[0] = 'X'; return true })
		r.ScanBack(tableA, "", "", func(_ string, v []byte) bool { v[0] = 'X'; return true })
	})
	for i := range 50 {
		s.put(fmt.Sprint(i), "other")
	}
	s.want("a", "mine")
	if string(kept) != "line" {
		t.Errorf("the copy has changed: %q", kept)
	}
}
