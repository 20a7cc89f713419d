package bolt_test

import (
	"path/filepath"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/registry/registrytest"
)

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T, keep int) func() (registry.Store, error) {
		path := filepath.Join(t.TempDir(), "registry.db")
		return func() (registry.Store, error) { return bolt.Open(path, bolt.Options{KeepRevisions: keep}) }
	})
}

func TestJournalConformance(t *testing.T) {
	registrytest.RunJournal(t, func(t *testing.T, now func() time.Time) func() (registry.Journal, error) {
		path := filepath.Join(t.TempDir(), "journal.db")
		return func() (registry.Journal, error) { return bolt.OpenJournal(path, bolt.JournalOptions{Now: now}) }
	})
}
