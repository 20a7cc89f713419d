package bolt

import (
	"bytes"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
	"postern/internal/trust"
)

// reader is a registry.Reader on a bbolt transaction. It serves one goroutine at a time.
type reader struct {
	tx       *bbolt.Tx
	revision registry.Revision
	buckets  map[registry.Table]*bbolt.Bucket
	ended    bool
	err      error // the first misuse, which fails the transaction because the methods cannot say it
}

// Revision implements registry.Reader.
func (r *reader) Revision() registry.Revision { return r.revision }

func (r *reader) bucket(t registry.Table) *bbolt.Bucket {
	if r.ended {
		panic("registry transaction used after its closure returned")
	}
	b := r.buckets[t]
	if b == nil {
		if b = r.tx.Bucket([]byte(tablePrefix + string(t))); b == nil {
			r.fail(fmt.Errorf("table %q %w: there is none of this name", t, trust.ErrInvalid))
			return nil
		}
		if slices.Contains(registry.Appended(), t) {
			b.FillPercent = 0.95
		}
		r.buckets[t] = b
	}
	return b
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Get implements registry.Reader.
func (r *reader) Get(t registry.Table, key string) ([]byte, bool) {
	b := r.bucket(t)
	if b == nil {
		return nil, false
	}
	v := b.Get([]byte(key))
	return bytes.Clone(v), v != nil
}

// Scan implements registry.Reader.
func (r *reader) Scan(t registry.Table, prefix, after string, fn func(key string, value []byte) bool) {
	b := r.bucket(t)
	if b == nil {
		return
	}
	c := b.Cursor()
	k, v := c.Seek([]byte(max(prefix, after)))
	if after != "" && string(k) == after {
		k, v = c.Next()
	}
	visit(k, v, c.Next, prefix, fn)
}

// ScanBack implements registry.Reader.
func (r *reader) ScanBack(t registry.Table, prefix, before string, fn func(key string, value []byte) bool) {
	b := r.bucket(t)
	if b == nil {
		return
	}
	end, bounded := prefixEnd(prefix)
	if before != "" && (!bounded || before < end) {
		end, bounded = before, true
	}
	c := b.Cursor()
	var k, v []byte
	if bounded {
		k, _ = c.Seek([]byte(end))
	}
	if k == nil {
		k, v = c.Last()
	} else {
		k, v = c.Prev()
	}
	visit(k, v, c.Prev, prefix, fn)
}

// visit calls fn with copies in a buffer of its own: a callback that keeps or changes the value of a mapped page would end the process.
func visit(k, v []byte, step func() ([]byte, []byte), prefix string, fn func(key string, value []byte) bool) {
	var buf []byte
	for ; k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = step() {
		buf = append(buf[:0], v...)
		if !fn(string(k), buf) {
			return
		}
	}
}

// prefixEnd returns the first key behind all that have the prefix; false if there is none.
func prefixEnd(prefix string) (string, bool) {
	end := []byte(prefix)
	for len(end) > 0 {
		if end[len(end)-1]++; end[len(end)-1] != 0 {
			return string(end), true
		}
		end = end[:len(end)-1]
	}
	return "", false
}

// writer is a registry.Writer that can take back what it wrote.
type writer struct {
	reader
	wrote   bool
	weight  int
	log     []former
	touched []registry.Change
	seen    map[registry.Change]bool
}

// former is what a key held before a write.
type former struct {
	bucket *bbolt.Bucket
	key    []byte
	value  []byte // nil: there was none
}

// Put implements registry.Writer. An empty key, or one of more than 32768 bytes, fails the Update.
func (w *writer) Put(t registry.Table, key string, value []byte) {
	b := w.bucket(t)
	if b == nil {
		return
	}
	k := []byte(key)
	old := b.Get(k) // stays valid until the end of the transaction
	if err := b.Put(k, append(make([]byte, 0, len(value)), value...)); err != nil {
		w.fail(fmt.Errorf("put into %s: %w", t, err))
		return
	}
	w.wrote = true
	w.weight += len(k) + len(value)
	w.log = append(w.log, former{b, k, old})
}

// Delete implements registry.Writer. To delete what is not there is not a change.
func (w *writer) Delete(t registry.Table, key string) {
	b := w.bucket(t)
	if b == nil {
		return
	}
	k := []byte(key)
	old := b.Get(k)
	if old == nil {
		return
	}
	if err := b.Delete(k); err != nil {
		w.fail(fmt.Errorf("delete from %s: %w", t, err))
		return
	}
	w.wrote = true
	w.weight += len(k)
	w.log = append(w.log, former{b, k, old})
}

// Touch implements registry.Writer.
func (w *writer) Touch(kind registry.Kind, id string) {
	if w.ended {
		panic("registry transaction used after its closure returned")
	}
	c := registry.Change{Revision: w.revision, Kind: kind, ID: id}
	if w.seen[c] {
		return
	}
	if w.seen == nil {
		w.seen = map[registry.Change]bool{}
	}
	w.seen[c] = true
	w.touched = append(w.touched, c)
	w.weight += len(kind) + len(id)
}

// record writes what was touched into the history of changes. It is the last write of a closure, so that undo need not know of it.
func (w *writer) record() error {
	if len(w.touched) == 0 {
		return nil
	}
	b := w.tx.Bucket([]byte(bucketChanges))
	b.FillPercent = 0.95 // only ever appended to
	if err := b.Put(revisionKey(w.revision), encodeChanges(w.touched)); err != nil {
		return fmt.Errorf("record changes: %w", err)
	}
	return nil
}

// undo restores what the closure has overwritten or deleted, the latest first.
func (w *writer) undo() error {
	for i := len(w.log) - 1; i >= 0; i-- {
		f := w.log[i]
		var err error
		if f.value == nil {
			err = f.bucket.Delete(f.key)
		} else {
			err = f.bucket.Put(f.key, f.value)
		}
		if err != nil {
			return fmt.Errorf("undo a failed update: %w", err)
		}
	}
	return nil
}
