package eas

import (
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"strings"
	"unicode/utf8"
)

// readPlain reads a plain query (MS-ASHTTP, section 2.2.1.1.1.2). Clients reorder the parameters and differ in the case of
// their names; unknown ones are passed over.
func (r *Request) readPlain(raw string) *RequestError {
	if strings.Count(raw, "&") >= maxParameters {
		return refuse(StatusInvalidContent, ReasonQueryMalformed)
	}
	var seen, bit uint16
	var first *RequestError
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, err := unescapePair(pair)
		if err != nil {
			return err
		}
		var room [longestName]byte
		bit, err = r.setParameter(string(lowerName(room[:0], name)), value)
		if seen&bit != 0 {
			return refuse(StatusInvalidContent, ReasonParameterDuplicate)
		}
		seen |= bit
		// Read on after the first error: the command may follow, and the refusal needs it.
		if first == nil {
			first = err
		}
	}
	return first
}

// longestName is how many bytes the longest name of a parameter has that is known.
const longestName = len("attachmentname")

// lowerName puts a name in lower case into room, where it fits: that is the case for every one that is known.
func lowerName(room []byte, name string) []byte {
	if len(name) > longestName {
		return append(room, strings.ToLower(name)...) // a letter outside ASCII may become one of fewer bytes
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= utf8.RuneSelf:
			return append(room[:0], strings.ToLower(name)...)
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		room = append(room, c)
	}
	return room
}

// unescapePair splits and decodes one parameter. A semicolon separates parameters for some servers and not for others.
func unescapePair(pair string) (name, value string, _ *RequestError) {
	rawName, rawValue, _ := strings.Cut(pair, "=")
	name, err1 := url.QueryUnescape(rawName)
	value, err2 := url.QueryUnescape(rawValue)
	if strings.IndexByte(rawValue, '+') >= 0 && strings.EqualFold(name, "user") && strings.Contains(value, "@") {
		// The sign of alice+news@contoso.com is not escaped by everybody, and no address has a blank.
		value, err2 = url.PathUnescape(rawValue)
	}
	if err1 != nil || err2 != nil || strings.Contains(pair, ";") || !printable(name) {
		return "", "", refuse(StatusInvalidContent, ReasonQueryMalformed)
	}
	return name, value, nil
}

// setParameter takes one parameter by its lower-case name and gives the bit that stands for it, zero for an unknown one.
func (r *Request) setParameter(name, value string) (uint16, *RequestError) {
	switch name {
	case "cmd":
		if r.Command == Options {
			return 1 << 0, nil
		}
		c, err := ParseCommand(value)
		if err != nil {
			return 1 << 0, refuse(StatusCommandNotSupported, ReasonCommandNotSupported)
		}
		r.Command = c
		return 1 << 0, nil
	case "user":
		return 1 << 1, r.setUser(value)
	case "deviceid":
		return 1 << 2, r.setDeviceID(value)
	case "devicetype":
		return 1 << 3, r.setDeviceType(value)
	case "attachmentname":
		return 1 << 4, parameter(&r.AttachmentName, value)
	case "collectionid":
		return 1 << 5, parameter(&r.CollectionID, value)
	case "itemid":
		return 1 << 6, parameter(&r.ItemID, value)
	case "longid":
		return 1 << 7, parameter(&r.LongID, value)
	case "occurrence":
		return 1 << 8, parameter(&r.Occurrence, value)
	case "saveinsent":
		if value != "T" && value != "F" {
			return 1 << 9, refuse(StatusInvalidContent, ReasonParameterInvalid)
		}
		r.SaveInSent = value == "T"
		return 1 << 9, nil
	}
	return 0, nil
}

// fields cuts the fields of a base64 query; after the first that is not there, bad is set and everything is empty.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.rest) {
		f.bad, f.rest = true, nil
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) byte() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

// counted cuts a field that is preceded by its length in one byte.
func (f *fields) counted() []byte { return f.take(int(f.byte())) }

