package eas

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// newXMLDecoder reads XML in UTF-8, UTF-16, US-ASCII or ISO-8859-1 (XML 1.0, section 4.3.3 and appendix F). The bytes say whether it is UTF-16, and a
// declaration counts only where they do not: some clients declare UTF-16 and send UTF-8. It returns nil for UTF-16 that is none.
func newXMLDecoder(body []byte) *xml.Decoder {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(body, []byte("\xff\xfe")), bytes.HasPrefix(body, []byte("<\x00")):
		order = binary.LittleEndian
	case bytes.HasPrefix(body, []byte("\xfe\xff")), bytes.HasPrefix(body, []byte("\x00<")):
		order = binary.BigEndian
	}
	if order != nil {
		var ok bool
		if body, ok = fromUTF16(body, order); !ok {
			return nil
		}
	}
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\uFEFF"))))
	d.CharsetReader = func(label string, rest io.Reader) (io.Reader, error) {
		switch strings.ToLower(label) {
		case "utf-16", "utf-16le", "utf-16be", "us-ascii":
			return rest, nil
		case "iso-8859-1", "latin1", "windows-1252": // the last differs in what no address has
			if order != nil {
				return rest, nil
			}
			b, err := io.ReadAll(rest)
			return strings.NewReader(fromLatin1(b)), err
		}
		return nil, fmt.Errorf("encoding %q is not supported", label)
	}
	return d
}

// fromLatin1 makes UTF-8 of ISO-8859-1, of which every byte is the number of its character.
func fromLatin1(b []byte) string {
	text := make([]rune, len(b))
	for i, c := range b {
		text[i] = rune(c)
	}
	return string(text)
}

// fromUTF16 makes UTF-8 of UTF-16. ok is false where half a character is missing.
func fromUTF16(b []byte, order binary.ByteOrder) (out []byte, ok bool) {
	for ; len(b) >= 2; b = b[2:] {
		r := rune(order.Uint16(b))
		if utf16.IsSurrogate(r) {
			if len(b) < 4 {
				return nil, false
			}
			if r = utf16.DecodeRune(r, rune(order.Uint16(b[2:]))); r == utf8.RuneError {
				return nil, false
			}
			b = b[2:]
		}
		out = utf8.AppendRune(out, r)
	}
	return out, len(b) == 0
}
