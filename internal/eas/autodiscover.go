package eas

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
)

// MaxAutodiscover is how long an Autodiscover request may be, in bytes.
const MaxAutodiscover = 8 << 10

// The namespaces of Autodiscover (MS-ASCMD, section 2.2.1.1).
const (
	schemaRequest  = "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/requestschema/2006"
	schemaResponse = "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006"
	schemaOuter    = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
)

// The codes of an [AutodiscoverError].
const (
	AutodiscoverInvalidRequest  = "invalid_request"        // not a request at all
	AutodiscoverInvalidSchema   = "schema_not_available"   // for another protocol, such as that of Outlook
	AutodiscoverInvalidAddress  = "invalid_address"        // no e-mail address
	AutodiscoverInvalidProtocol = "protocol_not_available" // JSON: one that is not served
	AutodiscoverNoProtocol      = "protocol_missing"       // JSON: none
)

// AutodiscoverError is a request that is refused. It holds nothing that the client sent.
type AutodiscoverError struct{ Reason string }

func (e *AutodiscoverError) Error() string { return "read Autodiscover request: " + e.Reason }

// ParseAutodiscover reads the XML request for ActiveSync settings (MS-ASCMD, section 2.2.1.1) and gives the e-mail address
// in lower case. The error is an [*AutodiscoverError].
func ParseAutodiscover(body []byte) (email string, err error) {
	if len(body) > MaxAutodiscover {
		return "", &AutodiscoverError{AutodiscoverInvalidRequest}
	}
	fields, namespace, ok := autodiscoverFields(body)
	switch {
	case !ok:
		return "", &AutodiscoverError{AutodiscoverInvalidRequest}
	case namespace != schemaRequest || fields["AcceptableResponseSchema"] != schemaResponse:
		return "", &AutodiscoverError{AutodiscoverInvalidSchema}
	}
	return mailAddress(fields["EMailAddress"])
}

// autodiscoverFields collects the texts of Autodiscover/Request/*. It refuses what the two elements do not need: document
// types, a second element of one name, deep nesting, another namespace inside.
func autodiscoverFields(body []byte) (fields map[string]string, namespace string, ok bool) {
	d := newXMLDecoder(body)
	if d == nil {
		return nil, "", false
	}
	fields = map[string]string{}
	var path []string
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return fields, namespace, namespace != ""
		}
		if err != nil {
			return nil, "", false
		}
		switch t := t.(type) {
		case xml.Directive:
			return nil, "", false
		case xml.StartElement:
			if len(path) == 0 {
				if namespace != "" || t.Name.Local != "Autodiscover" || t.Name.Space == "" {
					return nil, "", false
				}
				namespace = t.Name.Space
			}
			_, again := fields[t.Name.Local]
			if t.Name.Space != namespace || len(path) == 1 && t.Name.Local != "Request" || len(path) > 2 || len(path) == 2 && again {
				return nil, "", false
			}
			if path = append(path, t.Name.Local); len(path) == 3 {
				fields[t.Name.Local] = ""
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.CharData:
			if len(path) == 3 {
				fields[path[2]] += string(t)
			}
		}
	}
}

// mailAddress checks that s has the form of an address, enough to find its mail domain, and gives it in lower case.
func mailAddress(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || domain == "" || len(s) > MaxUser || !printable(s) || strings.ContainsAny(s, " <>\"\\/") || strings.Contains(domain, "@") {
		return "", &AutodiscoverError{AutodiscoverInvalidAddress}
	}
	return s, nil
}

// AutodiscoverXML gives the answer that sends a phone to server, an https URL (MS-ASCMD, section 2.2.1.1).
func AutodiscoverXML(email, server string) []byte {
	return fmt.Appendf(nil, xml.Header+`<Autodiscover xmlns="%s"><Response xmlns="%s"><Culture>en:us</Culture>`+
		`<User><DisplayName>%s</DisplayName><EMailAddress>%s</EMailAddress></User>`+
		`<Action><Settings><Server><Type>MobileSync</Type><Url>%s</Url><Name>%s</Name></Server></Settings></Action>`+
		`</Response></Autodiscover>`,
		schemaOuter, schemaResponse, escape(email), escape(email), escape(server), escape(server))
}

