package api

import "postern/internal/trust"

// Suppose asks for POST /policies/facts: the facts of a request that nobody has sent, as the edge would see them now. The answer is the input of
// data.postern.access.decision. User or Device is needed; what is left out is taken from what is known of the device.
type Suppose struct {
	User          string         `json:"user,omitempty"`
	Device        trust.DeviceID `json:"device,omitempty"`
	Command       string         `json:"command,omitempty"` // an EAS command; Sync if left out
	Version       string         `json:"version,omitempty"` // of the protocol; 16.1 if left out
	DeviceID      string         `json:"device_id,omitempty"`
	DeviceType    string         `json:"device_type,omitempty"`
	UserAgent     string         `json:"user_agent,omitempty"`
	Family        string         `json:"family,omitempty"` // of the mail client, instead of a user agent
	Platform      string         `json:"platform,omitempty"`
	Credential    string         `json:"credential,omitempty"` // basic or bearer
	SourceIP      string         `json:"source_ip,omitempty"`
	Host          string         `json:"host,omitempty"`
	NoCertificate bool           `json:"no_certificate,omitempty"`
}
