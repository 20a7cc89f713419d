package api

import (
	"time"

	"postern/internal/trust"
)

// Pending is a SCEP request that waits for an administrator, or has waited: one entry of GET /pending, and the answer to GET /pending/{id} and to POST
// /pending/{id}/approve and .../reject, which ask with a Comment. Only GET /pending/{id} has the CSR.
type Pending struct {
	ID            string         `json:"id"` // also the reference of the decision that made it pending
	Issuer        string         `json:"issuer"`
	State         string         `json:"state"` // waiting, approved, rejected, issued, expired
	Device        trust.DeviceID `json:"device"`
	Owner         string         `json:"owner"`
	MessageType   string         `json:"message_type"`
	TransactionID string         `json:"transaction_id"`
	Evidence      trust.Evidence `json:"evidence"`
	Reasons       []trust.Reason `json:"reasons"`
	Created       time.Time      `json:"created"`
	Expires       time.Time      `json:"expires"`
	Decided       *time.Time     `json:"decided"`
	By            string         `json:"by,omitempty"` // kind:name
	Comment       string         `json:"comment,omitempty"`
	Certificate   trust.Serial   `json:"certificate,omitempty"` // what was issued
	CSR           string         `json:"csr,omitempty"`         // PEM; its names are claims and are not certified
}
