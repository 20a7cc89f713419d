package scep

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
)

func TestDecodeGETMessage(t *testing.T) {
	der := []byte{0x30, 0x05, 0xfb, 0xff, 0xfe, 0xfb, 0xef, 0x00}
	std := base64.StdEncoding.EncodeToString(der)
	for name, value := range map[string]string{
		"standard":     std,
		"no padding":   strings.TrimRight(std, "="),
		"URL-safe":     base64.URLEncoding.EncodeToString(der),
		"raw URL-safe": base64.RawURLEncoding.EncodeToString(der),
		"spaces":       strings.ReplaceAll(std, "+", " "),
		"escaped":      url.QueryEscape(std),
		"only padding": strings.ReplaceAll(std, "=", "%3D"),
		"lower case":   strings.ReplaceAll(std, "=", "%3d"),
		"line breaks":  std[:4] + "\r\n" + std[4:] + "\n",
	} {
		got, err := DecodeGETMessage(value)
		if err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %q: %x, %v", name, value, got, err)
		}
	}
	full := bytes.Repeat([]byte{0xff}, MaxMessage)
	escaped := strings.ReplaceAll(base64.StdEncoding.EncodeToString(full), "/", "%2F")
	if got, err := DecodeGETMessage(escaped); err != nil || len(got) != MaxMessage {
		t.Errorf("a message of the full size: %d, %v", len(got), err)
	}
	for name, value := range map[string]string{
		"empty":         "",
		"not base64":    "MII!",
		"broken escape": "MII%zz",
		"one character": "M",
		"in the middle": "MI=I",
		"not ASCII":     "MIIé",
		"too large":     base64.StdEncoding.EncodeToString(append(full, 1)),
		"far too large": strings.Repeat("A", maxQuery+1),
	} {
		_, err := DecodeGETMessage(value)
		if err == nil {
			t.Errorf("%s was taken", name)
			continue
		}
		wantMalformed(t, err)
	}
}

func TestCertsOnly(t *testing.T) {
	p := testParties()
	der, err := CertsOnly(p.ra.cert, p.ca.cert)
	if err != nil {
		t.Fatal(err)
	}
	checkCerts(t, der, p.ra.cert, p.ca.cert)
	if _, err := CertsOnly(); err == nil {
		t.Error("no certificate was taken")
	}
}

func FuzzDecodeGET(f *testing.F) {
	for _, s := range []string{"", "MII=", "MII%3D", "M I-_", "%", "===="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		der, err := DecodeGETMessage(value)
		if err == nil && (len(der) == 0 || len(der) > MaxMessage) {
			t.Errorf("%d bytes", len(der))
		}
		if err != nil {
			wantMalformed(t, err)
		}
	})
}
