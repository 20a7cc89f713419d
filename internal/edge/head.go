package edge

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// field is a header with its values.
type field struct {
	name   string
	values []string
}

// fieldsOfPhone is how many headers the request of a phone seldom has more of.
const fieldsOfPhone = 24

// appendRequest appends a request to HTTP/1.1 with its whole body as (*http.Request).Write would write it, to the byte, but without a dozen of objects on the
// way. What is out of the ordinary net/http writes itself.
func appendRequest(b []byte, r *http.Request, body []byte) ([]byte, error) {
	path := r.URL.EscapedPath()
	if !plainHost(r.Host) || r.URL.Opaque != "" || path == "" || hasControl(path) || hasControl(r.URL.RawQuery) || r.Method == "" || r.Header["Connection"] != nil || r.TransferEncoding != nil || r.Trailer != nil {
		return appendOdd(b, r, body)
	}
	b = append(append(append(b, r.Method...), ' '), path...)
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		b = append(append(b, '?'), r.URL.RawQuery...)
	}
	b = append(append(append(b, " HTTP/1.1\r\nHost: "...), r.Host...), "\r\n"...)
	agent := "Go-http-client/1.1" // nobody asks for it; see outgoing
	if values, ok := r.Header["User-Agent"]; ok {
		if agent = ""; len(values) > 0 {
			agent = values[0]
		}
	}
	if agent != "" {
		b = appendField(b, "User-Agent", agent)
	}
	if r.Close {
		b = append(b, "Connection: close\r\n"...)
	}
	if len(body) > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10), "\r\n"...)
	}
	var room [fieldsOfPhone]field
	fields := room[:0]
	for name, values := range r.Header {
		switch name {
		case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
		default:
			fields = append(fields, field{name, values})
		}
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for _, f := range fields {
		if !token(f.name) {
			continue
		}
		for _, v := range f.values {
			b = appendField(b, f.name, v)
		}
	}
	return append(append(b, "\r\n"...), body...), nil
}

// appendOdd is appendRequest for any request.
func appendOdd(b []byte, r *http.Request, body []byte) ([]byte, error) {
	out, w := *r, bytes.NewBuffer(b)
	out.Body, out.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(body))
	}
	err := out.Write(w)
	return w.Bytes(), err
}

// newlines become blanks, as net/http has it: no value begins another header.
var newlines = strings.NewReplacer("\n", " ", "\r", " ")

func appendField(b []byte, name, value string) []byte {
	if strings.ContainsAny(value, "\r\n") {
		value = newlines.Replace(value)
	}
	return append(append(append(append(b, name...), ": "...), strings.Trim(value, " \t\r\n")...), "\r\n"...)
}

// token reports whether s is a name that a header may have (RFC 9110, section 5.6.2).
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// plainHost reports whether a host is made of nothing that net/http would write in another way.
func plainHost(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '.' && c != '-' && c != ':' && c != '[' && c != ']' {
			return false
		}
	}
	return s != ""
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}
