// Package eas holds the words of Exchange ActiveSync: requests, device identities, clients, WBXML and refusals
// (MS-ASHTTP, MS-ASCMD, MS-ASWBXML, MS-ASPROV). It is pure: bytes in, values out, no input or output of its own.
//
// Everything a request says about its device is claimed by the client and proves nothing; the names of types and
// fields say so where it matters. Each parser checks a size limit before it looks at a byte, refuses what it does
// not know, and never panics.
package eas

import (
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of a request, in bytes.
const (
	MaxQuery      = 4096 // the raw query, before decoding
	MaxUser       = 320  // an e-mail address (RFC 5321, section 4.5.3.1)
	MaxDeviceType = 32
	MaxParameter  = 256 // each parameter of a command
	maxParameters = 32  // parameters in one plain query
)

// Encoding says how a request carried its query (MS-ASHTTP, section 2.2.1.1.1).
type Encoding string

// The encodings. EncodingNone is that of an OPTIONS request without query.
const (
	EncodingNone   Encoding = ""
	EncodingPlain  Encoding = "plain"
	EncodingBase64 Encoding = "base64"
)

// The codes of a [RequestError].
const (
	ReasonMethodNotSupported  = "method_not_supported"
	ReasonQueryMissing        = "query_missing"
	ReasonQueryTooLong        = "query_too_long"
	ReasonQueryMalformed      = "query_malformed"
	ReasonParameterDuplicate  = "parameter_duplicate"
	ReasonParameterInvalid    = "parameter_invalid"
	ReasonHeaderConflict      = "header_conflict"
	ReasonCommandMissing      = "command_missing"
	ReasonCommandNotSupported = "command_not_supported"
	ReasonVersionMissing      = "version_missing"
	ReasonVersionNotSupported = "version_not_supported"
	ReasonUserInvalid         = "user_invalid"
	ReasonDeviceIDMissing     = "device_id_missing"
	ReasonDeviceIDInvalid     = "device_id_invalid"
	ReasonDeviceTypeMissing   = "device_type_missing"
	ReasonDeviceTypeInvalid   = "device_type_invalid"
	ReasonPolicyKeyInvalid    = "policy_key_invalid"
)

// RequestError is a request that is refused because of its form. It holds nothing that the client sent.
type RequestError struct {
	Status     Status // what the answer says, for [Refusal]
	HTTPStatus int    // the same as a bare HTTP status code
	Reason     string // a stable code, one of the Reason constants
}

func (e *RequestError) Error() string { return "read EAS request: " + e.Reason }

func refuse(s Status, reason string) *RequestError {
	return &RequestError{Status: s, HTTPStatus: s.HTTPStatus(), Reason: reason}
}

// Request is what the first line and the headers of a request say. All of it is claimed by the client.
type Request struct {
	Command     Command
	Version     Version // zero only for an OPTIONS request that names no known one
	Encoding    Encoding
	User        string   // lower-case; user@domain, domain\user or user; "" where the request names none
	DeviceID    DeviceID // canonical; "" only for an OPTIONS request that names none
	RawDeviceID string   // as sent, which is how Exchange lists it; bytes that are not text are in lower-case hexadecimal
	DeviceType  string   // as sent
	PolicyKey   uint32   // zero: none yet (MS-ASHTTP, section 2.2.1.1.2.8)
	Locale      uint16   // LCID of a base64 query, otherwise zero

	// The parameters of a command (MS-ASHTTP, section 2.2.1.1.1.2.5).
	AttachmentName, CollectionID, ItemID, LongID, Occurrence string
	SaveInSent, AcceptMultiPart                              bool
}

// ParseRequest reads the method, the raw query (without "?") and the headers of a request to /Microsoft-Server-ActiveSync
// (MS-ASHTTP, section 2.2.1.1). The methods are POST and OPTIONS, of which OPTIONS may have no query and its Cmd, if any,
// is not looked at; the GET with an empty Bearer, by which a phone asks how to sign in, is not an EAS request and has to
// be recognised before. What the query and a header both say has to agree, and no parameter may come twice: two readers of one
// request must never see two devices.
//
// The error is always a [*RequestError]; the Request beside it holds what was read before, which is enough for [Refusal]
// and for nothing else.
func ParseRequest(method, rawQuery string, h http.Header) (Request, error) {
	var r Request
	switch {
	case method == http.MethodOptions:
		r.Command = Options
	case method != http.MethodPost:
		return r, &RequestError{Status: StatusInvalidContent, HTTPStatus: http.StatusNotImplemented, Reason: ReasonMethodNotSupported}
	case rawQuery == "":
		return r, refuse(StatusInvalidContent, ReasonQueryMissing)
	}
	if len(rawQuery) > MaxQuery {
		return r, refuse(StatusInvalidContent, ReasonQueryTooLong)
	}
	var err *RequestError
	switch {
	case rawQuery == "":
	case isBase64Query(rawQuery):
		r.Encoding = EncodingBase64
		err = r.readBase64(rawQuery)
	default:
		r.Encoding = EncodingPlain
		err = r.readPlain(rawQuery)
	}
	// The version is read even after an error, so that the refusal is in words that the client understands.
	if herr := r.readHeaders(h); err == nil {
		err = herr
	}
	if err == nil {
		err = r.complete()
	}
	if err != nil {
		return r, err
	}
	return r, nil
}

// isBase64Query tells the two kinds of query apart: a plain one has "=" inside, and "&" as soon as it has two parameters.
func isBase64Query(q string) bool {
	return !strings.ContainsAny(strings.TrimRight(q, "="), "=&")
}

// readHeaders takes the version, the policy key and the multipart flag from the headers (MS-ASHTTP, section 2.2.1.1.2).
func (r *Request) readHeaders(h http.Header) *RequestError {
	version, ok := single(h, headerVersion)
	if !ok {
		return refuse(StatusInvalidContent, ReasonHeaderConflict)
	}
	if version != "" {
		v, err := ParseVersion(version)
		switch {
		case err != nil && r.Command == Options: // which asks for the versions
		case err != nil:
			return refuse(StatusVersionNotSupported, ReasonVersionNotSupported)
		case r.Version != 0 && r.Version != v:
			return refuse(StatusInvalidContent, ReasonHeaderConflict)
		}
		if err == nil {
			r.Version = v
		}
	}
	key, ok := single(h, headerPolicyKey)
	if !ok {
		return refuse(StatusInvalidContent, ReasonHeaderConflict)
	}
	if key != "" {
		n, err := strconv.ParseUint(key, 10, 32)
		switch {
		case err != nil:
			return refuse(StatusInvalidContent, ReasonPolicyKeyInvalid)
		case r.PolicyKey != 0 && r.PolicyKey != uint32(n):
			return refuse(StatusInvalidContent, ReasonHeaderConflict)
		}
		r.PolicyKey = uint32(n)
	}
	multi, ok := single(h, headerMultiPart)
	if !ok {
		return refuse(StatusInvalidContent, ReasonHeaderConflict)
	}
	r.AcceptMultiPart = r.AcceptMultiPart || multi == "T"
	return nil
}

// The headers of the protocol, in the form of net/http.
const (
	headerVersion   = "Ms-Asprotocolversion"
	headerPolicyKey = "X-Ms-Policykey"
	headerMultiPart = "Ms-Asacceptmultipart"
)

// single gives the one value of a header, "" where there is none, and false where there are two. The name is in the form of net/http.
func single(h http.Header, name string) (string, bool) {
	values := h[name]
	if len(values) == 0 {
		return "", true
	}
	return strings.TrimSpace(values[0]), len(values) == 1
}

// complete checks that what a command needs is there. Exchange asks for DeviceId and DeviceType on everything but OPTIONS.
func (r *Request) complete() *RequestError {
	switch {
	case r.Command == Options:
		return nil
	case r.Command == NoCommand:
		return refuse(StatusCommandNotSupported, ReasonCommandMissing)
	case r.Version == 0:
		return refuse(StatusVersionNotSupported, ReasonVersionMissing)
	case r.DeviceID == "":
		return refuse(StatusDeviceIDMissingOrInvalid, ReasonDeviceIDMissing)
	case r.DeviceType == "":
		return refuse(StatusDeviceTypeMissingOrInvalid, ReasonDeviceTypeMissing)
	}
	return nil
}

func (r *Request) setDeviceID(text string) *RequestError {
	if text == "" {
		return refuse(StatusDeviceIDMissingOrInvalid, ReasonDeviceIDMissing)
	}
	id, err := ParseDeviceID(text)
	if err != nil || len(text) > maxDeviceID {
		return refuse(StatusDeviceIDMissingOrInvalid, ReasonDeviceIDInvalid)
	}
	r.DeviceID, r.RawDeviceID = id, text
	return nil
}

// setDeviceType takes 1 to 32 visible ASCII characters without "-", which Exchange refuses too.
func (r *Request) setDeviceType(s string) *RequestError {
	if s == "" {
		return refuse(StatusDeviceTypeMissingOrInvalid, ReasonDeviceTypeMissing)
	}
	if len(s) > MaxDeviceType || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '-' }) {
		return refuse(StatusDeviceTypeMissingOrInvalid, ReasonDeviceTypeInvalid)
	}
	r.DeviceType = s
	return nil
}

// setUser takes a name in the form of a header or log; a domain before "/" is one before "\".
func (r *Request) setUser(s string) *RequestError {
	s = strings.TrimSpace(s)
	if len(s) > MaxUser || !printable(s) {
		return refuse(StatusInvalidContent, ReasonUserInvalid)
	}
	r.User = strings.TrimPrefix(strings.ToLower(strings.Replace(s, "/", `\`, 1)), `\`)
	return nil
}

// parameter checks one parameter of a command.
func parameter(dst *string, s string) *RequestError {
	if len(s) > MaxParameter || !printable(s) {
		return refuse(StatusInvalidContent, ReasonParameterInvalid)
	}
	*dst = s
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}
