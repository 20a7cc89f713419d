package trust

import "time"

// Exception lets an owner, or one device, through for a while although the policy speaks against it: it lifts the reasons that it names, and no other. What an
// exception may never lift, the policy says.
type Exception struct {
	ID      string    `json:"id"`
	Owner   string    `json:"owner"`            // mail address; of an exception for a device, its owner when it was granted, and the exception is his alone
	Device  DeviceID  `json:"device,omitempty"` // empty: every device of the owner
	Reasons []string  `json:"reasons"`          // codes, sorted
	Comment string    `json:"comment"`
	By      Principal `json:"by"`
	Created time.Time `json:"created"`
	Until   time.Time `json:"until"`
	Revoked time.Time `json:"revoked,omitzero"` // zero while it is not
}

// Live reports whether the exception counts at the time.
func (e *Exception) Live(now time.Time) bool { return e.Revoked.IsZero() && now.Before(e.Until) }
