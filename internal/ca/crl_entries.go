package ca

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"slices"
	"time"
)

// MaxEntries is how many octets the entries of a CRL may have together: far more than any relying party takes.
const MaxEntries = 256 << 20

// Entries are the revoked certificates of a CRL as they stand in it: the DER of one entry behind the other, in strictly ascending order of serial numbers, and
// where each stretch of them begins. They are immutable, cheap to copy, and share memory with the CRL that they were read from. The zero value has none.
type Entries struct {
	der      []byte
	marks    []uint32 // where every stride'th entry begins
	count    int
	removals int // entries that say removeFromCRL
}

// stride is how many entries are looked through one by one.
const stride = 32

// Entry is one entry in DER, as AppendEntry has written or Entries have checked it.
type Entry []byte

// AppendEntry appends an entry, RFC 5280, section 5.1.2.6: its serial number, when it was revoked, to the second, and why, by CRLReason's number; reason 0
// (unspecified) is left out, as section 5.3.1 asks.
func AppendEntry(dst []byte, serial *big.Int, at time.Time, reason int) ([]byte, error) {
	switch {
	case serial == nil || serial.Sign() <= 0 || serial.BitLen() > 8*maxSerial:
		return dst, errors.New("an entry needs a positive serial number of at most 21 octets")
	case reason < 0 || reason == 7 || reason > 10:
		return dst, fmt.Errorf("entry %x has reason %d, which does not exist", serial, reason)
	}
	at = whole(at)
	if at.Year() < 1950 || at.Year() > 9999 {
		return dst, fmt.Errorf("entry %x was revoked in the year %d", serial, at.Year())
	}
	number := serial.Bytes()
	if number[0] >= 0x80 {
		number = append([]byte{0}, number...)
	}
	tag, layout := byte(0x17), "060102150405Z" // Time, section 5.1.2.4
	if at.Year() >= 2050 {
		tag, layout = 0x18, "20060102150405Z"
	}
	n := 2 + len(number) + 2 + len(layout)
	if reason != 0 {
		n += len(reasonPrefix) + 1
	}
	dst = append(dst, 0x30, byte(n), 0x02, byte(len(number)))
	dst = append(dst, number...)
	dst = append(dst, tag, byte(len(layout)))
	dst = at.AppendFormat(dst, layout)
	if reason != 0 {
		dst = append(append(dst, reasonPrefix...), byte(reason))
	}
	return dst, nil
}

const (
	maxSerial    = 21                                                     // octets, without sign
	reasonPrefix = "\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01" // crlEntryExtensions with reasonCode, up to its value
)

// EncodeEntries encodes entries, in any order. Of their fields, only serial number, revocation time and reason code are used.
func EncodeEntries(list []x509.RevocationListEntry) (Entries, error) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b x509.RevocationListEntry) int {
		if a.SerialNumber == nil || b.SerialNumber == nil {
			return 0 // AppendEntry refuses them
		}
		return a.SerialNumber.Cmp(b.SerialNumber)
	})
	var raw []byte
	var err error
	for _, e := range list {
		if raw, err = AppendEntry(raw, e.SerialNumber, e.RevocationTime, e.ReasonCode); err != nil {
			return Entries{}, err
		}
	}
	return ReadEntries(raw)
}

// ReadEntries checks the DER of entries of the form that AppendEntry writes, and their order. It keeps the bytes.
func ReadEntries(raw []byte) (Entries, error) {
	if len(raw) > MaxEntries {
		return Entries{}, fmt.Errorf("entries of %d octets: at most %d", len(raw), MaxEntries)
	}
	e := Entries{der: raw, marks: make([]uint32, 0, len(raw)/35/stride+1)}
	var last []byte
	for at := 0; at < len(raw); e.count++ {
		n, ok := checkEntry(raw[at:])
		if !ok {
			return Entries{}, fmt.Errorf("entry %d is malformed", e.count)
		}
		one := Entry(raw[at : at+n])
		if serial := one.Serial(); CompareSerials(last, serial) >= 0 {
			return Entries{}, fmt.Errorf("entry %d, %x, does not come after the one before it", e.count, serial)
		} else {
			last = serial
		}
		if one.Removed() {
			e.removals++
		}
		if e.count%stride == 0 {
			e.marks = append(e.marks, uint32(at))
		}
		at += n
	}
	return e, nil
}

