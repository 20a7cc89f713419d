package api

import "time"

// Forecast is an entry of GET /crls/forecast: what becomes of the complete CRL of a CA at the present rate of revocations. Times that never come are left out.
type Forecast struct {
	Issuer    string    `json:"issuer"`
	CA        string    `json:"ca"`
	InForce   bool      `json:"in_force"` // certificates are issued from it now
	Size      int       `json:"size"`     // of the CRL published last, octets
	Entries   int       `json:"entries"`
	PerDay    float64   `json:"revocations_per_day"` // over the last 28 days, or since the CA began
	Peak      int       `json:"peak_size"`           // octets, until the CA ends or for ten years
	PeakAt    time.Time `json:"peak_at"`
	WarningAt time.Time `json:"warning_at,omitzero"` // 15 MB
	LimitAt   time.Time `json:"limit_at,omitzero"`   // 20 MB, which is what Entra ID takes
	OpenBy    time.Time `json:"open_by,omitzero"`    // when a new issuing CA has to be in force
	Propose   bool      `json:"propose"`             // it is time to open one
}
