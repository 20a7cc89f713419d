package registry

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"postern/internal/trust"
)

// Records that there are many of, devices, owners, certificates and mail profiles, are kept in a binary form: the index reads all of them at start-up,
// and JSON takes ten times as long. Everything else is JSON. A record begins with its format; texts and lists stand behind their length.

const (
	recordFormat = 2       // 1 had no times of a device's compliance and enrolment
	maxRecord    = 1 << 20 // bytes
	maxWords     = 4096    // texts that a reader keeps to use again
)

var errRecord = errors.New("record is damaged")

// encode returns the stored form of v.
func encode(v any) ([]byte, error) {
	f := fields{writing: true}
	switch v := v.(type) {
	case trust.Certificate:
		f.start(512)
		f.certificate(&v)
	case trust.Device:
		f.start(512)
		f.device(&v)
	case trust.Owner:
		f.start(256)
		f.owner(&v)
	case trust.MailProfile:
		f.start(512)
		f.profile(&v)
	default:
		return json.Marshal(v)
	}
	if len(f.raw) > maxRecord {
		return nil, fmt.Errorf("record of %d bytes %w: at most %d", len(f.raw), trust.ErrInvalid, maxRecord)
	}
	return f.raw, nil
}

// decode reads the stored form of v, all of it.
func decode(raw []byte, v any) error {
	f := fields{raw: raw}
	switch v := v.(type) {
	case *trust.Certificate:
		f.open()
		f.certificate(v)
	case *trust.Device:
		f.open()
		f.device(v)
	case *trust.Owner:
		f.open()
		f.owner(v)
	case *trust.MailProfile:
		f.open()
		f.profile(v)
	default:
		return json.Unmarshal(raw, v)
	}
	return f.end()
}

// fields writes or reads the fields of a record in order. One list of fields serves both, so that they cannot differ.
type fields struct {
	raw     []byte // written so far, or not yet read
	writing bool
	format  byte              // of the record
	bad     bool              // what was read is no record; all further fields stay as they are
	words   map[string]string // texts read before that recur in other records; nil to make every text anew
	whole   string            // the record as a text of which all texts are parts; empty to copy each of them
}

func (f *fields) start(size int) {
	f.raw, f.format = append(make([]byte, 0, size), recordFormat), recordFormat
}

// open checks what a record to be read begins with.
func (f *fields) open() {
	if len(f.raw) == 0 || len(f.raw) > maxRecord || f.raw[0] == 0 || f.raw[0] > recordFormat {
		f.bad = true
		return
	}
	f.format, f.raw = f.raw[0], f.raw[1:]
}

// end reports whether the record was whole and nothing is left of it.
func (f *fields) end() error {
	if f.bad || len(f.raw) > 0 {
		return errRecord
	}
	return nil
}

// number writes or reads an unsigned number.
func (f *fields) number(n *uint64) {
	if f.writing {
		f.raw = binary.AppendUvarint(f.raw, *n)
		return
	}
	v, used := binary.Uvarint(f.raw)
	if f.bad = f.bad || used <= 0; !f.bad {
		*n, f.raw = v, f.raw[used:]
	}
}

// count writes or reads how many things of at least a byte follow.
func (f *fields) count(n int) int {
	v := uint64(n)
	f.number(&v)
	if f.bad || !f.writing && v > uint64(len(f.raw)) {
		f.bad = true
		return 0
	}
	return int(v)
}

// next reads a text without copying it.
func (f *fields) next() []byte {
	n := f.count(0)
	if f.bad {
		return nil
	}
	b := f.raw[:n]
	f.raw = f.raw[n:]
	return b
}

// text writes or reads a text that is different in every record.
func text[S ~string](f *fields, s *S) {
	if f.writing {
		f.raw = append(binary.AppendUvarint(f.raw, uint64(len(*s))), *s...)
		return
	}
	b := f.next()
	switch {
	case f.bad:
	case f.whole != "":
		end := len(f.whole) - len(f.raw)
		*s = S(f.whole[end-len(b) : end])
	default:
		*s = S(b)
	}
}

// word writes or reads a text that many records have.
func word[S ~string](f *fields, s *S) {
	if f.writing || f.words == nil {
		text(f, s)
		return
	}
	b := f.next()
	if f.bad {
		return
	}
	w, known := f.words[string(b)]
	if !known {
		w = string(b)
		if len(f.words) < maxWords {
			f.words[w] = w
		}
	}
	*s = S(w)
}

// flag writes or reads a bool.
func (f *fields) flag(b *bool) {
	n := uint64(0)
	if *b {
		n = 1
	}
	f.number(&n)
	f.bad = f.bad || n > 1
	*b = n == 1
}

// flags writes or reads two bools in one number; the first alone is as flag would write it.
func (f *fields) flags(a, b *bool) {
	n := uint64(0)
	if *a {
		n = 1
	}
	if *b {
		n |= 2
	}
	f.number(&n)
	f.bad = f.bad || n > 3
	*a, *b = n&1 != 0, n&2 != 0
}

// time writes or reads a moment in UTC, to the nanosecond.
func (f *fields) time(t *time.Time) {
	if f.writing {
		f.raw = binary.AppendUvarint(binary.AppendVarint(f.raw, t.Unix()), uint64(t.Nanosecond()))
		return
	}
	seconds, used := binary.Varint(f.raw)
	if f.bad = f.bad || used <= 0; f.bad {
		return
	}
	f.raw = f.raw[used:]
	var nanos uint64
	if f.number(&nanos); f.bad || nanos >= 1e9 {
		f.bad = true
		return
	}
	*t = time.Unix(seconds, int64(nanos)).UTC()
}

// texts writes or reads a list; an empty one is read as nil.
func (f *fields) texts(list *[]string) {
	n := f.count(len(*list))
	if !f.writing && n > 0 {
		*list = make([]string, n)
	}
	for i := range n {
		text(f, &(*list)[i])
	}
}

// labels writes or reads a map, in order of its keys; an empty one is read as nil.
func (f *fields) labels(m *map[string]string) {
	n := f.count(len(*m))
	if f.writing {
		for _, k := range slices.Sorted(maps.Keys(*m)) {
			v := (*m)[k]
			text(f, &k)
			text(f, &v)
		}
		return
	}
	for range n {
		var k, v string
		word(f, &k)
		if word(f, &v); f.bad {
			return
		}
		if *m == nil {
			*m = make(map[string]string, n)
		}
		(*m)[k] = v
	}
}
