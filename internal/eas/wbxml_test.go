package eas

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"postern/internal/peertest"
)

func encode(t testing.TB, e *Encoder) []byte {
	t.Helper()
	body, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestEncodeAndDecode(t *testing.T) {
	long := strings.Repeat("b", 300)
	body := encode(t, NewEncoder().Start(PageAirSync, "Sync").Element(PageAirSync, "SyncKey", "1").
		Start(PageAirSync, "ApplicationData").Element(PageEmail, "Subject", "Grüße").
		Start(PageAirSyncBase, "Body").Opaque([]byte(long)).End().Empty(PageAirSync, "MoreAvailable").End().End())
	root, err := Decode(body, 0)
	if err != nil {
		t.Fatal(err)
	}
	data := root.Find("ApplicationData")
	if root.Name != "Sync" || root.Value("SyncKey") != "1" || data.Value("Subject") != "Grüße" || data.Value("Body") != long ||
		data.Find("MoreAvailable").Page != PageAirSync || len(root.All("SyncKey")) != 1 {
		t.Errorf("%+v", root)
	}
	if root.Find("SyncKey", "none").Find("x") != nil || root.Value("none") != "" || root.Find("none").All("x") != nil {
		t.Error("found what is not there")
	}
	if text := foreignXML(t, peertest.Find(t, "wbxml2xml"), body); !strings.Contains(text, "Grüße") || !strings.Contains(text, "SyncKey>1<") {
		t.Errorf("wbxml2xml reads %s", text)
	}
}

func TestOpaqueLengths(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, 30000} {
		body := encode(t, NewEncoder().Start(PageComposeMail, "Mime").Opaque(bytes.Repeat([]byte{0xFF}, n)).End())
		if root, err := Decode(body, 0); err != nil || len(root.Text) != n {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestEncoderMistakes(t *testing.T) {
	for name, e := range map[string]*Encoder{
		"unknown name": NewEncoder().Element(PagePing, "Pong", "1"),
		"unknown page": NewEncoder().Empty(99, "Ping"),
		"NUL":          NewEncoder().Element(PagePing, "Status", "1\x002"),
		"left open":    NewEncoder().Start(PagePing, "Ping"),
		"too many":     NewEncoder().Empty(PagePing, "Ping").End(),
	} {
		if body, err := e.Bytes(); err == nil || body != nil {
			t.Errorf("%s: %x", name, body)
		}
	}
}

func TestWBXMLRefusals(t *testing.T) {
	doc := func(s string) []byte { return []byte(header + s) }
	tests := []struct {
		name   string
		body   []byte
		reason string
	}{
		{"empty", nil, "header"},
		{"WBXML 1.1", []byte("\x01\x01\x6a\x00\x05"), "header"},
		{"string table", []byte("\x03\x01\x6a\x01x\x05"), "header"},
		{"latin-1", []byte("\x03\x01\x04\x00\x05"), "header"},
		{"nothing", doc(""), "truncated"},
		{"not closed", doc("\x45"), "truncated"},
		{"page cut off", doc("\x45\x00"), "truncated"},
		{"page 26", doc("\x00\x1a\x05"), "page"},
		{"entity", doc("\x45\x02\x20\x01"), "token"},
		{"literal", doc("\x45\x04\x00\x01"), "token"},
		{"literal with content", doc("\x44\x00\x01"), "token"},
		{"extension", doc("\x45\x40a\x00\x01"), "token"},
		{"processing instruction", doc("\x43\x05\x01"), "token"},
		{"string table reference", doc("\x45\x83\x00\x01"), "token"},
		{"attributes", doc("\xc5\x05\x01\x01"), "token"},
		{"attributes, empty", doc("\x85\x05\x01"), "token"},
		{"end first", doc("\x01"), "unbalanced"},
		{"text first", doc("\x03a\x00"), "unbalanced"},
		{"opaque first", doc("\xc3\x00"), "unbalanced"},
		{"text cut off", doc("\x45\x03abc"), "truncated"},
		{"text not UTF-8", doc("\x45\x03\xff\x00\x01"), "text_encoding"},
		{"text too long", doc("\x45\x03" + strings.Repeat("a", DefaultMaxText+1) + "\x00\x01"), "text_too_long"},
		{"opaque cut off", doc("\x45\xc3\x05abc"), "truncated"},
		{"opaque length cut off", doc("\x45\xc3\x85"), "truncated"},
		{"opaque of 4 GiB", doc("\x45\xc3\x8f\xff\xff\xff\x7fabc\x01"), "text_too_long"},
		{"opaque length of 6 bytes", doc("\x45\xc3\x80\x80\x80\x80\x80\x00\x01"), "text_too_long"},
		{"too deep", doc(strings.Repeat("\x45", DefaultMaxDepth+1)), "depth"},
		{"second root", doc("\x05\x05"), "trailing"},
		{"trailing byte", doc("\x45\x01\x00"), "trailing"},
		{"too large", doc(strings.Repeat("\x05", DefaultMaxBytes)), "too_large"},
	}
	for _, tt := range tests {
		var refused *WBXMLError
		if err := walk(tt.body); !errors.As(err, &refused) || refused.Reason != tt.reason {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.reason)
		}
	}
	if err := walk(doc(strings.Repeat("\x45", DefaultMaxDepth) + strings.Repeat("\x01", DefaultMaxDepth))); err != nil {
		t.Errorf("as deep as allowed: %v", err)
	}
	var refused *WBXMLError
	if _, err := Decode(doc("\x45"+strings.Repeat("\x05", maxElements)+"\x01"), 0); !errors.As(err, &refused) || refused.Reason != "too_large" {
		t.Errorf("too many elements: %v", err)
	}
}

// walk reads a document to its end.
func walk(body []byte) error {
	r, err := NewReader(body, Limits{})
	if err != nil {
		return err
	}
	for depth := 0; ; {
		token, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case token.Kind == TokenStart:
			depth++
		case token.Kind == TokenEnd:
			depth--
		}
		if depth < 0 || depth > DefaultMaxDepth {
			return errors.New("unbalanced walk")
		}
	}
}

func information(root Page, name string) *Encoder {
	return NewEncoder().Start(root, name).Start(PageSettings, "DeviceInformation").Start(PageSettings, "Set")
}

func TestReadDeviceInformation(t *testing.T) {
	want := DeviceInformation{"iPhone15C4", "353918055252525", "Алиса’s iPhone", "iOS 27.0 24A5390f", "de", "+49 30", "iOS/27.0 (24A5390f) dataaccessd/1.0", "Telekom"}
	fill := func(e *Encoder) *Encoder {
		return e.Element(PageSettings, "Model", want.Model).Element(PageSettings, "IMEI", want.IMEI).
			Element(PageSettings, "FriendlyName", want.FriendlyName).Element(PageSettings, "OS", want.OS).
			Element(PageSettings, "OSLanguage", want.OSLanguage).Element(PageSettings, "PhoneNumber", want.PhoneNumber).
			Element(PageSettings, "UserAgent", want.UserAgent).Element(PageSettings, "EnableOutboundSMS", "0").
			Element(PageSettings, "MobileOperator", want.MobileOperator).End().End()
	}
	provision := encode(t, fill(information(PageProvision, "Provision")).Start(PageProvision, "Policies").Start(PageProvision, "Policy").
		Element(PageProvision, "PolicyType", "MS-EAS-Provisioning-WBXML").End().End().End())
	settings := encode(t, fill(information(PageSettings, "Settings")).End())
	for _, body := range [][]byte{provision, settings} {
		if d, ok, err := ReadDeviceInformation(body); err != nil || !ok || d != want {
			t.Errorf("%+v, %v, %v", d, ok, err)
		}
	}
}

func TestDeviceInformationElsewhere(t *testing.T) {
	for name, e := range map[string]*Encoder{
		"second Provision": NewEncoder().Start(PageProvision, "Provision").Start(PageProvision, "Policies").End().End(),
		"answer":           NewEncoder().Start(PageSettings, "Settings").Start(PageSettings, "DeviceInformation").Element(PageSettings, "Status", "1").End().End(),
		"a model elsewhere": NewEncoder().Start(PageSettings, "Settings").Start(PageSettings, "Oof").Start(PageSettings, "Set").
			Element(PageSettings, "Model", "forged").End().End().End(),
		"deeper": NewEncoder().Start(PageSettings, "Settings").Start(PageSettings, "Get").Start(PageSettings, "DeviceInformation").Start(PageSettings, "Set").
			Element(PageSettings, "Model", "forged").End().End().End().End(),
	} {
		if d, ok, err := ReadDeviceInformation(encode(t, e)); err != nil || ok || d != (DeviceInformation{}) {
			t.Errorf("%s: %+v, %v, %v", name, d, ok, err)
		}
	}
}

func TestDeviceInformationRefusals(t *testing.T) {
	set := func() *Encoder { return information(PageSettings, "Settings") }
	for name, e := range map[string]*Encoder{
		"root":       NewEncoder().Empty(PagePing, "Ping"),
		"duplicate":  set().Element(PageSettings, "Model", "a").Element(PageSettings, "Model", "b").End().End().End(),
		"second set": set().End().Start(PageSettings, "Set").End().End().End(),
		"long":       set().Start(PageSettings, "OS").Text(strings.Repeat("x", 1000)).Text(strings.Repeat("x", 25)).End().End().End().End(),
		"control":    set().Element(PageSettings, "OS", "a\nb").End().End().End(),
		"opaque":     set().Start(PageSettings, "OS").Opaque([]byte("x")).End().End().End().End(),
	} {
		if d, ok, err := ReadDeviceInformation(encode(t, e)); err == nil || ok || d != (DeviceInformation{}) {
			t.Errorf("%s: %+v, %v", name, d, ok)
		}
	}
	if _, _, err := ReadDeviceInformation(nil); err == nil {
		t.Error("an empty body is read")
	}
}
