package api

import (
	"time"

	"postern/internal/trust"
)

// Open is something that waits to be settled: an enrolment, a quarantined mail profile, or a quarantined device. GET /settle lists them.
type Open struct {
	ID      string         `json:"id"`
	Kind    string         `json:"kind"` // enrolment, profile or device
	User    string         `json:"user"`
	Device  trust.DeviceID `json:"device"`
	What    string         `json:"what"` // in words
	Since   time.Time      `json:"since"`
	Reasons []string       `json:"reasons"` // codes
}

// Settle asks for POST /settle/{id}.
type Settle struct {
	Allow   bool   `json:"allow"`
	Replace bool   `json:"replace,omitempty"` // of a mail profile: in place of the others of the same client on the device
	Comment string `json:"comment,omitempty"`
}

// Settled answers POST /settle/{id}.
type Settled struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`
	State string `json:"state"` // what has become of it: approved, rejected, allowed, refused, active, blocked
}
