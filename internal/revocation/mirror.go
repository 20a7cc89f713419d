package revocation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// mirrorEvery is how often a mirror looks at what is served. It costs a few comparisons.
const mirrorEvery = 250 * time.Millisecond

// mirror writes what is published to a directory, under the paths that it has at the distribution point, for another web server or what feeds a CDN. Each file is
// there whole, as it was or as it is now. What cannot be written is tried again until it can be.
type mirror struct {
	dir   string
	sites []*site
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex
	written map[string]document // by path below dir: what is there
	why     string              // the last failure; empty once everything is there
	since   time.Time           // of the first one
}

// run keeps the directory up to date until ctx ends.
func (m *mirror) run(ctx context.Context) {
	for sleep(ctx, mirrorEvery) == nil {
		m.sync(ctx)
	}
}

// sync writes what has changed, deltas first: an old base goes with a new delta, and not the other way round.
func (m *mirror) sync(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	served := m.served()
	paths := slices.SortedFunc(maps.Keys(served), func(a, b string) int {
		if da, db := strings.HasSuffix(a, "-delta.crl"), strings.HasSuffix(b, "-delta.crl"); da != db {
			if da {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var errs []error
	for _, path := range paths {
		if m.written[path].etag == served[path].etag {
			continue
		}
		if err := m.write(path, served[path].body); err != nil {
			errs = append(errs, err)
			continue
		}
		m.written[path] = served[path]
	}
	for path := range m.written {
		if _, ok := served[path]; ok {
			continue
		}
		if err := os.Remove(filepath.Join(m.dir, path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		delete(m.written, path)
	}
	m.note(ctx, errors.Join(errs...))
}

// served is everything that the distribution point has now.
func (m *mirror) served() map[string]document {
	all := map[string]document{}
	for _, s := range m.sites {
		for name, get := range s.edition.Load().documents {
			if d, ok := get(); ok {
				all[filepath.Join(s.name, name)] = d
			}
		}
	}
	return all
}

// write makes a file what it is to be.
func (m *mirror) write(path string, body []byte) (err error) {
	path = filepath.Join(m.dir, path)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// A name of its own to each file, so that what a crash has left is overwritten.
	next := filepath.Join(dir, ".next-"+filepath.Base(path))
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask: it is public
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return syncDir(dir)
}

// note remembers how it went, and logs when that changes.
func (m *mirror) note(ctx context.Context, err error) {
	switch {
	case err == nil && m.why != "":
		m.log.InfoContext(ctx, "published CRLs are written to the directory again", "directory", m.dir)
		m.why, m.since = "", time.Time{}
	case err != nil && m.why == "":
		m.log.ErrorContext(ctx, "published CRLs cannot be written to the directory", "directory", m.dir, "error", err)
		m.since = m.now().UTC()
	}
	if err != nil {
		m.why = err.Error()
	}
}

// MirrorTrouble says why the directory of Config.Mirror is not up to date, since when, and until when what it holds is valid; empty if it is.
func (p *Publisher) MirrorTrouble() string {
	m := p.mirror
	if m == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.why == "" {
		return ""
	}
	until := "nothing is there"
	if at, ok := m.until(); ok {
		until = "the first of what is there expires at " + at.Format(time.RFC3339)
	}
	return fmt.Sprintf("%s (since %s; %s)", m.why, m.since.Format(time.RFC3339), until)
}

// until is when the first of the CRLs in the directory expires.
func (m *mirror) until() (first time.Time, ok bool) {
	for _, d := range m.written {
		if at := d.record.NextUpdate; d.record.Number != 0 && (!ok || at.Before(first)) {
			first, ok = at, true
		}
	}
	return first, ok
}
