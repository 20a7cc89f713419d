package registrytest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"postern/internal/registry"
)

// together runs many updates at the same time, behind one that holds them up until they have queued, so that a backend that groups will group them.
func (s *suite) together(n int, fn func(i int, w registry.Writer) error) []error {
	inside, leave := make(chan bool), make(chan bool)
	go func() {
		_, _ = s.Update(context.Background(), func(registry.Writer) error { inside <- true; <-leave; return nil })
	}()
	<-inside
	errs := make([]error, n)
	var started, wg sync.WaitGroup
	started.Add(n)
	for i := range n {
		wg.Go(func() {
			started.Done()
			_, errs[i] = s.Update(context.Background(), func(w registry.Writer) error { return fn(i, w) })
		})
	}
	started.Wait()
	leave <- true
	wg.Wait()
	return errs
}

func failureLeavesOthers(t *testing.T, s *suite) {
	const n = 60
	s.put("shared", "")
	before := s.revision()
	errs := s.together(n, func(i int, w registry.Writer) error {
		v, _ := w.Get(tableA, "shared")
		if strings.Contains(string(v), "bad") {
			t.Errorf("closure %d sees what a failed one has written: %q", i, v)
		}
		w.Put(tableB, fmt.Sprint(i), []byte("x"))
		w.Touch(registry.KindOwner, fmt.Sprint(i))
		if i%3 == 0 {
			w.Put(tableA, "shared", append(v, "bad"...))
			w.Delete(tableA, "shared")
			return errRefused
		}
		w.Put(tableA, "shared", append(v, '+'))
		return nil
	})
	good := 0
	for i, err := range errs {
		if bad := i%3 == 0; bad != errors.Is(err, errRefused) || !bad && err != nil {
			t.Errorf("closure %d: %v", i, err)
		} else if !bad {
			good++
		}
	}
	s.want("shared", strings.Repeat("+", good))
	if r := s.revision(); r != before+registry.Revision(good) {
		t.Errorf("revision %d after %d good updates, want %d", r, good, before+registry.Revision(good))
	}
	touched := map[string]bool{}
	for _, c := range s.changesAfter(before, 1000) {
		touched[c.ID] = true
	}
	s.view(func(r registry.Reader) {
		for i := range n {
			_, ok := r.Get(tableB, fmt.Sprint(i))
			if want := i%3 != 0; ok != want || touched[fmt.Sprint(i)] != want {
				t.Errorf("closure %d: written %t, touched %t, want %t", i, ok, touched[fmt.Sprint(i)], want)
			}
		}
	})
}

func undoRestores(t *testing.T, s *suite) {
	s.must(func(w registry.Writer) {
		for i := range 500 {
			w.Put(tableA, fmt.Sprintf("%04d", i), []byte(strings.Repeat("v", i)))
		}
	})
	dump := func() (out []string) {
		s.view(func(r registry.Reader) {
			for _, table := range []registry.Table{tableA, tableB} {
				r.Scan(table, "", "", func(k string, v []byte) bool { out = append(out, fmt.Sprint(table, k, len(v))); return true })
			}
		})
		return out
	}
	before, at := dump(), s.revision()
	// One that succeeds goes with it, so that the transaction is committed.
	errs := s.together(2, func(i int, w registry.Writer) error {
		if i == 0 {
			w.Touch(registry.KindDevice, "d")
			return nil
		}
		for i := range 500 {
			k := fmt.Sprintf("%04d", i)
			switch i % 4 {
			case 0:
				w.Delete(tableA, k)
			case 1:
				w.Put(tableA, k, []byte("first"))
				w.Put(tableA, k, []byte("second"))
			case 2:
				w.Delete(tableA, k)
				w.Put(tableA, k, nil)
			case 3:
				w.Put(tableB, k, []byte("new"))
				w.Delete(tableB, k)
				w.Put(tableB, k, []byte("newer"))
			}
		}
		return errRefused
	})
	if errs[0] != nil || !errors.Is(errs[1], errRefused) {
		t.Errorf("errors %v", errs)
	}
	if after := dump(); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("the failed update left traces: %d rows before, %d after", len(before), len(after))
	}
	if r := s.revision(); r != at+1 {
		t.Errorf("revision %d, want %d", r, at+1)
	}
}

func panicking(t *testing.T, s *suite) {
	caught := make(chan any, 10)
	errs := s.together(10, func(i int, w registry.Writer) (err error) {
		w.Put(tableA, fmt.Sprint(i), []byte("x"))
		return nil
	})
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			defer func() { caught <- recover() }()
			_, err := s.Update(context.Background(), func(w registry.Writer) error {
				w.Put(tableA, fmt.Sprint(i), []byte("y"))
				w.Touch(registry.KindDevice, "d")
				if i%2 == 0 {
					panic("closure went wrong")
				}
				return nil
			})
			if err != nil {
				t.Errorf("closure %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	panics := 0
	for range 10 {
		if p := <-caught; p == "closure went wrong" {
			panics++
		} else if p != nil {
			t.Errorf("panic %v", p)
		}
	}
	if panics != 5 {
		t.Errorf("%d panics reached their callers, want 5", panics)
	}
	for i := range 10 {
		s.want(fmt.Sprint(i), []string{"x", "y"}[i%2])
	}
	if c := s.changesAfter(0, 100); len(c) != 5 {
		t.Errorf("changes %v, want 5", c)
	}
}

// goexit is what t.Fatal within a closure does.
func goexit(t *testing.T, s *suite) {
	done := make(chan bool)
	go func() {
		defer close(done)
		_, _ = s.Update(context.Background(), func(w registry.Writer) error {
			w.Put(tableA, "a", []byte("x"))
			runtime.Goexit()
			return nil
		})
		t.Error("Update returned after its goroutine has ended")
	}()
	<-done
	s.want("a", "")
	s.put("a", "y")
	s.want("a", "y")
}

func misuse(t *testing.T, s *suite) {
	ctx := context.Background()
	for name, fn := range map[string]func(registry.Writer){
		"empty key":     func(w registry.Writer) { w.Put(tableA, "", []byte("x")) },
		"unknown table": func(w registry.Writer) { w.Put("nonsense", "k", []byte("x")) },
		"unknown read":  func(w registry.Writer) { w.Get("nonsense", "k") },
	} {
		_, err := s.Update(ctx, func(w registry.Writer) error {
			w.Put(tableA, "good", []byte("x"))
			fn(w)
			return nil
		})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		s.want("good", "")
	}
	if err := s.View(ctx, func(r registry.Reader) error { r.Scan("nonsense", "", "", nil); return nil }); err == nil {
		t.Error("view of an unknown table: no error")
	}
	if err := s.View(ctx, func(registry.Reader) error { return errRefused }); !errors.Is(err, errRefused) {
		t.Errorf("View: %v, want the closure's error", err)
	}
	if r := s.revision(); r != 0 {
		t.Errorf("revision %d, want 0", r)
	}
}
