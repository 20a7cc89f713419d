package bolt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	lockTimeout = time.Second // long enough for a predecessor that is just closing, short enough for a person who waits
	initialMmap = 64 << 20    // bytes of address space, not of memory: remapping has to wait for every view
	holderLimit = 4096
)

// errDamaged marks a file that bbolt cannot read.
var errDamaged = errors.New("the file is damaged")

// HeldError is the error of Open and OpenJournal when another process, or another opener in this one, holds the file.
type HeldError struct {
	Path   string
	Holder string // who holds it, for people: "process 4711 on gate1 since 2026-01-02T15:04:05Z"
}

// Error says which file is held by whom.
func (e *HeldError) Error() string { return fmt.Sprintf("open %s: held by %s", e.Path, e.Holder) }

// holder is the content of the file beside the database that says who has the lock. Only the lock counts: after a crash the file is stale.
type holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Started time.Time `json:"started"`
}

func holderPath(path string) string { return path + ".holder" }

func readHolder(path string) string {
	f, err := os.Open(holderPath(path))
	if err != nil {
		return "another process"
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, holderLimit))
	var h holder
	if err != nil || json.Unmarshal(raw, &h) != nil || h.PID == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d on %q since %s", h.PID, h.Host, h.Started.UTC().Format(time.RFC3339))
}

func writeHolder(path string, now time.Time) error {
	host, _ := os.Hostname() // an unknown host is still worth the process id
	raw, err := json.Marshal(holder{PID: os.Getpid(), Host: host, Started: now.UTC()})
	if err != nil {
		return err
	}
	next := holderPath(path) + ".new"
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(next, holderPath(path))
}

// openFile opens or creates a bbolt file, readable by its owner only, and leaves a note of who holds it. A failure to leave the note is returned apart,
// because the file is usable without it.
func openFile(path string, now time.Time) (db *bbolt.DB, note, err error) {
	_, missing := os.Stat(path)
	db, err = openGuarded(path, &bbolt.Options{
		Timeout: lockTimeout, InitialMmapSize: initialMmap, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, nil, &HeldError{Path: path, Holder: readHolder(path)}
	case err != nil:
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	if missing != nil {
		// The entry of a new file lives in the directory, which bbolt does not flush.
		if err := syncDir(filepath.Dir(path)); err != nil {
			_ = db.Close()
			return nil, nil, fmt.Errorf("open %s: flush directory: %w", path, err)
		}
	}
	return db, writeHolder(path, now), nil
}

// openGuarded turns what bbolt says about a damaged file, by errors or by panics, into errDamaged.
func openGuarded(path string, opts *bbolt.Options) (db *bbolt.DB, err error) {
	// bbolt writes 4 pages at once when it creates a file; anything else that is shorter was cut.
	if info, statErr := os.Stat(path); statErr == nil && info.Size() > 0 && info.Size() < 4*1024 {
		return nil, fmt.Errorf("%w: only %d bytes long", errDamaged, info.Size())
	}
	err = guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, opts)
		return err
	})
	if errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch) {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return db, err
}

// guard runs fn and turns a panic into errDamaged: so bbolt reports a damaged page, and so the operating system one that was cut off or cannot be read.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return fn()
}

// saveFreelist writes the list of free pages, which a Store leaves out of its commits, so that the next start need not look for them in the whole file. A
// file without the list is whole, too.
func saveFreelist(db *bbolt.DB) error {
	return guard(func() error {
		db.NoFreelistSync = false
		return db.Update(func(*bbolt.Tx) error { return nil })
	})
}

func closeFile(db *bbolt.DB, path string) error {
	_ = os.Remove(holderPath(path)) // while the lock is still ours, so that a successor's note is never removed
	return db.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
