package eas

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"strings"
	"testing"
	"time"
)

func request(namespace, email, schema string) string {
	return `<?xml version="1.0" encoding="utf-8"?>
<Autodiscover xmlns="` + namespace + `">
 <Request><EMailAddress>` + email + `</EMailAddress>
  <AcceptableResponseSchema>` + schema + `</AcceptableResponseSchema></Request></Autodiscover>`
}

func TestAutodiscoverXML(t *testing.T) {
	email, err := ParseAutodiscover([]byte(request(schemaRequest, " Alice&amp;co@Contoso.com ", schemaResponse)))
	if err != nil || email != "alice&co@contoso.com" {
		t.Fatalf("%q, %v", email, err)
	}
	var answer struct {
		XMLName  xml.Name `xml:"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006 Autodiscover"`
		Response struct {
			XMLName xml.Name
			User    struct{ EMailAddress string }
			Action  struct {
				Settings struct {
					Server struct{ Type, Url, Name string }
				}
			}
		}
	}
	const server = "https://mail.contoso.com/Microsoft-Server-ActiveSync?a=1&b=2"
	if err := xml.Unmarshal(AutodiscoverXML(email, server), &answer); err != nil {
		t.Fatal(err)
	}
	s := answer.Response.Action.Settings.Server
	if answer.Response.XMLName.Space != schemaResponse || s.Type != "MobileSync" || s.Url != server || s.Name != server || answer.Response.User.EMailAddress != email {
		t.Errorf("%+v", answer)
	}
}

func TestAutodiscoverXMLRefusals(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 11, 12, 0, time.UTC)
	const outlook = "http://schemas.microsoft.com/exchange/autodiscover/outlook/"
	good := request(schemaRequest, "a@b.c", schemaResponse)
	for name, tt := range map[string]struct{ body, reason, says string }{
		"empty":             {"", AutodiscoverInvalidRequest, "<ErrorCode>600<"},
		"not XML":           {"{}", AutodiscoverInvalidRequest, "<ErrorCode>600<"},
		"too long":          {good + strings.Repeat(" ", MaxAutodiscover), AutodiscoverInvalidRequest, "<ErrorCode>600<"},
		"cut off":           {good[:len(good)-4], AutodiscoverInvalidRequest, "<ErrorCode>600<"},
		"document type":     {strings.Replace(good, "?>", `?><!DOCTYPE a [<!ENTITY x "y">]>`, 1), AutodiscoverInvalidRequest, "<ErrorCode>600<"},
		"unknown entity":    {request(schemaRequest, "&x;@b.c", schemaResponse), AutodiscoverInvalidRequest, "<ErrorCode>600<"},
		"two roots":         {good + `<Autodiscover xmlns="` + schemaRequest + `"/>`, AutodiscoverInvalidRequest, "<ErrorCode>600<"},
		"two addresses":     {request(schemaRequest, "a@b.c</EMailAddress><EMailAddress>d@e.f", schemaResponse), AutodiscoverInvalidRequest, "<ErrorCode>600<"},
		"nested":            {request(schemaRequest, "<b>a@b.c</b>", schemaResponse), AutodiscoverInvalidRequest, "<ErrorCode>600<"},
		"Outlook":           {request(outlook+"requestschema/2006", "a@b.c", outlook+"responseschema/2006a"), AutodiscoverInvalidSchema, "<ErrorCode>601<"},
		"Outlook answer":    {request(schemaRequest, "a@b.c", outlook+"responseschema/2006a"), AutodiscoverInvalidSchema, "<ErrorCode>601<"},
		"no address":        {request(schemaRequest, "", schemaResponse), AutodiscoverInvalidAddress, "<Status>2<"},
		"not an address":    {request(schemaRequest, "alice", schemaResponse), AutodiscoverInvalidAddress, "<Status>2<"},
		"two at signs":      {request(schemaRequest, "a@b@c", schemaResponse), AutodiscoverInvalidAddress, "<Status>2<"},
		"address in angles": {request(schemaRequest, "&lt;a@b.c&gt;", schemaResponse), AutodiscoverInvalidAddress, "<Status>2<"},
	} {
		email, err := ParseAutodiscover([]byte(tt.body))
		var refused *AutodiscoverError
		if !errors.As(err, &refused) || refused.Reason != tt.reason || email != "" {
			t.Errorf("%s: %q, %v, want %s", name, email, err, tt.reason)
		}
		document := AutodiscoverErrorXML(err, now)
		if err := xml.Unmarshal(document, &struct{}{}); err != nil || !strings.Contains(string(document), tt.says) {
			t.Errorf("%s: %v: %s", name, err, document)
		}
	}
}

