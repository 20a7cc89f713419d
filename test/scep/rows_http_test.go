package scep_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"postern/test/scep"
)

// get asks an operation by GET.
func get(operation string) func(*talk) *answer {
	return func(k *talk) *answer {
		a := &answer{}
		a.http, a.err = k.client.Get(k.t.Context(), operation)
		return a
	}
}

// announced asks an operation of a server that has prepared its next CA; it keeps it for the rows that follow, of which it must change none.
func announced(operation string) func(*talk) *answer {
	return func(k *talk) *answer {
		k.must(k.server.prepareNext())
		return get(operation)(k)
	}
}

// gives is HTTP 200 with one of these content types.
func gives(types ...string) want {
	return want{"HTTP 200, " + strings.Join(types, " or "), func(_ *talk, a *answer) error {
		if a.http == nil || a.http.Status != http.StatusOK {
			return got(a)
		}
		if !slices.Contains(types, a.http.ContentType) {
			return fmt.Errorf("content type %s", a.http.ContentType)
		}
		return nil
	}}
}

func lists(words ...string) func(*talk, *answer) error {
	return func(_ *talk, a *answer) error {
		have := strings.Fields(string(a.http.Body))
		for _, w := range words {
			if !slices.Contains(have, w) {
				return fmt.Errorf("it does not list %s", w)
			}
		}
		return nil
	}
}

func capabilityRows() []row {
	caps, certs := gives("text/plain"), gives("application/x-x509-ca-cert", "application/x-x509-ca-ra-cert")
	return []row{
		{section: "3.5.1", sent: "GetCACaps", want: caps, send: get("GetCACaps")},
		{section: "3.5.1", sent: "GetCACaps with a message", want: caps, send: get("GetCACaps&message=contoso")},
		{section: "3.5.2", sent: "GetCACaps: what must be there", want: caps.and("AES, POSTPKIOperation, SHA-256 and SCEPStandard", lists("AES", "POSTPKIOperation",
			"SHA-256", "SCEPStandard")), send: get("GetCACaps")},
		{section: "3.5.2", sent: "GetCACaps: renewal", want: caps.and("Renewal", lists("Renewal")), send: get("GetCACaps")},
		{section: "3.5.2", sent: "GetCACaps: one keyword to a line", want: caps.and("separated by LF or CR LF", func(_ *talk, a *answer) error {
			for _, line := range strings.Split(strings.TrimSpace(string(a.http.Body)), "\n") {
				if line = strings.TrimSuffix(line, "\r"); line == "" || strings.ContainsAny(line, " \t\r,;") {
					return fmt.Errorf("a line %q", line)
				}
			}
			return nil
		}), send: get("GetCACaps")},
		{section: "2.9", sent: "GetCACaps: weak algorithms", want: caps.and("neither DES3 nor SHA-1 unless asked for", func(_ *talk, a *answer) error {
			for _, w := range []string{"DES", "DES3", "MD5", "SHA-1"} {
				if lists(w)(nil, a) == nil {
					return fmt.Errorf("it lists %s", w)
				}
			}
			return nil
		}), send: get("GetCACaps")},
		{section: "3.5.2", sent: "GetCACaps: GetNextCACert", want: caps.and("GetNextCACert", lists("GetNextCACert")), send: announced("GetCACaps"), needs: rotation},
		{section: "4.2.1", sent: "GetCACert", want: certs, send: get("GetCACert")},
		{section: "4.2.1", sent: "GetCACert with a message", want: certs, send: get("GetCACert&message=0")},
		{section: "4.2.1.2", sent: "GetCACert: a chain", want: certs.and("every certificate is signed by another in it, or by itself", chained), send: get("GetCACert")},
		{section: "3.4", sent: "GetCACert: a chain", want: certs.and("certificates only, without content", func(_ *talk, a *answer) error {
			if a.http.ContentType == "application/x-x509-ca-cert" {
				return nil
			}
			_, _, err := scep.ReadCertificates(a.http.Body)
			return err
		}), send: get("GetCACert")},
		{section: "2.1.2", sent: "GetCACert: whom to encrypt to", want: certs.and("an RSA certificate for digitalSignature and keyEncipherment",
			func(k *talk, _ *answer) error { _, err := scep.Recipient(k.chain); return err }), send: get("GetCACert")},
		{section: "ours", sent: "GetCACert: whom to encrypt to", want: certs.and("the first one: clients take it unread",
			func(k *talk, _ *answer) error {
				if !k.chain[0].Equal(k.to) {
					return fmt.Errorf("another comes first")
				}
				return nil
			}), send: get("GetCACert")},
		{section: "4.7.1", sent: "GetNextCACert", want: gives("application/x-x509-next-ca-cert").and("signed by the current CA", func(k *talk, a *answer) error {
			_, err := scep.ReadNext(a.http.Body, k.chain)
			return err
		}), send: announced("GetNextCACert"), needs: rotation},
		{section: "4.1", sent: "operation=Nonsense", want: rejected, send: get("Nonsense")},
		{section: "4.1", sent: "no operation", want: rejected, send: get("")},
	}
}

