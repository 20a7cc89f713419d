package trust

import (
	"crypto/rand"
	"encoding/binary"
	"strings"
	"time"
)

// crockford is the alphabet of references: no I, L, O and U, so that nobody misreads one.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// referenceEpoch is where the time in references begins (2025-01-01); its 30 bits of seconds last until 2059.
const referenceEpoch = 1735689600

// NewReference returns the reference of a decision: 12 characters, six of the time in seconds, so that references sort by it, and six (30 bits) that
// cannot be guessed. It can be read out over a telephone.
func NewReference(at time.Time) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // crypto/rand.Read never fails: it ends the process instead
	return referenceText(uint64(max(0, at.Unix()-referenceEpoch))&(1<<30-1)<<30 | uint64(binary.BigEndian.Uint32(random[:]))>>2)
}

// ReferenceOf returns the reference of what stands for every request with the same facts, which are a digest of at least 8 octets: always the same one. It
// looks like those of NewReference, and does not sort by time.
func ReferenceOf(facts string) string {
	return referenceText(binary.BigEndian.Uint64([]byte(facts)) >> 4)
}

// referenceText writes 60 bits.
func referenceText(n uint64) string {
	var text [12]byte
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = crockford[n&31]
		n >>= 5
	}
	return string(text[:])
}

// ParseReference reads a reference as somebody heard it: in either case, with blanks or dashes, with O for 0 and I or L for 1.
func ParseReference(s string) string {
	return strings.NewReplacer(" ", "", "-", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(s))
}
