package trust

import (
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Serial is a certificate's serial number (RFC 5280, section 4.1.2.2) as lower-case hex of whole octets, without sign or separators. Unique within an issuer CA.
type Serial string

// ParseSerial reads a serial number as people and programs write it: hex in either case, with or without colons, blanks or "0x".
func ParseSerial(s string) (Serial, error) {
	s = strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(strings.TrimSpace(s)))
	s = strings.TrimPrefix(s, "0x")
	if s == "" || len(s) > 42 {
		return "", fmt.Errorf("serial number %w: want 1 to 20 octets of hex", ErrInvalid)
	}
	n, ok := new(big.Int).SetString(s, 16)
	if !ok || n.Sign() <= 0 {
		return "", fmt.Errorf("serial number %w: want hex", ErrInvalid)
	}
	return SerialOf(n), nil
}

// SerialOf returns the serial number of a positive integer.
func SerialOf(n *big.Int) Serial { return Serial(fmt.Sprintf("%x", n.Bytes())) }

// Int returns the serial number as an integer; zero for a Serial that was not made by ParseSerial or SerialOf.
func (s Serial) Int() *big.Int {
	n, ok := new(big.Int).SetString(string(s), 16)
	if !ok {
		return new(big.Int)
	}
	return n
}

// CertStatus is the standing of a certificate in the registry. Expiry is not a status: it follows from the clock.
type CertStatus string

// The standings of a certificate.
const (
	Good       CertStatus = "good"
	Held       CertStatus = "held"       // on hold, may be released
	Superseded CertStatus = "superseded" // renewed; still accepted for a grace
	Revoked    CertStatus = "revoked"    // for good
)

// Certificate is one certificate that Postern has issued to a device.
type Certificate struct {
	Issuer      string     `json:"issuer"`
	CA          string     `json:"ca"` // the CA of the issuer that signed it
	Serial      Serial     `json:"serial"`
	Device      DeviceID   `json:"device"`
	Owner       string     `json:"owner"` // the mail address in it
	Subject     string     `json:"subject"`
	NotBefore   time.Time  `json:"not_before"`
	NotAfter    time.Time  `json:"not_after"`
	SKI         string     `json:"ski"`         // lower-case hex
	Fingerprint string     `json:"fingerprint"` // SHA-256 of the DER, lower-case hex
	Profile     string     `json:"profile"`
	Evidence    Evidence   `json:"evidence"`
	Status      CertStatus `json:"status"`
	Reason      ReasonCode `json:"reason,omitempty"` // why it is held or revoked
	Comment     string     `json:"comment,omitempty"`
	ChangedAt   time.Time  `json:"changed_at"` // when Status became what it is
	Predecessor Serial     `json:"predecessor,omitempty"`
	Successor   Serial     `json:"successor,omitempty"`
	FirstUsed   time.Time  `json:"first_used"` // first seen on a connection; zero while it has not been
	IssuedAt    time.Time  `json:"issued_at"`  // when the registry made it real; NotBefore is earlier
	RevokeAt    time.Time  `json:"revoke_at"`  // of a superseded one: when it will be revoked with that reason
	Renewals    int        `json:"renewals"`   // how often in a row it was renewed since a challenge was spent
	Revision    uint64     `json:"revision"`   // of the registry when it was issued
	DER         []byte     `json:"der"`        // left out of lists
}

// Evidence is why a certificate was issued.
type Evidence struct {
	Kind      string `json:"kind"`                // "challenge", "ndes" (a challenge that was made for no device), "validated" or "renewal"
	Challenge string `json:"challenge,omitempty"` // id of the challenge that was spent, never the challenge
	Renews    Serial `json:"renews,omitempty"`
	Validator string `json:"validator,omitempty"` // who said that the challenge is genuine, for "validated"
	Pending   string `json:"pending,omitempty"`   // the pending request that was approved, if there was one
	Remote    string `json:"remote,omitempty"`    // network address of the requester

	// KeyAttested: a validator has seen proof that the key is held in hardware and cannot be copied. A renewal with the same key keeps it.
	KeyAttested bool `json:"key_attested,omitempty"`
}

// ReasonCode is why a certificate was revoked: CRLReason of RFC 5280, section 5.3.1, by its name there.
type ReasonCode string

// The reasons that Postern sets or accepts.
const (
	Unspecified          ReasonCode = "unspecified"
	KeyCompromise        ReasonCode = "keyCompromise"
	CACompromise         ReasonCode = "cACompromise"
	AffiliationChanged   ReasonCode = "affiliationChanged"
	SupersededReason     ReasonCode = "superseded"
	CessationOfOperation ReasonCode = "cessationOfOperation"
	CertificateHold      ReasonCode = "certificateHold"
	RemoveFromCRL        ReasonCode = "removeFromCRL"
	PrivilegeWithdrawn   ReasonCode = "privilegeWithdrawn"
	AACompromise         ReasonCode = "aACompromise"
)

var reasonNumbers = map[ReasonCode]int{
	Unspecified: 0, KeyCompromise: 1, CACompromise: 2, AffiliationChanged: 3, SupersededReason: 4, CessationOfOperation: 5,
	CertificateHold: 6, RemoveFromCRL: 8, PrivilegeWithdrawn: 9, AACompromise: 10,
}

// Number returns the value of the reason in a CRL; 0 (unspecified) for an unknown one.
func (r ReasonCode) Number() int { return reasonNumbers[r] }

// ReasonOf returns the reason of a number in a CRL; unspecified for a number that stands for none.
func ReasonOf(number int) ReasonCode {
	for r, n := range reasonNumbers {
		if n == number {
			return r
		}
	}
	return Unspecified
}

// RevocationReason reads the reason of a final revocation, case-insensitively; empty means unspecified. A hold and its release have commands of their own.
func RevocationReason(s string) (ReasonCode, error) {
	if s == "" {
		return Unspecified, nil
	}
	for r := range reasonNumbers {
		if strings.EqualFold(string(r), s) && r != CertificateHold && r != RemoveFromCRL {
			return r, nil
		}
	}
	return "", fmt.Errorf("revocation reason %q %w: use unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn", s, ErrInvalid)
}

// Revocation is one entry of the history from which CRLs are made: at Revision, the certificate became held, revoked or released.
type Revocation struct {
	Issuer   string     `json:"issuer"`
	CA       string     `json:"ca"`
	Serial   Serial     `json:"serial"`
	Reason   ReasonCode `json:"reason"` // removeFromCRL for a release
	At       time.Time  `json:"at"`
	NotAfter time.Time  `json:"not_after"`
	Revision uint64     `json:"revision"`
}
