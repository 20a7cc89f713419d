package eas

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const plainQuery = "Cmd=FolderSync&User=alice@contoso.com&DeviceId=OCVU77E6TT7JR3Q0H31158OU7C&DeviceType=iPhone"

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func v161() http.Header { return headers("MS-ASProtocolVersion", "16.1") }

// query64 builds a base64 query; tail is the command parameters.
func query64(version, command byte, id, key, deviceType, tail string) string {
	b := binary.LittleEndian.AppendUint16([]byte{version, command}, 0x0409)
	for _, field := range []string{id, key, deviceType} {
		b = append(append(b, byte(len(field))), field...)
	}
	return base64.StdEncoding.EncodeToString(append(b, tail...))
}

func TestSpecVector(t *testing.T) {
	r, err := ParseRequest("POST", "jAAJBAp2MTQwRGV2aWNlAApTbWFydFBob25l", http.Header{})
	want := Request{Command: Sync, Version: Version140, Encoding: EncodingBase64, DeviceID: "v140device", RawDeviceID: "v140Device", DeviceType: "SmartPhone", Locale: 0x0409}
	if err != nil || r != want {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestPlainQuery(t *testing.T) {
	want := Request{Command: FolderSync, Version: Version161, Encoding: EncodingPlain, User: "alice@contoso.com",
		DeviceID: "ocvu77e6tt7jr3q0h31158ou7c", RawDeviceID: "OCVU77E6TT7JR3Q0H31158OU7C", DeviceType: "iPhone", PolicyKey: 42}
	for _, query := range []string{
		plainQuery,
		"deviceTYPE=iPhone&DEVICEID=OCVU77E6TT7JR3Q0H31158OU7C&user=Alice%40Contoso.com&cmd=foldersync&Extra=1",
		"%43md=FolderSync&&User=alice@contoso.com&DeviceId=OCVU77E6TT7JR3Q0H31158OU7C&DeviceType=iPhone",
	} {
		h := v161()
		h.Set("X-MS-PolicyKey", "42")
		if r, err := ParseRequest("POST", query, h); err != nil || r != want {
			t.Errorf("%s\ngot  %+v, %v\nwant %+v", query, r, err, want)
		}
	}
}

// TestPlusInUser: a sign in an address is the sign, escaped or not; elsewhere it is a blank.
func TestPlusInUser(t *testing.T) {
	for query, want := range map[string]string{
		"User=alice+news@contoso.com": "alice+news@contoso.com", "uSER=alice%2Bnews%40contoso.com": "alice+news@contoso.com",
		"%55ser=Alice+news%40contoso.com": "alice+news@contoso.com", "User=CONTOSO%5CAlice+Smith": `contoso\alice smith`,
	} {
		r, err := ParseRequest("POST", "Cmd=Sync&DeviceId=a1&DeviceType=iPhone&"+query, v161())
		if err != nil || r.User != want {
			t.Errorf("%s: user %q, %v, want %q", query, r.User, err, want)
		}
	}
}

func TestQueryParameters(t *testing.T) {
	plain := "Cmd=SmartReply&User=CONTOSO%5CAlice&DeviceId=a1&DeviceType=Android&CollectionId=5&ItemId=5%3a1&LongId=L&Occurrence=O&SaveInSent=T&AttachmentName=N"
	coded := query64(161, 3, "a1", "\x07\x00\x00\x00", "Android", "\x00\x01N\x01\x015\x03\x035:1\x04\x01L\x06\x01O\x07\x01\x03\x08\x0dCONTOSO/Alice")
	want := Request{Command: SmartReply, Version: Version161, User: `contoso\alice`, DeviceID: "a1", RawDeviceID: "a1", DeviceType: "Android",
		AttachmentName: "N", CollectionID: "5", ItemID: "5:1", LongID: "L", Occurrence: "O", SaveInSent: true, AcceptMultiPart: true, PolicyKey: 7}
	h := headers("MS-ASProtocolVersion", "16.1", "X-MS-PolicyKey", "7", "MS-ASAcceptMultiPart", "T")
	want.Encoding = EncodingPlain
	if r, err := ParseRequest("POST", plain, h); err != nil || r != want {
		t.Errorf("plain: %+v, %v", r, err)
	}
	want.Encoding, want.Locale = EncodingBase64, 0x0409
	if r, err := ParseRequest("POST", coded, http.Header{}); err != nil || r != want {
		t.Errorf("base64: %+v, %v", r, err)
	}
	if r, err := ParseRequest("POST", coded, h); err != nil || r != want {
		t.Errorf("base64 with headers that agree: %+v, %v", r, err)
	}
}

// allOf64 is a query that needs every odd character of base64.
func allOf64() string {
	return query64(161, 18, "\xfb\xfb\xef\xbe\xff\xff\xff\x00\x01\x02\x03\x04\x05\x06\x07\x08", "\xff\xff\xff\xff", "iPhone", "\x01\x02??")
}

func TestBase64Alphabets(t *testing.T) {
	standard := allOf64()
	if !strings.Contains(standard, "+") || !strings.Contains(standard, "/") || !strings.HasSuffix(standard, "=") {
		t.Fatalf("%s shows nothing", standard)
	}
	first, err := ParseRequest("POST", standard, http.Header{})
	if err != nil || first.DeviceID != "fbfbefbeffffff000102030405060708" || first.PolicyKey != 0xFFFFFFFF {
		t.Fatalf("%+v, %v", first, err)
	}
	safe, escaped := strings.NewReplacer("+", "-", "/", "_").Replace(standard), url.QueryEscape(standard)
	for _, query := range []string{safe, strings.TrimRight(standard, "="), strings.TrimRight(safe, "="), escaped,
		strings.Replace(escaped, "%2F", "%2f", 1), strings.Replace(escaped, "%2B", "+", 1), strings.TrimSuffix(escaped, "%3D"), strings.TrimSuffix(escaped, "%3D") + "="} {
		if r, err := ParseRequest("POST", query, http.Header{}); err != nil || r != first {
			t.Errorf("%s: %+v, %v", query, r, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, query := range []string{"", "Cmd=Options&User=alice@contoso.com&DeviceId=e1568c571e684e0fb1724da85d215dc0&DeviceType=Outlook"} {
		r, err := ParseRequest("OPTIONS", query, http.Header{})
		if err != nil || r.Command != Options || (query != "") != (r.DeviceID == "e1568c571e684e0fb1724da85d215dc0") {
			t.Errorf("%q: %+v, %v", query, r, err)
		}
	}
	if r, err := ParseRequest("OPTIONS", "", headers("MS-ASProtocolVersion", "17.0")); err != nil || r.Version != 0 {
		t.Errorf("a version to come: %+v, %v", r, err)
	}
	if r, err := ParseRequest("OPTIONS", "jAAJBAp2MTQwRGV2aWNlAApTbWFydFBob25l", http.Header{}); err != nil || r.Command != Options || r.DeviceID != "v140device" {
		t.Errorf("%+v, %v", r, err)
	}
}

// badRequest is a request that is refused, and how.
type badRequest struct {
	name, query string
	h           http.Header
	reason      string
	status      Status
	http        int
}

func (tt badRequest) check(t *testing.T) {
	r, err := ParseRequest("POST", tt.query, tt.h)
	var refused *RequestError
	if !errors.As(err, &refused) {
		t.Errorf("%s: accepted as %+v", tt.name, r)
	} else if refused.Reason != tt.reason || refused.Status != tt.status || refused.HTTPStatus != tt.http {
		t.Errorf("%s: %+v, want %s %d %d", tt.name, *refused, tt.reason, tt.status, tt.http)
	}
}

func TestPlainRefusals(t *testing.T) {
	with := func(s string) string { return plainQuery + "&" + s }
	long := strings.Repeat("a", 33)
	for _, tt := range []badRequest{
		{"no query", "", v161(), ReasonQueryMissing, 101, 400},
		{"query too long", with(strings.Repeat("x", MaxQuery)), v161(), ReasonQueryTooLong, 101, 400},
		{"too many parameters", with(strings.Repeat("a=b&", 40)), v161(), ReasonQueryMalformed, 101, 400},
		{"semicolon", with("a=b;DeviceId=x"), v161(), ReasonQueryMalformed, 101, 400},
		{"bad escape", with("a=%zz"), v161(), ReasonQueryMalformed, 101, 400},
		{"old escape", with("a=%u0041"), v161(), ReasonQueryMalformed, 101, 400},
		{"NUL in a name", with("User%00=x"), v161(), ReasonQueryMalformed, 101, 400},
		{"two commands", with("cmd=Sync"), v161(), ReasonParameterDuplicate, 101, 400},
		{"two users", with("USER=bob@contoso.com"), v161(), ReasonParameterDuplicate, 101, 400},
		{"two users, escaped", with("%55ser=bob@contoso.com"), v161(), ReasonParameterDuplicate, 101, 400},
		{"two devices", with("deviceid=x"), v161(), ReasonParameterDuplicate, 101, 400},
		{"the same device twice", with("DeviceId=OCVU77E6TT7JR3Q0H31158OU7C"), v161(), ReasonParameterDuplicate, 101, 400},
		{"two types", with("devicetype=x"), v161(), ReasonParameterDuplicate, 101, 400},
		{"unknown command", strings.Replace(plainQuery, "FolderSync", "Reboot", 1), v161(), ReasonCommandNotSupported, 137, 501},
		{"options by POST", strings.Replace(plainQuery, "FolderSync", "Options", 1), v161(), ReasonCommandNotSupported, 137, 501},
		{"no command", strings.Replace(plainQuery, "Cmd=FolderSync&", "", 1), v161(), ReasonCommandMissing, 137, 501},
		{"no version", plainQuery, http.Header{}, ReasonVersionMissing, 138, 400},
		{"unknown version", plainQuery, headers("MS-ASProtocolVersion", "17.0"), ReasonVersionNotSupported, 138, 400},
		{"two versions", plainQuery, headers("MS-ASProtocolVersion", "16.1", "MS-ASProtocolVersion", "14.1"), ReasonHeaderConflict, 101, 400},
		{"policy key is text", plainQuery, headers("MS-ASProtocolVersion", "16.1", "X-MS-PolicyKey", "x"), ReasonPolicyKeyInvalid, 101, 400},
		{"policy key too large", plainQuery, headers("MS-ASProtocolVersion", "16.1", "X-MS-PolicyKey", "4294967296"), ReasonPolicyKeyInvalid, 101, 400},
		{"no device", "Cmd=Sync&User=a&DeviceType=iPhone", v161(), ReasonDeviceIDMissing, 108, 400},
		{"empty device", "Cmd=Sync&User=a&DeviceId=&DeviceType=iPhone", v161(), ReasonDeviceIDMissing, 108, 400},
		{"long device", "Cmd=Sync&User=a&DeviceType=iPhone&DeviceId=" + long, v161(), ReasonDeviceIDInvalid, 108, 400},
		{"odd device", "Cmd=Sync&User=a&DeviceType=iPhone&DeviceId=a-b", v161(), ReasonDeviceIDInvalid, 108, 400},
		{"no type", "Cmd=Sync&User=a&DeviceId=x", v161(), ReasonDeviceTypeMissing, 109, 400},
		{"odd type", "Cmd=Sync&User=a&DeviceId=x&DeviceType=a-b", v161(), ReasonDeviceTypeInvalid, 109, 400},
		{"long type", "Cmd=Sync&User=a&DeviceId=x&DeviceType=" + long, v161(), ReasonDeviceTypeInvalid, 109, 400},
		{"odd user", "Cmd=Sync&User=a%0d%0ab&DeviceId=x&DeviceType=iPhone", v161(), ReasonUserInvalid, 101, 400},
		{"user is not UTF-8", "Cmd=Sync&User=%ff&DeviceId=x&DeviceType=iPhone", v161(), ReasonUserInvalid, 101, 400},
		{"odd flag", with("SaveInSent=maybe"), v161(), ReasonParameterInvalid, 101, 400},
		{"long parameter", with("ItemId=" + strings.Repeat("1", MaxParameter+1)), v161(), ReasonParameterInvalid, 101, 400},
	} {
		tt.check(t)
	}
	var refused *RequestError
	if _, err := ParseRequest("GET", plainQuery, v161()); !errors.As(err, &refused) || refused.HTTPStatus != 501 {
		t.Errorf("GET: %v", err)
	}
}

func TestBase64Refusals(t *testing.T) {
	odd, bare := allOf64(), strings.TrimRight(allOf64(), "=")
	for _, tt := range []badRequest{
		{"not base64", "????", v161(), ReasonQueryMalformed, 101, 400},
		{"line break", "jAAJBAp2MTQw\nRGV2aWNlAApTbWFydFBob25l", v161(), ReasonQueryMalformed, 101, 400},
		{"three paddings", "jAAJBAp2MTQwRGV2aWNlAApTbWFydFBob25l===", v161(), ReasonQueryMalformed, 101, 400},
		{"cut short", "jAAJBAp2MTQwRGV2aWNlAApTbWFydFBob25"[:32], v161(), ReasonQueryMalformed, 101, 400},
		{"base64, escaped twice", strings.ReplaceAll(url.QueryEscape(odd), "%", "%25"), nil, ReasonQueryMalformed, 101, 400},
		{"base64, a letter escaped", strings.Replace(odd, "A", "%41", 1), nil, ReasonQueryMalformed, 101, 400},
		{"base64, half an escape", strings.Replace(odd, "/", "%2", 1), nil, ReasonQueryMalformed, 101, 400},
		{"base64, escaped padding inside", bare + "%3DAAAA", nil, ReasonQueryMalformed, 101, 400},
		{"base64, three times padded", bare + "%3D%3d%3D", nil, ReasonQueryMalformed, 101, 400},
		{"base64, an escaped line end", bare + "%0A", nil, ReasonQueryMalformed, 101, 400},
		{"plain, wholly escaped", url.QueryEscape(plainQuery), nil, ReasonQueryMalformed, 101, 400},
		{"trailing byte, escaped", url.QueryEscape(query64(161, 0, "x", "", "iPhone", "\x01")), nil, ReasonQueryMalformed, 101, 400},
		{"trailing byte", query64(161, 0, "x", "", "iPhone", "\x01"), nil, ReasonQueryMalformed, 101, 400},
		{"trailing garbage", query64(161, 0, "x", "", "iPhone", "\x01\x05ab"), nil, ReasonQueryMalformed, 101, 400},
		{"unknown tag", query64(161, 0, "x", "", "iPhone", "\x09\x01a"), nil, ReasonQueryMalformed, 101, 400},
		{"tag twice", query64(161, 0, "x", "", "iPhone", "\x01\x01a\x01\x01a"), nil, ReasonParameterDuplicate, 101, 400},
		{"options of two bytes", query64(161, 0, "x", "", "iPhone", "\x07\x02\x01\x01"), nil, ReasonParameterInvalid, 101, 400},
		{"policy key of 3", query64(161, 0, "x", "abc", "iPhone", ""), nil, ReasonQueryMalformed, 101, 400},
		{"code 5", query64(161, 5, "x", "", "iPhone", ""), nil, ReasonCommandNotSupported, 137, 501},
		{"code 255", query64(161, 255, "x", "", "iPhone", ""), nil, ReasonCommandNotSupported, 137, 501},
		{"base64 of 12.0", query64(120, 0, "x", "", "iPhone", ""), nil, ReasonVersionNotSupported, 138, 400},
		{"versions disagree", query64(161, 0, "x", "", "iPhone", ""), headers("MS-ASProtocolVersion", "14.1"), ReasonHeaderConflict, 101, 400},
		{"policy keys disagree", query64(161, 0, "x", "\x01\x00\x00\x00", "iPhone", ""), headers("X-MS-PolicyKey", "2"), ReasonHeaderConflict, 101, 400},
		{"base64, no device", query64(161, 0, "", "", "iPhone", ""), nil, ReasonDeviceIDMissing, 108, 400},
		{"base64, 17 odd bytes", query64(161, 0, strings.Repeat("\x01", 17), "", "iPhone", ""), nil, ReasonDeviceIDInvalid, 108, 400},
		{"base64, 33 letters", query64(161, 0, strings.Repeat("a", 33), "", "iPhone", ""), nil, ReasonDeviceIDInvalid, 108, 400},
		{"base64, no type", query64(161, 0, "x", "", "", ""), nil, ReasonDeviceTypeMissing, 109, 400},
	} {
		tt.check(t)
	}
}

// A refusal is in the client's own words even where the query is wrong.
func TestRefusedRequestKnowsItsVersion(t *testing.T) {
	r, err := ParseRequest("POST", "DeviceId=a-b&Cmd=Ping&User=a&DeviceType=iPhone", v161())
	var refused *RequestError
	if !errors.As(err, &refused) || r.Command != Ping || r.Version != Version161 {
		t.Fatalf("%+v, %v", r, err)
	}
	if code, _, body := Refusal(r.Command, r.Version, refused.Status); code != 200 || len(body) == 0 {
		t.Errorf("HTTP %d with %d bytes", code, len(body))
	}
}

func TestVersionsAndCommands(t *testing.T) {
	for _, s := range []string{"2.5", "12.0", "12.1", "14.0", "14.1", "16.0", "16.1"} {
		if v, err := ParseVersion(s); err != nil || v.String() != s || !v.AtLeast(Version25) {
			t.Errorf("%s: %v, %v", s, v, err)
		}
	}
	for _, s := range []string{"", "16.2", "16", "161", "16.1 ", "1.0"} {
		if v, err := ParseVersion(s); err == nil {
			t.Errorf("%q is %v", s, v)
		}
	}
	if Version(0).String() != "" || Version120.AtLeast(Version121) {
		t.Error("version zero, or order")
	}
	if len(Commands()) != 20 {
		t.Errorf("%d commands", len(Commands()))
	}
	for _, c := range Commands() {
		code, ok := c.Code()
		byCode, err1 := CommandByCode(code)
		byName, err2 := ParseCommand(strings.ToUpper(c.String()))
		if !ok || err1 != nil || err2 != nil || byCode != c || byName != c {
			t.Errorf("%s: code %d, by code %s, by name %s", c, code, byCode, byName)
		}
	}
	for _, c := range []Command{NoCommand, Options, Options + 1} {
		if _, ok := c.Code(); ok || c.HasRoot(Version161) {
			t.Errorf("%q has a code or a root", c)
		}
	}
}

func TestLowerName(t *testing.T) {
	for _, name := range []string{"", "Cmd", "USER", "deviceType", "AttachmentName", "SaveInSentX", "attachmentnamed", "Dev\u0130ceId", "Cmd\u212a", "\u00c4", strings.Repeat("\u0130", 9)} {
		var room [longestName]byte
		if got, want := string(lowerName(room[:0], name)), strings.ToLower(name); got != want {
			t.Errorf("%q in lower case: %q, want %q", name, got, want)
		}
	}
	for _, known := range []string{"cmd", "user", "deviceid", "devicetype", "attachmentname", "collectionid", "itemid", "longid", "occurrence", "saveinsent"} {
		if len(known) > longestName {
			t.Errorf("%q is longer than longestName", known)
		}
	}
}