// chained checks that GetCACert is a whole chain.
func chained(k *talk, _ *answer) error {
	for _, c := range k.chain {
		signed := false
		for _, by := range k.chain {
			signed = signed || bytes.Equal(c.RawIssuer, by.RawSubject) && c.CheckSignatureFrom(by) == nil
		}
		if !signed {
			return fmt.Errorf("the issuer of %s is missing", c.Subject)
		}
	}
	return nil
}

// through sends the message in a way of its own.
func through(f func(k *talk, der []byte) (*scep.Response, error)) change {
	return func(r *request) {
		r.send = func(der []byte) (*scep.Response, error) { return f(r.k, der) }
	}
}

// byGET sends the message in a query, encoded by f.
func byGET(f func([]byte) string) change {
	return through(func(k *talk, der []byte) (*scep.Response, error) {
		return k.client.Get(k.t.Context(), "PKIOperation&message="+f(der))
	})
}

func byPOST(behind, contentType string, body func([]byte) io.Reader) change {
	return through(func(k *talk, der []byte) (*scep.Response, error) {
		return k.client.Do(k.t.Context(), http.MethodPost, behind, contentType, body(der))
	})
}

func transportRows() []row {
	whole := func(b []byte) io.Reader { return bytes.NewReader(b) }
	std := base64.StdEncoding.EncodeToString
	return []row{
		{section: "4.3", sent: "PKIOperation by POST", want: success.and("application/x-pki-message", func(_ *talk, a *answer) error {
			if a.http.ContentType != "application/x-pki-message" {
				return fmt.Errorf("content type %s", a.http.ContentType)
			}
			return nil
		}), send: send()},
		{section: "4.3", sent: "POST without Content-Type", want: success, send: send(byPOST("?operation=PKIOperation", "", whole))},
		{section: "4.3", sent: "POST as application/octet-stream", want: success, send: send(byPOST("?operation=PKIOperation", "application/octet-stream", whole))},
		{section: "4.3", sent: "POST in chunks, without Content-Length", want: success,
			send: send(byPOST("?operation=PKIOperation", "application/x-pki-message", func(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b)) }))},
		{section: "4.1", sent: "POST behind /pkiclient.exe", want: success, send: send(byPOST("/pkiclient.exe?operation=PKIOperation", "application/x-pki-message", whole))},
		{section: "4.1", sent: "PKIOperation by GET, base64 escaped", want: success, send: send(byGET(func(b []byte) string { return url.QueryEscape(std(b)) }))},
		{section: "4.1", sent: "GET with \"+\" not escaped", want: success, send: send(byGET(func(b []byte) string {
			return strings.NewReplacer("/", "%2F", "=", "%3D").Replace(std(b))
		}))},
		{section: "4.1", sent: "GET with \"+\", \"/\" and \"=\" not escaped", want: success, send: send(byGET(std))},
		{section: "4.1", sent: "GET with line breaks in the base64", want: success, send: send(byGET(func(b []byte) string {
			var lines []string
			for s := range slices.Chunk([]byte(std(b)), 64) {
				lines = append(lines, string(s))
			}
			return url.QueryEscape(strings.Join(lines, "\n"))
		}))},
		{section: "ours", sent: "GET with URL-safe base64 without padding", want: success, send: send(byGET(base64.RawURLEncoding.EncodeToString))},
		{section: "ours", sent: "GET of 8 kB: a renewal with its chain and long names", want: success, send: func(k *talk) *answer {
			e := k.enrol()
			return k.renewal(e, byGET(func(b []byte) string { return url.QueryEscape(std(b)) }), msg(func(m *scep.Message) {
				m.Certificates = append(m.Certificates, k.chain...)
				for size := 0; size < 3500; size += len(k.ca.Raw) {
					m.Certificates = append(m.Certificates, k.ca)
				}
			}))
		}},
		{section: "4.1", sent: "PUT", want: rejected, send: func(k *talk) *answer {
			a := &answer{}
			a.http, a.err = k.client.Do(k.t.Context(), http.MethodPut, "?operation=PKIOperation", "", nil)
			return a
		}},
		{section: "4.1", sent: "an issuer that is not there", want: rejected, send: func(k *talk) *answer {
			a := &answer{}
			a.http, a.err = k.client.Do(k.t.Context(), http.MethodGet, "-not-there?operation=GetCACert", "", nil)
			return a
		}},
	}
}

