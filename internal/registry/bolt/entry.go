package bolt

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

const (
	maxReference = 256      // bytes
	maxText      = 256      // bytes of a text field of a receipt, and of a mail profile id
	maxInput     = 64 << 10 // bytes
	maxEntry     = 1 << 20  // bytes
)

// entry is one decision as it is stored. The key begins with the time, so that the order of the keys is that of the decisions whatever a reference looks
// like; the value begins with what a DecisionFilter selects by, so that a search need not parse the rest.
type entry struct {
	key   string
	value []byte
	ring  ring
}

func (e *entry) reference() string { return e.key[8:] }

func (e *entry) size() int { return len(e.key) + len(e.value) }

func newEntry(d trust.Decision) (*entry, error) {
	if d.Reference == "" || len(d.Reference) > maxReference {
		return nil, fmt.Errorf("reference of %d bytes, want 1 to %d", len(d.Reference), maxReference)
	}
	input := d.Input
	d.Input = nil // kept beside the JSON, which would make it longer by a third
	if len(input) > maxInput {
		input = nil
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode decision: %w", err)
	}
	value := appendText(appendText(appendText(nil, string(d.Action)), d.User), string(d.Device))
	value = append(appendText(value, string(text)), input...)
	if len(value) > maxEntry {
		return nil, fmt.Errorf("decision of %d bytes, want at most %d", len(value), maxEntry)
	}
	return &entry{key: decisionKey(d.At, d.Reference), value: value}, nil
}

// decisionKey flips the sign bit, so that times before 1970 come first.
func decisionKey(at time.Time, reference string) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano())^1<<63)) + reference
}

func keyTime(key []byte) time.Time {
	return time.Unix(0, int64(binary.BigEndian.Uint64(key)^1<<63))
}

var errEntry = errors.New("decision is damaged")

// decodeEntry reads the value of an entry if the filter selects it.
func decodeEntry(value []byte, f registry.DecisionFilter) (d trust.Decision, selected bool, err error) {
	action, rest, ok := cutText(value)
	user, rest, ok2 := cutText(rest)
	device, rest, ok3 := cutText(rest)
	if !ok || !ok2 || !ok3 {
		return d, false, errEntry
	}
	if f.Action != "" && action != string(f.Action) || f.User != "" && user != f.User || f.Device != "" && device != string(f.Device) {
		return d, false, nil
	}
	text, input, ok := cutText(rest)
	if !ok || len(value) > maxEntry {
		return d, false, errEntry
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, false, fmt.Errorf("%w: %w", errEntry, err)
	}
	d.Input = nil
	if len(input) > 0 {
		d.Input = append([]byte(nil), input...)
	}
	return d, true, nil
}

// tally counts something and remembers its first and last time, in nanoseconds since 1970.
type tally struct {
	n           uint64
	first, last int64
}

func (t *tally) add(more tally) {
	switch {
	case more.n == 0:
	case t.n == 0:
		*t = more
	default:
		t.n += more.n
		t.first, t.last = min(t.first, more.first), max(t.last, more.last)
	}
}

func (t tally) encode() []byte {
	raw := binary.BigEndian.AppendUint64(nil, t.n)
	raw = binary.BigEndian.AppendUint64(raw, uint64(t.first))
	return binary.BigEndian.AppendUint64(raw, uint64(t.last))
}

// decodeTally reads a tally; that of something absent or damaged is empty.
func decodeTally(raw []byte) tally {
	if len(raw) != 24 {
		return tally{}
	}
	return tally{n: binary.BigEndian.Uint64(raw), first: int64(binary.BigEndian.Uint64(raw[8:])), last: int64(binary.BigEndian.Uint64(raw[16:]))}
}

// receiptKey joins what receipts are aggregated by; a zero byte ends each part but the last.
func receiptKey(r registry.Receipt) string {
	return clip(r.Object) + "\x00" + clip(r.Number) + "\x00" + clip(r.Network) + "\x00" + clip(r.UserAgent)
}

func receiptOf(key string, t tally) registry.Receipt {
	parts := strings.SplitN(key, "\x00", 4)
	for len(parts) < 4 {
		parts = append(parts, "")
	}
	return registry.Receipt{
		Object: parts[0], Number: parts[1], Network: parts[2], UserAgent: parts[3],
		First: time.Unix(0, t.first).UTC(), Last: time.Unix(0, t.last).UTC(), Count: t.n,
	}
}

// clip makes a text from outside fit for a key.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "")
}
