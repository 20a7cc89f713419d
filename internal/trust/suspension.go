package trust

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// SuspendReason is why a device or an owner is kept out for a time.
type SuspendReason string

// The reasons of a suspension. None of them says that a key is in wrong hands: that is a revocation.
const (
	SuspendLost          SuspendReason = "lost"          // and may be found
	SuspendUnassigned    SuspendReason = "unassigned"    // between two assignments in the MDM or the directory
	SuspendAbsent        SuspendReason = "absent"        // its user is on leave
	SuspendInvestigation SuspendReason = "investigation" // until somebody has looked
	SuspendOther         SuspendReason = "other"
)

// SuspendReasons lists every reason of a suspension.
func SuspendReasons() []string {
	return []string{string(SuspendLost), string(SuspendUnassigned), string(SuspendAbsent), string(SuspendInvestigation), string(SuspendOther)}
}

// ParseSuspendReason reads the reason of a suspension, case-insensitively; empty means other.
func ParseSuspendReason(s string) (SuspendReason, error) {
	if s == "" {
		return SuspendOther, nil
	}
	if r := strings.ToLower(s); slices.Contains(SuspendReasons(), r) {
		return SuspendReason(r), nil
	}
	return "", fmt.Errorf("reason %q of a suspension %w: use %s", s, ErrInvalid, strings.Join(SuspendReasons(), ", "))
}

// Suspension keeps a device, or every device of an owner, out until it is reinstated. It touches no certificate and no CRL: the edge refuses from the next
// request on and ends what is open, SCEP refuses enrolment and renewal, and OCSP goes on saying good. Reinstating undoes all of it at once.
type Suspension struct {
	Reason  SuspendReason `json:"reason"`
	Comment string        `json:"comment,omitempty"`
	By      string        `json:"by"` // kind:name
	At      time.Time     `json:"at"`
}
