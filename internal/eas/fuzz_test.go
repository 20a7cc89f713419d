package eas

import (
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"
)

func FuzzParseRequest(f *testing.F) {
	for _, query := range []string{"", plainQuery, "jAAJBAp2MTQwRGV2aWNlAApTbWFydFBob25l", "cmd=Sync&cmd=Ping",
		query64(161, 3, "a1", "\x07\x00\x00\x00", "Android", "\x01\x015\x07\x01\x03\x08\x05alice"), query64(161, 0, "\x00\xff", "", "iPhone", "")} {
		f.Add(query, "16.1", "0", false)
		f.Add(query, "", "", true)
	}
	f.Fuzz(func(t *testing.T, query, version, key string, options bool) {
		method := http.MethodPost
		if options {
			method = http.MethodOptions
		}
		h := http.Header{"Ms-Asprotocolversion": {version}, "X-Ms-Policykey": {key}}
		r, err := ParseRequest(method, query, h)
		if err != nil {
			return
		}
		if r.User != strings.ToLower(r.User) || len(r.User) > MaxUser || len(r.DeviceType) > MaxDeviceType || len(r.RawDeviceID) > maxDeviceID {
			t.Fatalf("out of limits: %+v", r)
		}
		if !options && (r.DeviceID == "" || r.DeviceType == "" || r.Version == 0 || r.Command == NoCommand || r.Command == Options) {
			t.Fatalf("incomplete: %+v", r)
		}
		if again, err := ParseDeviceID(r.RawDeviceID); r.DeviceID != "" && (err != nil || again != r.DeviceID) {
			t.Fatalf("%q is %q, %v, not %q", r.RawDeviceID, again, err, r.DeviceID)
		}
	})
}

func FuzzDeviceID(f *testing.F) {
	for _, s := range []string{"v140Device", "76313430446576696365", "36313631", "e1568c571e684e0fb1724da85d215dc0", "\x00\x01", "a-b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseDeviceIDBytes([]byte(s)); err == nil {
			for _, spelling := range []string{id.String(), strings.ToUpper(id.String()), hex.EncodeToString([]byte(s))} {
				if again, err := ParseDeviceID(spelling); err != nil || again != id {
					t.Fatalf("%q is %q, but %q is %q, %v", s, id, spelling, again, err)
				}
			}
		}
		id, err := ParseDeviceID(s)
		if err != nil {
			return
		}
		if len(id) == 0 || len(id) > maxDeviceID || !alphanumeric(id.String()) {
			t.Fatalf("%q is %q", s, id)
		}
		for _, spelling := range []string{id.String(), strings.ToUpper(s), strings.ToLower(s), strings.ToUpper(id.String())} {
			if again, err := ParseDeviceID(spelling); err != nil || again != id {
				t.Fatalf("%q is %q, but %q is %q, %v", s, id, spelling, again, err)
			}
		}
	})
}

func FuzzWBXML(f *testing.F) {
	f.Add(encode(f, information(PageProvision, "Provision").Element(PageSettings, "Model", "x").End().End().End()))
	_, _, refusal := Refusal(FolderSync, Version161, StatusDeviceIsBlockedForThisUser)
	f.Add(refusal)
	f.Add([]byte(header + "\x45\xc3\x8f\xff\xff\xff\x7f"))
	f.Add([]byte(header + strings.Repeat("\x45", 40)))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, walked := Decode(body, 0)
		err := walk(body)
		if walked == nil && err != nil && !strings.Contains(err.Error(), "text_too_long") || walked != nil && err == nil && len(body) < maxElements {
			t.Fatalf("tree: %v, walk: %v", walked, err)
		}
		d, ok, err := ReadDeviceInformation(body)
		if d != (DeviceInformation{}) && (!ok || err != nil) {
			t.Fatalf("%+v, %v, %v", d, ok, err)
		}
	})
}

func FuzzUserAgent(f *testing.F) {
	c := clients(f)
	for _, row := range c.rows {
		f.Add(row.Example.UserAgent, row.Example.DeviceType)
	}
	f.Fuzz(func(t *testing.T, userAgent, deviceType string) {
		if got := c.Parse(userAgent, deviceType); got.Family == "" || got.Platform == "" || len(userAgent) > MaxUserAgent && got.Family != FamilyOther {
			t.Fatalf("%+v", got)
		}
	})
}

func FuzzAutodiscover(f *testing.F) {
	f.Add([]byte(request(schemaRequest, "a@b.c", schemaResponse)), "Email=a@b.c&Protocol=ActiveSync")
	f.Add([]byte(`<!DOCTYPE a><Autodiscover/>`), "Protocol=Ews")
	f.Add([]byte(utf16Of(request(schemaRequest, "a@b.c", schemaResponse), binary.BigEndian, true)), "")
	f.Add([]byte("<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><a>\xf6</a>"), "")
	f.Fuzz(func(t *testing.T, body []byte, query string) {
		email, err := ParseAutodiscover(body)
		if (err == nil) != strings.Contains(email, "@") {
			t.Fatalf("%q, %v", email, err)
		}
		AutodiscoverErrorXML(err, time.Time{})
		email, _, err = ParseAutodiscoverJSON("/autodiscover/autodiscover.json", query, ProtocolActiveSync)
		if (err == nil) != strings.Contains(email, "@") {
			t.Fatalf("%q, %v", email, err)
		}
	})
}
