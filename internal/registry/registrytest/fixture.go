// Package registrytest holds the conformance suites that every registry.Store and registry.Journal must pass, and real ones for the tests of other
// packages.
//
// It imports a backend, which imports package registry: tests of package registry itself have to be in package registry_test to use it.
package registrytest

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
)

// Store returns an empty store on a temporary file, closed at the end of the test.
func Store(t testing.TB) registry.Store {
	t.Helper()
	s, err := bolt.Open(filepath.Join(t.TempDir(), "registry.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, s)
	return s
}

// Journal returns an empty journal on a temporary file, closed at the end of the test. It keeps decisions of any age, so that a test may have its own clock.
func Journal(t testing.TB) registry.Journal {
	t.Helper()
	j, err := bolt.OpenJournal(filepath.Join(t.TempDir(), "journal.db"), bolt.JournalOptions{MaxAge: 200 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, j)
	return j
}

// closeAfter closes what the test has not closed itself.
func closeAfter(t testing.TB, c interface{ Close() error }) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, registry.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
}
