// Package scep is the enrolment door: the Simple Certificate Enrolment Protocol, RFC 8894.
//
// The message layer reads and writes the CMS structures of SCEP: ParseRequest
// verifies the outer SignedData, Request.Open decrypts the envelope inside it,
// and Responder writes the CertRep. It decides nothing about who gets a
// certificate and keeps no state.
package scep

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
)

// MaxMessage is the largest SCEP message that is looked at, in bytes, before
// and after base64. Real requests are 2 to 6 KiB.
const MaxMessage = 32 << 10

// MessageType is the SCEP messageType attribute (RFC 8894, section 3.2.1.2).
type MessageType int

// The message types of RFC 8894, section 3.2.1.2. Any other number is refused.
const (
	CertRep    MessageType = 3
	RenewalReq MessageType = 17
	PKCSReq    MessageType = 19
	CertPoll   MessageType = 20
	GetCert    MessageType = 21
	GetCRL     MessageType = 22
)

// String returns the name that the RFC uses, or the number of an unknown type.
func (t MessageType) String() string {
	switch t {
	case CertRep:
		return "CertRep"
	case RenewalReq:
		return "RenewalReq"
	case PKCSReq:
		return "PKCSReq"
	case CertPoll:
		return "CertPoll"
	case GetCert:
		return "GetCert"
	case GetCRL:
		return "GetCRL"
	}
	return "messageType " + strconv.Itoa(int(t))
}

// isRequest reports whether a client may send this type.
func (t MessageType) isRequest() bool {
	switch t {
	case RenewalReq, PKCSReq, CertPoll, GetCert, GetCRL:
		return true
	}
	return false
}

// FailInfo is the failInfo attribute of a CertRep (RFC 8894, section 3.2.1.4).
type FailInfo int

// The failures of RFC 8894, section 3.2.1.4.
const (
	BadAlg          FailInfo = 0 // unrecognised or unsupported algorithm
	BadMessageCheck FailInfo = 1 // integrity check failed
	BadRequest      FailInfo = 2 // transaction not permitted or supported
	BadTime         FailInfo = 3 // signingTime not close enough to the system time
	BadCertID       FailInfo = 4 // no certificate matches the criteria
)

// String returns the name that the RFC uses, or the number of an unknown failure.
func (f FailInfo) String() string {
	switch f {
	case BadAlg:
		return "badAlg"
	case BadMessageCheck:
		return "badMessageCheck"
	case BadRequest:
		return "badRequest"
	case BadTime:
		return "badTime"
	case BadCertID:
		return "badCertID"
	}
	return "failInfo " + strconv.Itoa(int(f))
}

// pkiStatus is the pkiStatus attribute (RFC 8894, section 3.2.1.3).
type pkiStatus int

const (
	statusSuccess pkiStatus = 0
	statusFailure pkiStatus = 2
	statusPending pkiStatus = 3
)

// ErrUnknownMessageType is the cause of the Failure for a messageType that is
// not a request of RFC 8894, section 3.2.1.2.
var ErrUnknownMessageType = errors.New("unknown messageType")

// ErrNotRecipient is the cause of the Failure for an envelope that is not
// encrypted to the certificate given to Request.Open.
var ErrNotRecipient = errors.New("the envelope names no recipient with this certificate")

// Failure is a refusal that is answered with a CertRep of pkiStatus FAILURE.
type Failure struct {
	Info  FailInfo
	Text  string // public: goes into failInfoText
	Cause error  // private: for the log only; may be nil
}

// Error gives both the public text and the private cause.
func (f *Failure) Error() string {
	if f.Cause == nil {
		return f.Info.String() + ": " + f.Text
	}
	return f.Info.String() + ": " + f.Text + ": " + f.Cause.Error()
}

// Unwrap returns the private cause.
func (f *Failure) Unwrap() error { return f.Cause }

func fail(info FailInfo, cause error, format string, args ...any) *Failure {
	return &Failure{Info: info, Text: fmt.Sprintf(format, args...), Cause: cause}
}

// Malformed is a message that no CertRep can answer, because it has no readable
// transactionID, senderNonce or signer. It is an HTTP 400.
type Malformed struct {
	Reason string
}

// Error returns the reason, which repeats nothing of the message's content.
func (m *Malformed) Error() string { return "malformed SCEP message: " + m.Reason }

func malformed(format string, args ...any) *Malformed {
	return &Malformed{Reason: fmt.Sprintf(format, args...)}
}

// Challenge is a challengePassword (RFC 2985, section 5.4.1). It is a secret:
// printing, logging or encoding it does not show it; convert it to a string to
// compare or hash it.
type Challenge string

// String hides the secret.
func (c Challenge) String() string {
	if c == "" {
		return "(no challenge)"
	}
	return "(challenge)"
}

// GoString hides the secret from %#v.
func (c Challenge) GoString() string { return c.String() }

// LogValue hides the secret from slog.
func (c Challenge) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText hides the secret from JSON and other encoders.
func (c Challenge) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// The SCEP attributes (RFC 8894, section 3.2.1) and what they travel with.
var (
	oidMessageType    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 2}
	oidPKIStatus      = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 3}
	oidFailInfo       = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 4}
	oidSenderNonce    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 5}
	oidRecipientNonce = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 6}
	oidTransactionID  = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 7}
	oidFailInfoText   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 24, 1}
)
