package probe_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/revocation/probe"
)

// authority signs what a test wants, right or wrong.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB, change func(*x509.Certificate)) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Issuing CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign, SubjectKeyId: []byte{1, 2, 3}}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{t, key, cert}
}

// crl is a CRL to be signed.
type crl struct {
	number, base         int64 // base 0: a complete CRL
	from, until, next    time.Time
	freshest             string
	entries              []x509.RevocationListEntry
	more                 []pkix.Extension
	indicatorNotCritical bool
}

func (a authority) sign(c crl) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(c.number), ThisUpdate: c.from, NextUpdate: c.until, RevokedCertificateEntries: c.entries, ExtraExtensions: slices.Clone(c.more)}
	add := func(critical bool, v any, oid ...int) {
		der, err := asn1.Marshal(v)
		if err != nil {
			a.t.Error(err)
		}
		list.ExtraExtensions = append(list.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: der})
	}
	if c.base != 0 {
		add(!c.indicatorNotCritical, c.base, 2, 5, 29, 27)
	}
	if !c.next.IsZero() {
		add(false, c.next.UTC(), 1, 3, 6, 1, 4, 1, 311, 21, 4)
	}
	if c.freshest != "" {
		inner := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(c.freshest)}
		full, err := asn1.Marshal(inner)
		if err != nil {
			a.t.Error(err)
		}
		full, err = asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: full})
		if err != nil {
			a.t.Error(err)
		}
		name := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: full}
		add(false, []struct{ Name asn1.RawValue }{{name}}, 2, 5, 29, 46)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Error(err)
	}
	return der
}

// shift moves all times.
func (c *crl) shift(d time.Duration) {
	c.from, c.until, c.next = c.from.Add(d), c.until.Add(d), c.next.Add(d)
	for i := range c.entries {
		c.entries[i].RevocationTime = c.entries[i].RevocationTime.Add(d)
	}
}

// world is a distribution point whose answers a test spoils.
type world struct {
	authority
	base, delta crl
	url         string
	answers     map[string]http.HandlerFunc // instead of the CRLs, by path
	target      probe.Target
	limits      probe.Limits
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{authority: newAuthority(t, func(*x509.Certificate) {}), answers: map[string]http.HandlerFunc{}, limits: probe.Public()}
	s := httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(s.Close)
	w.url = s.URL
	now := time.Now().UTC().Truncate(time.Second)
	gone := x509.RevocationListEntry{SerialNumber: big.NewInt(7), RevocationTime: now.Add(-2 * time.Hour), ReasonCode: 1}
	w.base = crl{number: 10, from: now.Add(-time.Hour), until: now.Add(7 * 24 * time.Hour), next: now.Add(24 * time.Hour), entries: []x509.RevocationListEntry{gone},
		freshest: w.url + "/issuing-delta.crl"}
	w.delta = crl{number: 11, base: 10, from: now.Add(-time.Minute), until: now.Add(24 * time.Hour), next: now.Add(time.Hour)}
	w.target = probe.Target{Name: "issuing", URL: w.url + "/issuing.crl", Follow: true, From: w.url + "/issuing.cer"}
	return w
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	if f := w.answers[r.URL.Path]; f != nil {
		f(rw, r)
		return
	}
	switch r.URL.Path {
	case "/issuing.crl":
		_, _ = rw.Write(w.sign(w.base))
	case "/issuing-delta.crl":
		_, _ = rw.Write(w.sign(w.delta))
	case "/issuing.cer":
		_, _ = rw.Write(w.cert.Raw)
	default:
		http.NotFound(rw, r)
	}
}

