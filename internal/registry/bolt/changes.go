package bolt

import (
	"context"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
)

// revisionKey orders the history of changes.
func revisionKey(r registry.Revision) []byte { return binary.BigEndian.AppendUint64(nil, uint64(r)) }

// encodeChanges writes kind and id of each change, both behind their length.
func encodeChanges(changes []registry.Change) []byte {
	var raw []byte
	for _, c := range changes {
		raw = appendText(appendText(raw, string(c.Kind)), c.ID)
	}
	return raw
}

func decodeChanges(revision registry.Revision, raw []byte) ([]registry.Change, error) {
	var changes []registry.Change
	for len(raw) > 0 {
		kind, rest, ok := cutText(raw)
		id, rest, ok2 := cutText(rest)
		if !ok || !ok2 {
			return nil, fmt.Errorf("%w: changes of revision %d", errDamaged, revision)
		}
		changes = append(changes, registry.Change{Revision: revision, Kind: registry.Kind(kind), ID: id})
		raw = rest
	}
	return changes, nil
}

func appendText(raw []byte, s string) []byte {
	return append(binary.AppendUvarint(raw, uint64(len(s))), s...)
}

// cutText takes a text behind its length from the front; false if it is not all there.
func cutText(raw []byte) (s string, rest []byte, ok bool) {
	n, used := binary.Uvarint(raw)
	if used <= 0 || n > uint64(len(raw)-used) {
		return "", nil, false
	}
	raw = raw[used:]
	return string(raw[:n]), raw[n:], true
}

// Changes implements registry.Store. A single revision that touched more than limit objects is returned whole; a limit below 1 means 1000. For a
// revision that the store has not reached yet, as after the restore of a backup, it returns ErrCompacted too: only reading everything anew helps.
func (s *Store) Changes(ctx context.Context, after registry.Revision, limit int) ([]registry.Change, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if limit < 1 {
		limit = defaultChangesLimit
	}
	tx, st, err := s.begin()
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	if after < st.floor || after > st.revision {
		return nil, fmt.Errorf("changes after revision %d: %w", after, registry.ErrCompacted)
	}
	var out []registry.Change
	c := tx.Bucket([]byte(bucketChanges)).Cursor()
	for k, v := c.Seek(revisionKey(after + 1)); len(k) == 8 && len(out) < limit; k, v = c.Next() {
		changes, err := decodeChanges(registry.Revision(binary.BigEndian.Uint64(k)), v)
		if err != nil {
			return nil, fmt.Errorf("read changes: %w", err)
		}
		if len(out) > 0 && len(out)+len(changes) > limit {
			break
		}
		out = append(out, changes...)
	}
	return out, nil
}

// pruneChanges removes the oldest changes beyond the last keep revisions and returns the new floor. It removes more than a commit of this many revisions
// adds, but not everything at once, so that a smaller keep is reached over many commits.
func pruneChanges(tx *bbolt.Tx, st state, keep registry.Revision, added int) (registry.Revision, error) {
	if st.revision <= keep || st.revision-keep <= st.floor {
		return st.floor, nil
	}
	target := st.revision - keep
	b := tx.Bucket([]byte(bucketChanges))
	budget := 4*added + 64
	var old [][]byte
	c := b.Cursor()
	for k, _ := c.First(); len(k) == 8 && registry.Revision(binary.BigEndian.Uint64(k)) <= target; k, _ = c.Next() {
		if len(old) == budget {
			target = registry.Revision(binary.BigEndian.Uint64(old[budget-1]))
			break
		}
		old = append(old, append([]byte(nil), k...))
	}
	for _, k := range old {
		if err := b.Delete(k); err != nil {
			return 0, fmt.Errorf("compact changes: %w", err)
		}
	}
	return max(st.floor, target), nil
}
