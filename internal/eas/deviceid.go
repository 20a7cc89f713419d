package eas

import (
	"encoding/hex"
	"strings"
)

// maxDeviceID is the longest DeviceId in characters (MS-ASHTTP, section 2.2.1.1.1.2.4).
const maxDeviceID = 32

// DeviceID is the canonical form of a DeviceId: lower-case ASCII letters and digits, 1 to 32 of them. Two requests of
// one client have the same DeviceID whichever way they spell it. It is claimed by the client and is no anchor of trust.
//
// The canonical form is found so:
//   - text is lower-cased;
//   - text that is the hexadecimal form of ASCII letters and digits is that text, lower-cased, and so on until nothing
//     changes (some servers and clients show the bytes of a base64 query in hexadecimal);
//   - bytes of a base64 query that are not all ASCII letters and digits, such as a GUID, are their lower-case
//     hexadecimal form.
//
// So v140Device, V140DEVICE and 76313430446576696365 are one device, while 32 hexadecimal digits of a random
// identifier stay what they are.
type DeviceID string

// ParseDeviceID gives the canonical form of a DeviceId in text, as a plain query, an MDM or Exchange writes it. It takes
// 1 to 32 ASCII letters and digits, or up to 64 where they are the hexadecimal form of such. The error is a
// [*RequestError] with Status 108.
func ParseDeviceID(text string) (DeviceID, error) {
	if len(text) == 0 || len(text) > 2*maxDeviceID || !alphanumeric(text) {
		return "", refuse(StatusDeviceIDMissingOrInvalid, ReasonDeviceIDInvalid)
	}
	id := strings.ToLower(text)
	for len(id)%2 == 0 && strings.Trim(id, "0123456789abcdef") == "" {
		decoded, err := hex.DecodeString(id)
		if err != nil || len(decoded) == 0 || !alphanumeric(string(decoded)) {
			break
		}
		id = strings.ToLower(string(decoded))
	}
	if len(id) > maxDeviceID {
		return "", refuse(StatusDeviceIDMissingOrInvalid, ReasonDeviceIDInvalid)
	}
	return DeviceID(id), nil
}

// ParseDeviceIDBytes gives the canonical form of the bytes of a base64 query, "a string or a GUID" (MS-ASHTTP, section
// 2.2.1.1.1.1.5): at most 32 letters and digits, or at most 16 other bytes. The error is a [*RequestError] with Status 108.
func ParseDeviceIDBytes(raw []byte) (DeviceID, error) {
	return ParseDeviceID(deviceIDText(raw))
}

// deviceIDText gives bytes as the text that names them in a plain query. What is too long stays too long.
func deviceIDText(raw []byte) string {
	if alphanumeric(string(raw)) {
		if len(raw) > maxDeviceID {
			return ""
		}
		return string(raw)
	}
	if len(raw) > maxDeviceID/2 {
		return ""
	}
	return hex.EncodeToString(raw)
}

// String gives the canonical text.
func (d DeviceID) String() string { return string(d) }

func alphanumeric(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}