// body answers with these octets.
func body(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// stall says nothing until the client goes away.
func stall(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// trickle begins, and never ends.
func trickle(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte{0x30})
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// codes returns severity, subject and code of every finding, but that loopback is not reachable for Microsoft, which is true of every test.
func codes(r probe.Report) []string {
	var out []string
	for _, f := range r.Findings {
		if strings.Contains(f.Text, "where Microsoft cannot reach it") {
			continue
		}
		out = append(out, strings.TrimSpace(string(f.Severity)+" "+f.About+" "+f.Code))
	}
	return out
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*world)
		want  []string
	}{
		"as it should be":     {func(*world) {}, nil},
		"no delta configured": {func(w *world) { w.target.Follow = false }, nil},
		"the same number":     {func(w *world) { w.base.number, w.delta.base = 11, 9 }, nil},
		"PEM certificate":     {func(w *world) { w.answers["/issuing.cer"] = body(pemOf("CERTIFICATE", w.cert.Raw)) }, nil},
		"certificate missing": {func(w *world) { w.answers["/issuing.cer"] = http.NotFound }, []string{"warning ca", "warning ca"}},
		"certificate long":    {func(w *world) { w.answers["/issuing.cer"] = body(make([]byte, 70<<10)) }, []string{"warning ca", "warning ca"}},
		"certificate spoilt":  {func(w *world) { w.answers["/issuing.cer"] = body([]byte{0x30, 0}) }, []string{"warning ca", "warning ca"}},
		"CA expired": {func(w *world) {
			w.authority = newAuthority(w.t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		},
			[]string{"error ca AADSTS500172"}},
		"CA of the future": {func(w *world) {
			w.authority = newAuthority(w.t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
		},
			[]string{"error ca AADSTS500172"}},
		"CA object too large": {func(w *world) {
			w.authority = newAuthority(w.t, func(c *x509.Certificate) { c.DNSNames = []string{strings.Repeat("x", 9000)} })
		},
			[]string{"warning ca"}},
		"not a CA's": {func(w *world) {
			w.target.Certificate = newAuthority(w.t, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, 0 }).cert
		},
			[]string{"error ca AADSTS2205015", "error base AADSTS2205015", "error delta AADSTS2205015"}},
		"another key": {func(w *world) { w.target.Certificate = newAuthority(w.t, func(*x509.Certificate) {}).cert }, []string{"error base AADSTS2205015", "error delta AADSTS2205015"}},
		"another SKI": {func(w *world) {
			w.target.Certificate = newAuthority(w.t, func(c *x509.Certificate) { c.SubjectKeyId = []byte{9} }).cert
		}, []string{"error base AADSTS2205015", "error delta AADSTS2205015"}},
		"another name": {func(w *world) {
			w.target.Certificate = newAuthority(w.t, func(c *x509.Certificate) { c.Subject.CommonName = "x" }).cert
		}, []string{"error base AADSTS2205015", "error delta AADSTS2205015"}},
		"delta alone":         {func(w *world) { w.target.DeltaURL, w.target.URL = w.url+"/issuing-delta.crl", "" }, []string{"error base AADSTS500177"}},
		"https":               {func(w *world) { w.target.URL = "https" + strings.TrimPrefix(w.target.URL, "http") }, []string{"error base", "error base AADSTS500178"}},
		"ldap":                {func(w *world) { w.target.URL = "ldap:///CN=ca" }, []string{"error base"}},
		"no extension":        {func(w *world) { w.target.URL = w.url + "/crl"; w.answers["/crl"] = body(w.sign(w.base)) }, []string{"error base"}},
		"query":               {func(w *world) { w.target.URL += "?id=1" }, []string{"error base"}},
		"nobody there":        {func(w *world) { w.target.URL = "http://127.0.0.1:1/issuing.crl" }, []string{"error base AADSTS500178"}},
		"forbidden":           {func(w *world) { w.answers["/issuing.crl"] = status(403) }, []string{"error base AADSTS500173"}},
		"redirect":            {func(w *world) { w.answers["/issuing.crl"] = http.RedirectHandler("/other.crl", 302).ServeHTTP }, []string{"error base AADSTS500173"}},
		"delta missing":       {func(w *world) { w.answers["/issuing-delta.crl"] = http.NotFound }, []string{"error delta AADSTS500173"}},
		"PEM":                 {func(w *world) { w.answers["/issuing.crl"] = body(pemOf("X509 CRL", w.sign(w.base))) }, []string{"error base AADSTS2205011"}},
		"a page":              {func(w *world) { w.answers["/issuing.crl"] = body([]byte("<html>sign in</html>")) }, []string{"error base AADSTS2205011"}},
		"nothing":             {func(w *world) { w.answers["/issuing.crl"] = body(nil) }, []string{"error base AADSTS2205011"}},
		"a certificate":       {func(w *world) { w.answers["/issuing.crl"] = body(w.cert.Raw) }, []string{"error base AADSTS500174"}},
		"cut off":             {func(w *world) { b := w.sign(w.base); w.answers["/issuing.crl"] = body(b[:len(b)-1]) }, []string{"error base AADSTS2205011"}},
		"more behind":         {func(w *world) { w.answers["/issuing.crl"] = body(append(w.sign(w.base), 0)) }, []string{"error base AADSTS2205011"}},
		"spoilt signature":    {func(w *world) { b := w.sign(w.base); b[len(b)-1] ^= 1; w.answers["/issuing.crl"] = body(b) }, []string{"error base AADSTS2205015"}},
		"large":               {func(w *world) { w.limits.Size = len(w.sign(w.base)) - 20 }, []string{"error base AADSTS2205014"}},
		"becoming large":      {func(w *world) { w.limits.Size = len(w.sign(w.base)) + 20 }, []string{"warning base"}},
		"slow":                {func(w *world) { w.limits.Time = time.Second; w.answers["/issuing.crl"] = stall }, []string{"error base AADSTS2205012"}},
		"slow body":           {func(w *world) { w.limits.Time = time.Second; w.answers["/issuing.crl"] = trickle }, []string{"error base AADSTS2205012"}},
		"expired base":        {func(w *world) { w.base.shift(-8 * 24 * time.Hour) }, []string{"error base AADSTS500172"}},
		"expired delta":       {func(w *world) { w.delta.shift(-25 * time.Hour) }, []string{"error delta AADSTS500172", "warning pair"}},
		"future":              {func(w *world) { w.base.shift(2 * time.Hour) }, []string{"error base AADSTS500172", "warning pair"}},
		"overdue":             {func(w *world) { w.base.shift(-48 * time.Hour) }, []string{"warning base"}},
		"no next publish":     {func(w *world) { w.base.next = time.Time{} }, []string{"warning base"}},
		"odd next publish":    {func(w *world) { w.base.next = w.base.until.Add(time.Hour) }, []string{"warning base"}},
		"entry of the future": {func(w *world) { w.base.entries[0].RevocationTime = time.Now() }, []string{"warning base"}},
		"listed twice":        {func(w *world) { w.base.entries = append(w.base.entries, w.base.entries[0]) }, []string{"warning base"}},
		"released in a base":  {func(w *world) { w.base.entries[0].ReasonCode = 8 }, []string{"warning base"}},
		"indirect": {func(w *world) {
			w.base.entries[0].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}
		}, []string{"error base AADSTS500174"}},
		"in parts": {func(w *world) {
			w.base.more = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Value: []byte{0x30, 0}}}
		}, []string{"warning base"}},
		"critical": {func(w *world) {
			w.base.more = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, []string{"error base AADSTS500174"}},
		"spoilt extension": {func(w *world) {
			w.base.freshest = ""
			w.base.more = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 46}, Value: []byte{5, 0}}}
		}, []string{"error base AADSTS500174"}},
		"indicator harmless": {func(w *world) { w.delta.indicatorNotCritical = true }, []string{"error delta AADSTS500174"}},
		"delta as base": {func(w *world) {
			w.answers["/issuing.crl"] = body(w.sign(w.delta))
			w.target.DeltaURL = w.url + "/issuing-delta.crl"
		}, []string{"error base AADSTS500178"}},
		"base as delta":        {func(w *world) { w.answers["/issuing-delta.crl"] = body(w.sign(w.base)) }, []string{"error delta AADSTS500178", "warning delta"}},
		"for a later base":     {func(w *world) { w.delta.number, w.delta.base = 13, 12 }, []string{"error pair AADSTS500178"}},
		"older than the base":  {func(w *world) { w.delta.number, w.delta.base = 9, 8 }, []string{"error pair AADSTS500178"}},
		"thisUpdate goes back": {func(w *world) { w.delta.from = w.base.from }, []string{"warning pair"}},
		"another delta named":  {func(w *world) { w.base.freshest = w.url + "/x.crl"; w.target.DeltaURL = w.url + "/issuing-delta.crl" }, []string{"warning pair"}},
		"gzip": {func(w *world) {
			b := w.sign(w.base)
			w.answers["/issuing.crl"] = func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Encoding", "gzip")
				_, _ = rw.Write(b)
			}
		}, []string{"warning base"}},
		"clocks differ": {func(w *world) {
			b := w.sign(w.base)
			w.answers["/issuing.crl"] = func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
				_, _ = rw.Write(b)
			}
		}, []string{"warning base"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.spoil(w)
			r := probe.New(w.limits, time.Now).Probe(t.Context(), w.target)
			if got := codes(r); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q: %+v", got, c.want, r.Findings)
			}
			bad := slices.ContainsFunc(r.Findings, func(f probe.Finding) bool { return f.Severity == probe.Error })
			if r.OK == bad {
				t.Errorf("ok %t: %+v", r.OK, r.Findings)
			}
			for _, f := range r.Findings {
				if f.Text == "" || f.Remedy == "" {
					t.Errorf("nothing to say or to do: %+v", f)
				}
			}
		})
	}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Microsoft cannot reach what is on loopback, and the report says so.
func TestProbeReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := probe.New(w.limits, time.Now).Probe(t.Context(), w.target)
	if len(r.Findings) != 2 || r.Findings[0].Severity != probe.Warning || !strings.Contains(r.Findings[0].Text, "127.0.0.1") || !r.OK {
		t.Errorf("%+v", r.Findings)
	}
	b, d := r.Base, r.Delta
	if r.SKI != "010203" || b == nil || d == nil || b.Number != "10" || b.Entries != 1 || b.Size != len(w.sign(w.base)) && b.Size == 0 || b.Status != 200 || d.Number != "11" || d.BaseNumber != "10" ||
		!b.NextPublish.Equal(w.base.next) || !d.NextUpdate.Equal(w.delta.until) || d.URL != w.base.freshest {
		t.Errorf("%+v %+v %+v", r, b, d)
	}
}

// Nothing that a server sends is called sound but what the CA has signed and is valid, and nothing ends the program.
func FuzzProbe(f *testing.F) {
	w := newWorld(f)
	base, delta := w.sign(w.base), w.sign(w.delta)
	f.Add(base, delta)
	f.Add(w.cert.Raw, []byte("-----BEGIN X509 CRL-----"))
	f.Add([]byte{}, []byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		ok := probe.Judge(a, b, w.cert, time.Now)
		for _, raw := range [][]byte{a, b} {
			l, err := x509.ParseRevocationList(raw)
			if ok && (err != nil || l.CheckSignatureFrom(w.cert) != nil || time.Now().After(l.NextUpdate)) {
				t.Fatalf("%x is called sound", raw)
			}
		}
	})
}