func TestAutodiscoverJSON(t *testing.T) {
	for _, tt := range [][2]string{
		{"/autodiscover/autodiscover.json", "Email=Alice@Contoso.com&Protocol=ActiveSync"},
		{"/autodiscover/autodiscover.json", "protocol=activesync&email=alice%40contoso.com&RedirectCount=1"},
		{"/autodiscover/autodiscover.json/v1.0/Alice@contoso.com", "Protocol=ActiveSync"},
		{"/autodiscover/autodiscover.json/v1.0/Alice@contoso.com", "Protocol=ActiveSync&Email=alice@Contoso.com"},
	} {
		email, protocol, err := ParseAutodiscoverJSON(tt[0], tt[1], ProtocolActiveSync)
		if err != nil || email != "alice@contoso.com" || !strings.Contains(tt[1], "rotocol="+protocol) || protocol == "" {
			t.Errorf("%s?%s: %q, %q, %v", tt[0], tt[1], email, protocol, err)
		}
	}
	if email, _, err := ParseAutodiscoverJSON("/autodiscover/autodiscover.json", "Email=alice+news@contoso.com&Protocol=ActiveSync", ProtocolActiveSync); err != nil || email != "alice+news@contoso.com" {
		t.Errorf("a sign in the address: %q, %v", email, err)
	}
	if got := string(AutodiscoverJSON("ActiveSync", "https://h/x?a&b")); got != `{"Protocol":"ActiveSync","Url":"https://h/x?a&b"}` {
		t.Error(got)
	}
}

func TestAutodiscoverJSONRefusals(t *testing.T) {
	const path = "/autodiscover/autodiscover.json"
	for query, tt := range map[string][2]string{
		"Email=a@b.c":                                   {AutodiscoverNoProtocol, "MandatoryParameterMissing"},
		"Email=a@b.c&Protocol=Ews":                      {AutodiscoverInvalidProtocol, "InvalidProtocol"},
		"Protocol=ActiveSync":                           {AutodiscoverInvalidAddress, "InvalidUserId"},
		"Email=a@b.c&email=d@e.f&Protocol=ActiveSync":   {AutodiscoverInvalidRequest, "InvalidRequest"},
		"Email=a@b.c&Email=d@e.f&Protocol=ActiveSync":   {AutodiscoverInvalidRequest, "InvalidRequest"},
		"Email=a@b.c;Protocol=ActiveSync":               {AutodiscoverInvalidRequest, "InvalidRequest"},
		"Email=" + strings.Repeat("a", MaxQuery) + "@b": {AutodiscoverInvalidRequest, "InvalidRequest"},
	} {
		email, _, err := ParseAutodiscoverJSON(path, query, ProtocolActiveSync)
		var refused *AutodiscoverError
		if !errors.As(err, &refused) || refused.Reason != tt[0] || email != "" {
			t.Errorf("%.60s: %q, %v, want %s", query, email, err, tt[0])
		}
		var document map[string]string
		if err := json.Unmarshal(AutodiscoverErrorJSON(err), &document); err != nil || document["ErrorCode"] != tt[1] {
			t.Errorf("%.60s: %v, %v", query, document, err)
		}
	}
	if _, _, err := ParseAutodiscoverJSON(path+"/v1.0/a@b.c", "Protocol=ActiveSync&Email=d@e.f", ProtocolActiveSync); err == nil {
		t.Error("two addresses are one")
	}
	if email, protocol, err := ParseAutodiscoverJSON(path, "Email=a@b.c&Protocol=ews", ProtocolActiveSync, ProtocolEWS); err != nil || email != "a@b.c" || protocol != "ews" {
		t.Errorf("where it is served: %q, %q, %v", email, protocol, err)
	}
	if got := string(AutodiscoverErrorJSON(&AutodiscoverError{AutodiscoverInvalidProtocol}, ProtocolActiveSync, ProtocolEWS)); !strings.Contains(got, "Supported values are 'ActiveSync,EWS'") {
		t.Error(got)
	}
}