// inQuery undoes what clients do to base64 that they put into a query: they write the alphabet of URLs, or escape (RFC 3986, section 2.1) the three characters
// that may mean something else there. Any other escape, one of a percent sign among them, stays and is no base64.
var inQuery = strings.NewReplacer("-", "+", "_", "/", "%2B", "+", "%2b", "+", "%2F", "/", "%2f", "/", "%3D", "=", "%3d", "=")

// strictBase64 is made once: it is some hundred bytes.
var strictBase64 = base64.RawStdEncoding.Strict()

// readBase64 reads a base64 query (MS-ASHTTP, section 2.2.1.1.1.1), in either alphabet, with or without padding.
func (r *Request) readBase64(raw string) *RequestError {
	padded := inQuery.Replace(raw)
	text := strings.TrimRight(padded, "=")
	if strings.ContainsAny(text, "\r\n") || len(padded)-len(text) > 2 {
		return refuse(StatusInvalidContent, ReasonQueryMalformed)
	}
	data, err := strictBase64.DecodeString(text)
	if err != nil {
		return refuse(StatusInvalidContent, ReasonQueryMalformed)
	}
	f := fields{rest: data}
	version, code, locale := f.byte(), f.byte(), f.take(2)
	id, key, deviceType := f.counted(), f.counted(), f.counted()
	if f.bad || len(key) != 0 && len(key) != 4 {
		return refuse(StatusInvalidContent, ReasonQueryMalformed)
	}
	if r.Command != Options {
		c, err := CommandByCode(code)
		if err != nil {
			return refuse(StatusCommandNotSupported, ReasonCommandNotSupported)
		}
		r.Command = c
	}
	v, err := versionOfByte(version)
	if err != nil {
		return refuse(StatusVersionNotSupported, ReasonVersionNotSupported)
	}
	r.Version, r.Locale = v, binary.LittleEndian.Uint16(locale)
	if len(key) == 4 {
		r.PolicyKey = binary.LittleEndian.Uint32(key)
	}
	if len(id) > 0 && deviceIDText(id) == "" {
		return refuse(StatusDeviceIDMissingOrInvalid, ReasonDeviceIDInvalid)
	}
	if err := r.setDeviceID(deviceIDText(id)); err != nil {
		return err
	}
	if err := r.setDeviceType(string(deviceType)); err != nil {
		return err
	}
	return r.readTagged(&f)
}

// The tags of command parameters (MS-ASHTTP, section 2.2.1.1.1.1.10). The flags are those of tagOptions.
const (
	tagAttachmentName = 0
	tagCollectionID   = 1
	tagItemID         = 3
	tagLongID         = 4
	tagOccurrence     = 6
	tagOptions        = 7
	tagUser           = 8

	flagSaveInSent      = 0x01
	flagAcceptMultiPart = 0x02
)

// readTagged reads the command parameters, which take up the rest of the query to its last byte.
func (r *Request) readTagged(f *fields) *RequestError {
	var seen uint16
	for len(f.rest) > 0 {
		tag, value := f.byte(), f.counted()
		if f.bad || tag > tagUser {
			return refuse(StatusInvalidContent, ReasonQueryMalformed)
		}
		if seen&(1<<tag) != 0 {
			return refuse(StatusInvalidContent, ReasonParameterDuplicate)
		}
		seen |= 1 << tag
		if err := r.setTagged(tag, value); err != nil {
			return err
		}
	}
	return nil
}

func (r *Request) setTagged(tag byte, value []byte) *RequestError {
	switch tag {
	case tagAttachmentName:
		return parameter(&r.AttachmentName, string(value))
	case tagCollectionID:
		return parameter(&r.CollectionID, string(value))
	case tagItemID:
		return parameter(&r.ItemID, string(value))
	case tagLongID:
		return parameter(&r.LongID, string(value))
	case tagOccurrence:
		return parameter(&r.Occurrence, string(value))
	case tagUser:
		return r.setUser(string(value))
	case tagOptions:
		if len(value) != 1 {
			return refuse(StatusInvalidContent, ReasonParameterInvalid)
		}
		r.SaveInSent = value[0]&flagSaveInSent != 0
		r.AcceptMultiPart = value[0]&flagAcceptMultiPart != 0
		return nil
	}
	return refuse(StatusInvalidContent, ReasonParameterInvalid)
}