// nested is a message that is nothing but nesting.
func nested(depth int) []byte { return bytes.Repeat([]byte{0x30, 0x80}, depth) }

func malformedRows() []row {
	body := func(b []byte) func(*talk) *answer { return func(k *talk) *answer { return k.raw(b) } }
	return []row{
		{section: "4.3", sent: "an empty POST", want: rejected, send: body(nil)},
		{section: "4.1", sent: "GET without message", want: rejected, send: get("PKIOperation")},
		{section: "4.1", sent: "GET with something that is not base64", want: rejected, send: get("PKIOperation&message=%21%21")},
		{section: "3.1", sent: "text", want: rejected, send: body([]byte("hello"))},
		{section: "3.1", sent: "two bytes, 3f 81", want: rejected, send: body([]byte{0x3f, 0x81})},
		{section: "3.1", sent: "three bytes, 30 82 01", want: rejected, send: body([]byte{0x30, 0x82, 0x01})},
		{section: "3.1", sent: "a length of 2 GiB", want: rejected, send: body([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x02, 0x01, 0x01})},
		{section: "3.1", sent: "10,000 levels of nesting", want: rejected, send: body(nested(10_000))},
		{section: "ours", sent: "1 MiB of zeros", want: rejected, send: body(make([]byte, 1<<20))},
		{section: "ours", sent: "1 MiB of nesting, then a GetCACert", want: want{"HTTP 4xx or a closed connection, and the server lives", func(k *talk, a *answer) error {
			if _, err := k.client.Chain(k.t.Context()); err != nil {
				return fmt.Errorf("the server does not answer any more")
			}
			if a.http != nil && a.http.Status >= 500 {
				return got(a)
			}
			return nil
		}}, send: body(nested(1 << 19))},
		{section: "3.1", sent: "half a message", want: rejected, send: send(der(func(b []byte) []byte { return b[:len(b)/2] }))},
		{section: "3.1", sent: "a message with something behind it", want: refused, send: send(der(func(b []byte) []byte { return append(b, 0x05, 0x00) }))},
		{section: "3.1", sent: "a message in BER, of indefinite length", want: success, send: send(der(indefinite))},
		{section: "3.1", sent: "a bare EnvelopedData", want: rejected, send: func(k *talk) *answer {
			b, err := scep.Seal{To: k.to, Cipher: scep.AES128}.Do([]byte("x"))
			k.must(err)
			return k.raw(b)
		}},
		{section: "3.4", sent: "a certificates-only message as request", want: rejected, send: func(k *talk) *answer {
			r, err := k.client.Get(k.t.Context(), "GetCACert")
			k.must(err)
			return k.raw(r.Body)
		}},
	}
}

// indefinite writes the outer SEQUENCE of a DER message with an indefinite length.
func indefinite(der []byte) []byte {
	header := 2
	if der[1] >= 0x80 {
		header += int(der[1] & 0x7f)
	}
	return slices.Concat([]byte{0x30, 0x80}, der[header:], []byte{0, 0})
}
