package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"postern/internal/trust"
)

// Outcome of an audited attempt.
type Outcome string

// The outcomes of an attempt.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused"
)

// AuditEntry says who did what to which object. Entries are written in the transaction that they describe and never change.
type AuditEntry struct {
	Seq       uint64          `json:"seq"` // rises by one with every entry
	Revision  Revision        `json:"revision"`
	At        time.Time       `json:"at"`
	Principal trust.Principal `json:"principal"`
	Action    string          `json:"action"` // for example certificate.revoke
	Object    string          `json:"object"`
	Outcome   Outcome         `json:"outcome"`
	Detail    string          `json:"detail,omitempty"`
	Before    json.RawMessage `json:"before,omitempty"`
	After     json.RawMessage `json:"after,omitempty"`
}

const auditSeqKey = "audit_seq"

// audit writes one entry, filling in sequence, revision, time and principal.
func (t *txn) audit(e AuditEntry) error {
	seq := uint64(1)
	if b, ok := t.Get(tableMeta, auditSeqKey); ok {
		n, err := strconv.ParseUint(string(b), 10, 64)
		if err != nil {
			return fmt.Errorf("read audit sequence: %w", err)
		}
		seq = n + 1
	}
	t.Put(tableMeta, auditSeqKey, []byte(strconv.FormatUint(seq, 10)))
	e.Seq, e.Revision, e.At, e.Principal = seq, t.Revision(), t.now.UTC(), t.p
	if e.Outcome == "" {
		e.Outcome = Done
	}
	return put(t, tableAudit, seqKey(seq), e)
}

// seqKey makes numbers sort as text.
func seqKey(n uint64) string { return fmt.Sprintf("%016x", n) }

// snapshot encodes an object for Before or After; nil for an absent one.
func snapshot(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}

// RecordRefusal writes an audit entry for something that a door refused before any rule of the registry was asked, such as a wrong SCEP challenge.
// detail must hold no secret.
func (r *Registry) RecordRefusal(ctx context.Context, p trust.Principal, action, object, detail string) error {
	_, err := r.store.Update(ctx, func(w Writer) error {
		return r.txn(w, p).audit(AuditEntry{Action: action, Object: object, Outcome: Refused, Detail: detail})
	})
	return err
}

// AuditFilter selects audit entries. Zero fields do not filter.
type AuditFilter struct {
	Object string // exact
	Action string // exact
	Before uint64 // Seq of the last entry of the previous page
	Limit  int
}

// Audit lists audit entries, newest first.
func (r *Registry) Audit(ctx context.Context, f AuditFilter) ([]AuditEntry, error) {
	limit := pageLimit(f.Limit)
	before := ""
	if f.Before > 0 {
		before = seqKey(f.Before)
	}
	out := []AuditEntry{}
	for n := scanPage; n == scanPage && len(out) < limit; {
		n = 0
		var bad error
		err := r.view(ctx, func(rd Reader) error {
			rd.ScanBack(tableAudit, "", before, func(key string, v []byte) bool {
				before = key
				n++
				var e AuditEntry
				if bad = json.Unmarshal(v, &e); bad != nil {
					return false
				}
				if (f.Object == "" || e.Object == f.Object) && (f.Action == "" || e.Action == f.Action) {
					out = append(out, e)
				}
				return len(out) < limit && n < scanPage
			})
			return bad
		})
		if err != nil {
			return nil, fmt.Errorf("read audit: %w", err)
		}
	}
	return out, nil
}
