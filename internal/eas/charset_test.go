package eas

import (
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"
)

// utf16Of writes text in UTF-16.
func utf16Of(text string, order binary.AppendByteOrder, mark bool) string {
	var b []byte
	if mark {
		text = "\uFEFF" + text
	}
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

// Clients send the same request in the encodings that every XML processor reads, and in that of old phones.
func TestAutodiscoverEncodings(t *testing.T) {
	const address = "Jörg@Contoso.com"
	utf8 := request(schemaRequest, address, schemaResponse)
	declared := func(encoding string) string { return strings.Replace(utf8, "utf-8", encoding, 1) }
	latin1 := func(encoding string) string { return strings.Replace(declared(encoding), "ö", "\xf6", 1) }
	le, be := binary.AppendByteOrder(binary.LittleEndian), binary.AppendByteOrder(binary.BigEndian)
	for name, body := range map[string]string{
		"UTF-8":                             utf8,
		"UTF-8 with mark":                   "\uFEFF" + utf8,
		"UTF-8, not declared":               strings.Replace(utf8, ` encoding="utf-8"`, "", 1),
		"ISO-8859-1":                        latin1("ISO-8859-1"),
		"Latin-1 of Windows":                latin1("Windows-1252"),
		"US-ASCII, with a reference":        strings.Replace(declared("us-ascii"), "ö", "&#246;", 1),
		"UTF-16, little endian, mark":       utf16Of(declared("utf-16"), le, true),
		"UTF-16, big endian, mark":          utf16Of(declared("UTF-16"), be, true),
		"UTF-16, little endian, no mark":    utf16Of(declared("utf-16le"), le, false),
		"UTF-16, big endian, no mark":       utf16Of(declared("utf-16be"), be, false),
		"UTF-16 that says UTF-8":            utf16Of(utf8, le, true),
		"UTF-16 that says ISO-8859-1":       utf16Of(declared("iso-8859-1"), le, true),
		"UTF-16 without declaration":        utf16Of(utf8[strings.Index(utf8, "<Auto"):], le, true),
		"UTF-8 that says UTF-16, like .NET": declared("utf-16"),
	} {
		if email, err := ParseAutodiscover([]byte(body)); err != nil || email != "jörg@contoso.com" {
			t.Errorf("%s: %q, %v", name, email, err)
		}
	}
	beyond := request(schemaRequest, "\U0001F600@b.c", schemaResponse)
	if email, err := ParseAutodiscover([]byte(utf16Of(beyond, be, true))); err != nil || email != "\U0001F600@b.c" {
		t.Errorf("a pair: %q, %v", email, err)
	}
	wide := utf16Of(beyond, be, true)
	at := strings.Index(wide, "\xd8\x3d\xde\x00")
	for name, body := range map[string]string{
		"another encoding":   declared("utf-7"),
		"not what it says":   latin1("utf-8"),
		"an odd byte":        utf16Of(declared("utf-16"), le, true) + "\x00",
		"half a pair":        wide[:at] + wide[at+2:],
		"the second half":    wide[:at] + wide[at+2:at+4] + wide[at+4:],
		"halves exchanged":   wide[:at] + wide[at+2:at+4] + wide[at:at+2] + wide[at+4:],
		"cut off in a pair":  wide[:at+2],
		"a mark and no more": "\xff\xfe",
		"too long":           utf16Of(strings.Repeat(" ", MaxAutodiscover/2)+utf8, le, true),
		"document type":      utf16Of(strings.Replace(utf8, "?>", `?><!DOCTYPE a [<!ENTITY x "y">]>`, 1), le, true),
	} {
		if email, err := ParseAutodiscover([]byte(body)); err == nil || email != "" {
			t.Errorf("%s: %q, %v", name, email, err)
		}
	}
}
