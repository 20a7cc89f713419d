package trust

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"
)

// reference is Crockford's base32 without I, L, O and U: read out over a telephone it stays what it is. Its order is that of the bytes.
var reference = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// NewReference returns the reference of a decision: 16 characters, of which the first eight are the time in seconds, so that references sort by time, and
// the others are 40 random bits.
func NewReference(at time.Time) string {
	var b [10]byte
	binary.BigEndian.PutUint64(b[:8], uint64(at.Unix())<<24)
	_, _ = rand.Read(b[5:])
	return reference.EncodeToString(b[:])
}

// ParseReference reads a reference as somebody heard it: in either case, with blanks or dashes, with O for 0 and I or L for 1.
func ParseReference(s string) string {
	return strings.NewReplacer(" ", "", "-", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(s))
}
