package revocation

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
)

// files keeps the CRLs of one CA on disk. A CRL is first written under the name of its hash, where nobody looks, and made durable; then its record is
// committed; only then is it linked to the name that it is served under. So a record never lacks its bytes, whenever the machine dies.
type files struct {
	dir   string // <data>/crl/<issuer>
	ca    string
	write func(*os.File, []byte) (int, error) // os.File.Write
}

// stale is how old a file that no record names must be before it is removed: another publisher may be about to commit a younger one.
const stale = 10 * time.Minute

func (f files) hashed(hash string) string {
	return filepath.Join(f.dir, "sha256", f.ca+"-"+hash+".crl")
}

// served is where another web server may find the CRL.
func (f files) served(kind registry.CRLKind) string {
	if kind == registry.Delta {
		return filepath.Join(f.dir, f.ca+"-delta.crl")
	}
	return filepath.Join(f.dir, f.ca+".crl")
}

// save makes the CRL durable under the name of its hash.
func (f files) save(s *signed) (err error) {
	path := f.hashed(s.record.Hash)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("save CRL: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fmt.Errorf("save CRL: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("save CRL: %w", errors.Join(err, os.Remove(tmp.Name())))
		}
	}()
	_, err = f.write(tmp, s.der)
	if err == nil {
		err = tmp.Chmod(0o644) // it is public
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	// The names of the directories themselves are made durable too: they may be new.
	return errors.Join(syncDir(dir), syncDir(f.dir), syncDir(filepath.Dir(f.dir)))
}

// serve puts a saved CRL under the name that it is served under, atomically. It does nothing if it is there.
func (f files) serve(s *signed) error {
	path := f.served(s.record.Kind)
	next := filepath.Join(f.dir, ".next-"+s.record.Hash)
	if err := os.Link(f.hashed(s.record.Hash), next); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("serve CRL: %w", err)
	}
	if err := os.Rename(next, path); err != nil && !errors.Is(err, fs.ErrNotExist) { // not there: another publisher of this directory has just done it
		return fmt.Errorf("serve CRL: %w", err)
	}
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // rename leaves it where both names were the same file already
		return fmt.Errorf("serve CRL: %w", err)
	}
	if err := syncDir(f.dir); err != nil {
		return fmt.Errorf("serve CRL: %w", err)
	}
	return nil
}

// tidy removes saved CRLs that are not to be kept.
func (f files) tidy(keep ...*signed) error {
	dir := filepath.Dir(f.hashed(""))
	all, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("tidy CRLs: %w", err)
	}
	wanted := map[string]bool{}
	for _, s := range keep {
		wanted[filepath.Base(f.hashed(s.record.Hash))] = true
	}
	for _, e := range all {
		// By its length too: the id of another CA may begin with this one's.
		ours := strings.HasPrefix(e.Name(), f.ca+"-") && len(e.Name()) == len(filepath.Base(f.hashed("")))+64 || strings.HasPrefix(e.Name(), ".new-")
		info, err := e.Info()
		if err != nil || !ours || wanted[e.Name()] || time.Since(info.ModTime()) < stale {
			continue // a file without info was removed meanwhile
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("tidy CRLs: %w", err)
		}
	}
	return nil
}

// read returns a file of at most ca.MaxCRL octets.
func (f files) read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	der, err := io.ReadAll(io.LimitReader(file, ca.MaxCRL+1))
	if err == nil && len(der) > ca.MaxCRL {
		err = fmt.Errorf("%s: larger than %d octets", path, ca.MaxCRL)
	}
	return der, err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
