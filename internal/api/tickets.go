package api

import (
	"time"

	"postern/internal/trust"
)

// NewTicket asks for POST /tickets: an address of the OAuth front that belongs to one device.
type NewTicket struct {
	Device trust.DeviceID `json:"device"`
	Host   string         `json:"host,omitempty"` // of the gate, where the server that is asked has no OAuth front of its own, or several names
}

// TicketAddresses answers POST /tickets, and are shown once: what the MDM puts into the mail profile of this device, and of no other.
type TicketAddresses struct {
	Ticket
	SignInURL string `json:"oauth_sign_in_url"`       // OAuthSignInURL
	TokenURL  string `json:"oauth_token_request_url"` // OAuthTokenRequestURL
}

// Ticket is one ticket in GET /tickets, and the answer to POST /tickets/{id}/revoke.
type Ticket struct {
	ID      string         `json:"id"`
	Device  trust.DeviceID `json:"device"`
	Owner   string         `json:"owner"`
	By      string         `json:"by"`     // kind:name
	Status  string         `json:"status"` // live; revoked; dead, because the device was retired or belongs to another owner
	Created time.Time      `json:"created"`
	Revoked *time.Time     `json:"revoked"`
}