// AutodiscoverErrorXML gives the error document for what [ParseAutodiscover] refused: a mobilesync error with Status 2, as
// for a bad address, or ErrorCode 600 (invalid request) and 601 (no provider for the schema) in the outer schema (MS-ASCMD, section
// 2.2.3.61; MS-OXDSCLI, section 2.2.4). It is sent with HTTP 200.
func AutodiscoverErrorXML(err error, now time.Time) []byte {
	code, message := 600, "Invalid Request"
	var refused *AutodiscoverError
	if errors.As(err, &refused) {
		switch refused.Reason {
		case AutodiscoverInvalidSchema:
			code, message = 601, "Provider is not available"
		case AutodiscoverInvalidAddress:
			return fmt.Appendf(nil, xml.Header+`<Autodiscover xmlns="%s"><Response xmlns="%s"><Culture>en:us</Culture><User/>`+
				`<Action><Error><Status>2</Status><Message>The e-mail address is not valid.</Message><DebugData>MailUser</DebugData></Error></Action>`+
				`</Response></Autodiscover>`, schemaOuter, schemaResponse)
		}
	}
	return fmt.Appendf(nil, xml.Header+`<Autodiscover xmlns="%s"><Response><Error Time="%s" Id="0">`+
		`<ErrorCode>%d</ErrorCode><Message>%s</Message><DebugData/></Error></Response></Autodiscover>`,
		schemaOuter, now.UTC().Format("15:04:05.0000000"), code, message)
}

func escape(s string) string {
	var b strings.Builder
	// A strings.Builder does not fail.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// The protocols that JSON Autodiscover may be asked for, of which the letter case does not matter.
const (
	ProtocolActiveSync = "ActiveSync"
	ProtocolEWS        = "EWS"
)

// ParseAutodiscoverJSON reads the JSON kind of request: /autodiscover/autodiscover.json?Email=A&Protocol=ActiveSync, or with the
// address as the last segment of the path, .../autodiscover.json/v1.0/A. path is the decoded one. It gives the e-mail
// address in lower case, and the protocol, one of those that are served, as it was written. The error is an [*AutodiscoverError].
func ParseAutodiscoverJSON(path, rawQuery string, served ...string) (email, protocol string, err error) {
	found, err := autodiscoverQuery(path, rawQuery)
	if err != nil {
		return "", "", err
	}
	protocol = found["protocol"]
	switch {
	case protocol == "":
		return "", "", &AutodiscoverError{AutodiscoverNoProtocol}
	case !slices.ContainsFunc(served, func(s string) bool { return strings.EqualFold(s, protocol) }):
		return "", "", &AutodiscoverError{AutodiscoverInvalidProtocol}
	}
	address := found["email"]
	if segment := path[strings.LastIndex(path, "/")+1:]; strings.Contains(segment, "@") {
		if address != "" && !strings.EqualFold(address, segment) {
			return "", "", &AutodiscoverError{AutodiscoverInvalidRequest}
		}
		address = segment
	}
	email, err = mailAddress(address)
	return email, protocol, err
}

// autodiscoverQuery gives the parameters by their names in lower case. None may come twice.
func autodiscoverQuery(path, rawQuery string) (map[string]string, error) {
	if len(path)+len(rawQuery) > MaxQuery {
		return nil, &AutodiscoverError{AutodiscoverInvalidRequest}
	}
	// The sign of alice+news@contoso.com is not escaped by everybody, and nothing here has a blank.
	values, err := url.ParseQuery(strings.ReplaceAll(rawQuery, "+", "%2B"))
	if err != nil {
		return nil, &AutodiscoverError{AutodiscoverInvalidRequest}
	}
	found := map[string]string{}
	for name, v := range values {
		name = strings.ToLower(name)
		if _, again := found[name]; again || len(v) > 1 {
			return nil, &AutodiscoverError{AutodiscoverInvalidRequest}
		}
		found[name] = v[0]
	}
	return found, nil
}

// AutodiscoverJSON gives the answer that sends a client to server, an https URL, for the protocol as it wrote it. Its type is application/json.
func AutodiscoverJSON(protocol, server string) []byte {
	return encodeJSON(struct{ Protocol, Url string }{protocol, server})
}

// AutodiscoverErrorJSON gives the error document for what [ParseAutodiscoverJSON] refused, where these protocols are served. It is sent with HTTP 400.
func AutodiscoverErrorJSON(err error, served ...string) []byte {
	code, message := "InvalidRequest", "The request is not valid."
	var refused *AutodiscoverError
	if errors.As(err, &refused) {
		switch refused.Reason {
		case AutodiscoverNoProtocol:
			code, message = "MandatoryParameterMissing", "A valid value must be provided for the query parameter 'Protocol'"
		case AutodiscoverInvalidProtocol:
			code, message = "InvalidProtocol", "The given protocol value is invalid. Supported values are '"+strings.Join(served, ",")+"'"
		case AutodiscoverInvalidAddress:
			code, message = "InvalidUserId", "A valid smtp address must be provided"
		}
	}
	return encodeJSON(struct{ ErrorCode, ErrorMessage string }{code, message})
}

// encodeJSON writes a struct of strings, which cannot fail, with "&" and the like as they are.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return bytes.TrimSpace(b.Bytes())
}
