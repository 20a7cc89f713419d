package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
)

func put(key string) func(registry.Writer) error {
	return func(w registry.Writer) error {
		w.Put("devices", key, []byte("x"))
		w.Touch(registry.KindDevice, key)
		return nil
	}
}

func has(t *testing.T, s *Store, key string) (ok bool, at registry.Revision) {
	t.Helper()
	err := s.View(context.Background(), func(r registry.Reader) error {
		_, ok = r.Get("devices", key)
		at = r.Revision()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ok, at
}

// fillDisk makes every write to the open file fail as on a full disk, until the returned function is called.
func fillDisk(t *testing.T, path string) (free func()) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc")
	}
	for _, f := range fds {
		var fd int
		if to, _ := os.Readlink("/proc/self/fd/" + f.Name()); to != path {
			continue
		}
		if _, err := fmt.Sscan(f.Name(), &fd); err != nil {
			t.Fatal(err)
		}
		full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
		if err != nil {
			t.Skip("needs /dev/full")
		}
		defer full.Close()
		good, err := syscall.Dup(fd)
		if err == nil {
			err = syscall.Dup3(int(full.Fd()), fd, syscall.O_CLOEXEC)
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := syscall.Dup3(good, fd, syscall.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			_ = syscall.Close(good)
		}
	}
	t.Fatalf("%s is not open", path)
	return nil
}

func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	if _, err := s.Update(ctx, put("before")); err != nil {
		t.Fatal(err)
	}
	free := fillDisk(t, path)
	for range 3 {
		if _, err := s.Update(ctx, put("lost")); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, registry.ErrUnknownOutcome) {
			t.Errorf("Update on a full disk: %v", err)
		}
	}
	if ok, at := has(t, s, "lost"); ok || at != 1 {
		t.Errorf("a commit that failed is seen: %t, revision %d", ok, at)
	}
	free()
	for i := range 20 {
		if r, err := s.Update(ctx, put(fmt.Sprint("after", i))); err != nil || r != registry.Revision(i+2) {
			t.Fatalf("Update once there is room again: %d, %v", r, err)
		}
	}
	if err := s.db.View(func(tx *bbolt.Tx) error { return errors.Join(drain(tx.Check())...) }); err != nil {
		t.Errorf("the file is not consistent: %v", err)
	}
}

func drain(c <-chan error) (errs []error) {
	for err := range c {
		errs = append(errs, err)
	}
	return errs
}

// TestUnknownOutcome lets the commit happen and its flush report a failure.
func TestUnknownOutcome(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	s.commit = func(tx *bbolt.Tx) error {
		return errors.Join(tx.Commit(), syscall.EIO)
	}
	if _, err := s.Update(ctx, put("maybe")); !errors.Is(err, registry.ErrUnknownOutcome) || !errors.Is(err, syscall.EIO) {
		t.Errorf("Update whose flush failed: %v, want ErrUnknownOutcome", err)
	}
	if ok, at := has(t, s, "maybe"); !ok || at != 1 {
		t.Errorf("what was written cannot be seen: %t, revision %d", ok, at)
	}
	if r, err := s.Wait(ctx, 0); r != 1 || err != nil {
		t.Errorf("Wait = %d, %v: it must agree with View", r, err)
	}
	if _, err := s.Update(ctx, put("never")); err == nil || errors.Is(err, registry.ErrUnknownOutcome) {
		t.Errorf("Update after a flush has failed: %v, want a plain refusal", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(path, Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Update(ctx, put("again")); err != nil {
		t.Errorf("Update after opening again: %v", err)
	}
}

func TestHeld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "registry.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, Options{})
	var held *HeldError
	if !errors.As(err, &held) || held.Path != path || !strings.Contains(held.Holder, fmt.Sprintf("process %d on ", os.Getpid())) {
		t.Errorf("second Open: %v", err)
	}
	for _, note := range []string{"garbage", strings.Repeat("x", 1<<20)} {
		if err := os.WriteFile(holderPath(path), []byte(note), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err = Open(path, Options{}); !errors.As(err, &held) || held.Holder != "another process" {
			t.Errorf("second Open beside a bad note: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*holder*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	make := func(name string, fn func(*bbolt.Tx) error) string {
		path := filepath.Join(dir, name)
		db, err := bbolt.Open(path, 0o600, nil)
		if err == nil {
			err = errors.Join(db.Update(fn), db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	written := func(version string) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte(bucketStore))
			return errors.Join(err, b.Put([]byte(keyFormat), []byte(version)))
		}
	}
	newer, older := make("newer", written("3")), make("older", written("1"))
	other := make("other", func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err })
	garbage := filepath.Join(dir, "garbage")
	short := filepath.Join(dir, "short")
	err := errors.Join(os.WriteFile(garbage, []byte(strings.Repeat("garbage\n", 8192)), 0o600), os.WriteFile(short, []byte("x"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{newer: "format version 3", older: "before the first release", other: "not the expected file", garbage: "damaged", short: "damaged"} {
		before, _ := os.ReadFile(path)
		if s, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", path, s, err, want)
		}
		if after, _ := os.ReadFile(path); string(after[min(len(after), 8192):]) != string(before[min(len(before), 8192):]) {
			t.Errorf("%s was changed", path)
		}
	}
	if _, err := OpenJournal(other, JournalOptions{}); err == nil {
		t.Error("a journal was opened on a file of something else")
	}
	if _, err := Open(filepath.Join(dir, "missing", "registry.db"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}