// checkEntry returns the length of the entry at the beginning of raw, if it is one.
func checkEntry(raw []byte) (n int, ok bool) {
	if len(raw) < 4 || raw[0] != 0x30 || raw[1] >= 0x80 || len(raw) < 2+int(raw[1]) || raw[2] != 0x02 {
		return 0, false
	}
	n = 2 + int(raw[1])
	rest := raw[3:n]
	size := int(rest[0])
	if size == 0 || size > maxSerial+1 || len(rest) < 1+size+2 {
		return 0, false
	}
	serial := rest[1 : 1+size]
	if serial[0] >= 0x80 || serial[0] == 0 && (size == 1 || serial[1] < 0x80) {
		return 0, false // negative, zero or not minimal
	}
	if rest, ok = checkTime(rest[1+size:]); !ok {
		return 0, false
	}
	if len(rest) == 0 {
		return n, true
	}
	if len(rest) != len(reasonPrefix)+1 || string(rest[:len(reasonPrefix)]) != reasonPrefix {
		return 0, false
	}
	reason := rest[len(reasonPrefix)]
	return n, reason >= 1 && reason <= 10 && reason != 7
}

// checkTime cuts a Time off.
func checkTime(raw []byte) (rest []byte, ok bool) {
	if len(raw) < 2 || len(raw) < 2+int(raw[1]) {
		return nil, false
	}
	text := raw[2 : 2+int(raw[1])]
	switch {
	case raw[0] == 0x17 && len(text) == 13:
	case raw[0] == 0x18 && len(text) == 15:
	default:
		return nil, false
	}
	for _, c := range text[:len(text)-1] {
		if c < '0' || c > '9' {
			return nil, false
		}
	}
	digits := text[len(text)-11:]
	two := func(i int) byte { return (digits[i]-'0')*10 + digits[i+1] - '0' }
	if month, day := two(0), two(2); month < 1 || month > 12 || day < 1 || day > 31 || two(4) > 23 || two(6) > 59 || two(8) > 59 || digits[10] != 'Z' {
		return nil, false
	}
	return raw[2+len(text):], true
}

// Count returns how many entries there are.
func (e Entries) Count() int { return e.count }

// Size returns how many octets they have together.
func (e Entries) Size() int { return len(e.der) }

// Bytes returns their DER, not to be changed.
func (e Entries) Bytes() []byte { return e.der }

// All goes through the entries in order.
func (e Entries) All() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for rest := e.der; len(rest) > 0; {
			n := 2 + int(rest[1])
			if !yield(Entry(rest[:n])) {
				return
			}
			rest = rest[n:]
		}
	}
}

// Find returns the entry of a serial number, given as Entry.Serial returns it.
func (e Entries) Find(serial []byte) (Entry, bool) {
	at, ok := slices.BinarySearchFunc(e.marks, serial, func(mark uint32, s []byte) int { return CompareSerials(entryAt(e.der, mark).Serial(), s) })
	if !ok {
		at--
	}
	if at < 0 {
		return nil, false
	}
	for rest, n := e.der[e.marks[at]:], 0; len(rest) > 0 && n < stride; n++ {
		one := entryAt(rest, 0)
		switch c := CompareSerials(one.Serial(), serial); {
		case c == 0:
			return one, true
		case c > 0:
			return nil, false
		}
		rest = rest[len(one):]
	}
	return nil, false
}

// Walker finds entries from the first on.
type Walker struct{ rest []byte }

// Walk returns a Walker that stands before the first entry.
func (e Entries) Walk() *Walker { return &Walker{e.der} }

// Find is Entries.Find for many serial numbers in ascending order, which go through the entries once.
func (w *Walker) Find(serial []byte) (Entry, bool) {
	for len(w.rest) > 0 {
		one := entryAt(w.rest, 0)
		switch c := CompareSerials(one.Serial(), serial); {
		case c == 0:
			return one, true
		case c > 0:
			return nil, false
		}
		w.rest = w.rest[len(one):]
	}
	return nil, false
}

func entryAt(raw []byte, at uint32) Entry { return Entry(raw[at : at+2+uint32(raw[at+1])]) }

// Serial returns the serial number as the contents of its INTEGER: big-endian, with a zero before a first bit that is set.
func (e Entry) Serial() []byte { return e[4 : 4+e[3]] }

// Reason returns CRLReason's number; 0 for unspecified.
func (e Entry) Reason() int {
	if e[len(e)-1] == 'Z' { // the end of the time: no reason ends so
		return 0
	}
	return int(e[len(e)-1])
}

// Removed reports whether the entry says removeFromCRL.
func (e Entry) Removed() bool { return e.Reason() == 8 }

// At returns when the certificate was revoked; zero for a time that no calendar has.
func (e Entry) At() time.Time {
	at := 4 + int(e[3])
	text := string(e[at+2 : at+2+int(e[at+1])])
	if e[at] == 0x18 {
		t, _ := time.Parse("20060102150405Z", text)
		return t
	}
	century := "20"
	if text[0] >= '5' {
		century = "19" // RFC 5280, section 4.1.2.5.1
	}
	t, _ := time.Parse("20060102150405Z", century+text)
	return t
}

// CompareSerials compares two serial numbers by value, as Entry.Serial returns them.
func CompareSerials(a, b []byte) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return bytes.Compare(a, b)
}
