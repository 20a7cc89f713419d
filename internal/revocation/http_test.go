package revocation_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/revocation"
	"postern/internal/trust"
)

func (l *lab) do(method, path string, header http.Header, body []byte) *httptest.ResponseRecorder {
	l.t.Helper()
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.RemoteAddr = "203.0.113.77:4711"
	for k, v := range header {
		r.Header[k] = v
	}
	w := httptest.NewRecorder()
	l.handler.ServeHTTP(w, r)
	return w
}

func TestDistributionPoint(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	for _, c := range []struct {
		method, path string
		code         int
		contentType  string
	}{
		{"GET", "/contoso/issuing.crl", 200, "application/pkix-crl"},
		{"GET", "/contoso/issuing.crl?anything=1", 200, "application/pkix-crl"},
		{"HEAD", "/contoso/issuing.crl", 200, "application/pkix-crl"},
		{"GET", "/contoso/issuing-delta.crl", 200, "application/pkix-crl"},
		{"GET", "/contoso/root.crl", 200, "application/pkix-crl"},
		{"GET", "/contoso/root-delta.crl", 200, "application/pkix-crl"},
		{"GET", "/contoso/issuing.cer", 200, "application/pkix-cert"},
		{"GET", "/contoso/root.cer", 200, "application/pkix-cert"},
		{"GET", "/contoso/chain.p7b", 200, "application/x-pkcs7-certificates"},
		{"POST", "/contoso/issuing.crl", 405, ""},
		{"DELETE", "/contoso/root.cer", 405, ""},
		{"GET", "/contoso/", 404, ""},
		{"GET", "/", 404, ""},
		{"POST", "/contoso/other.crl", 404, ""},
		{"GET", "/fabrikam/issuing.crl", 404, ""},
		{"GET", "/contoso/../contoso/issuing.crl", 404, ""},
		{"GET", "/contoso/sha256/issuing.crl", 404, ""},
	} {
		w := l.do(c.method, c.path, nil, nil)
		if w.Code != c.code || c.contentType != "" && w.Header().Get("Content-Type") != c.contentType {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Header().Get("Content-Type"))
		}
		if c.code == 405 && w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow %q", c.method, c.path, w.Header().Get("Allow"))
		}
		if (w.Body.Len() == 0) != (c.method == "HEAD") {
			t.Errorf("%s %s: %d octets", c.method, c.path, w.Body.Len())
		}
	}
	if cert, err := x509.ParseCertificate(l.get("/contoso/issuing.cer").Body.Bytes()); err != nil || !cert.Equal(l.issuer.Chain()[0]) {
		t.Errorf("issuing.cer: %v", err)
	}
}

func TestNothingPublishedYet(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.handler = l.publisher(l.dir).Handler()
	if w := l.get("/contoso/issuing.crl"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestConditionalAndCached(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	for path, most := range map[string]int{"/contoso/issuing.crl": 3600, "/contoso/issuing-delta.crl": 60} {
		w := l.get(path)
		tag := w.Header().Get("ETag")
		_, age, _ := strings.Cut(w.Header().Get("Cache-Control"), "max-age=")
		if n, err := strconv.Atoi(age); err != nil || n <= 0 || n > most || !strings.HasPrefix(tag, `"`) {
			t.Errorf("%s: %v", path, w.Header())
		}
		if again := l.do("GET", path, http.Header{"If-None-Match": {tag}}, nil); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
			t.Errorf("%s: %d for the same tag", path, again.Code)
		}
		if again := l.do("GET", path, http.Header{"If-None-Match": {`"other"`}}, nil); again.Code != http.StatusOK {
			t.Errorf("%s: %d for another tag", path, again.Code)
		}
	}
	// In the second of its publication another delta may follow: no date says that it has not changed.
	now := http.Header{"If-Modified-Since": {time.Now().UTC().Format(http.TimeFormat)}}
	w := l.do("GET", "/contoso/issuing-delta.crl", now, nil)
	if soon := time.Now().Before(l.status().Delta.ThisUpdate.Add(time.Second)); soon && (w.Code != 200 || w.Header().Get("Last-Modified") != "") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	time.Sleep(time.Second)
	when := l.get("/contoso/issuing-delta.crl").Header().Get("Last-Modified")
	if w := l.do("GET", "/contoso/issuing-delta.crl", http.Header{"If-Modified-Since": {when}}, nil); when == "" || w.Code != http.StatusNotModified {
		t.Errorf("%d for %q", w.Code, when)
	}
	s := l.record(time.Hour)
	l.revoke(s)
	l.published()
	if w := l.do("GET", "/contoso/issuing-delta.crl", http.Header{"If-Modified-Since": {when}}, nil); w.Code != http.StatusOK {
		t.Errorf("%d for %q after a revocation", w.Code, when)
	}
	// Beyond the schedule nothing is cached, and beyond nextUpdate nothing is called fresh.
	l.stop()
	l.skew.Store(int64(25 * time.Hour))
	for _, path := range []string{"/contoso/issuing.crl", "/contoso/issuing-delta.crl"} {
		if h := l.get(path).Header(); !strings.HasSuffix(h.Get("Cache-Control"), "max-age=0") {
			t.Errorf("%s: %v", path, h)
		}
	}
	if l.status().Valid {
		t.Error("an expired delta is called valid")
	}
}

// A download that broke off goes on where it was, as long as the CRL is the same.
func TestRanges(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	whole := l.get("/contoso/issuing.crl")
	tag := whole.Header().Get("ETag")
	rest := l.do("GET", "/contoso/issuing.crl", http.Header{"Range": {"bytes=100-"}, "If-Range": {tag}}, nil)
	if rest.Code != http.StatusPartialContent || !bytes.Equal(rest.Body.Bytes(), whole.Body.Bytes()[100:]) {
		t.Errorf("%d, %d octets", rest.Code, rest.Body.Len())
	}
	if other := l.do("GET", "/contoso/issuing.crl", http.Header{"Range": {"bytes=100-"}, "If-Range": {`"old"`}}, nil); other.Code != http.StatusOK || other.Body.Len() != whole.Body.Len() {
		t.Errorf("%d, %d octets of another CRL", other.Code, other.Body.Len())
	}
	if none := l.do("GET", "/contoso/issuing.crl", http.Header{"Range": {"bytes=1000000-"}}, nil); none.Code != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("%d beyond the end", none.Code)
	}
	head := l.do("HEAD", "/contoso/issuing.crl", nil, nil)
	if head.Header().Get("Content-Length") != strconv.Itoa(whole.Body.Len()) || head.Header().Get("ETag") != tag {
		t.Errorf("HEAD: %v", head.Header())
	}
}

// Near the end of a CRL's life caches may keep it for what is left of that, and no longer.
func TestNothingIsFreshBeyondNextUpdate(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.config = func(c *revocation.Config) {
		c.Schedule.DeltaLifetime, c.Schedule.DeltaEvery = 30*time.Second, 15*time.Second
	}
	l.start()
	l.stop()
	delta := l.crl("/contoso/issuing-delta.crl")
	for _, into := range []time.Duration{0, 10 * time.Second, 29 * time.Second, 31 * time.Second} {
		l.skew.Store(int64(into))
		h := l.get("/contoso/issuing-delta.crl").Header()
		expires, err := http.ParseTime(h.Get("Expires"))
		_, age, _ := strings.Cut(h.Get("Cache-Control"), "max-age=")
		seconds, aerr := strconv.Atoi(age)
		now := l.now()
		if err != nil || aerr != nil || expires.After(delta.NextUpdate) && expires.After(now) || now.Before(delta.NextUpdate) && now.Add(time.Duration(seconds)*time.Second-time.Second).After(delta.NextUpdate) ||
			now.After(delta.NextUpdate) && seconds != 0 {
			t.Errorf("%s into it: %v, until %s", into, h, delta.NextUpdate)
		}
	}
}

func TestReceipts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	l.do("GET", "/contoso/issuing-delta.crl", http.Header{"User-Agent": {"Entra/1.0\r\n\x00 (test)" + strings.Repeat("x", 1000)}}, nil)
	_, delta := l.fetch()
	l.eventually("receipt", func() bool {
		all, err := l.journal.Receipts(t.Context(), "contoso/issuing-delta.crl", 10)
		l.must(err)
		for _, r := range all {
			if r.Network == "203.0.113.0/24" && r.Number == delta.Number.String() && strings.HasPrefix(r.UserAgent, "Entra/1.0 (test)x") && len(r.UserAgent) <= 200 {
				return true
			}
		}
		return false
	})
}

// ask builds an OCSP request.
func (l *lab) ask(issuer *x509.Certificate, serial *big.Int, hash crypto.Hash) []byte {
	l.t.Helper()
	raw, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, issuer, &ocsp.RequestOptions{Hash: hash})
	l.must(err)
	return raw
}

// question is one certificate to ask for, and what OCSP has to say.
type question struct {
	name   string
	issuer *x509.Certificate
	serial *big.Int
	status int
	reason int
	fault  ocsp.ResponseStatus
}

func TestOCSP(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	issuing, top := l.issuer.Chain()[0], l.issuer.Chain()[1]
	good, revoked, held, superseded, outside := l.leaf(), l.leaf(), l.leaf(), l.leafOf(l.device), catest.New(t)
	l.leafOf(l.device)
	own, err := l.issuer.Issue(t.Context(), catest.Request(t, l.issuer, "alice@contoso.com", l.key)) // stands for a certificate of our own that is not in the registry
	l.must(err)
	l.config = func(c *revocation.Config) { c.Own = []*x509.Certificate{own.Cert, outside.Chain()[0]} }
	l.start()
	l.revoke(trust.SerialOf(revoked.SerialNumber))
	l.hold(trust.SerialOf(held.SerialNumber))
	for _, q := range []question{
		{name: "good", issuer: issuing, serial: good.SerialNumber, status: ocsp.Good},
		{name: "revoked", issuer: issuing, serial: revoked.SerialNumber, status: ocsp.Revoked, reason: ocsp.KeyCompromise},
		{name: "held", issuer: issuing, serial: held.SerialNumber, status: ocsp.Revoked, reason: ocsp.CertificateHold},
		{name: "superseded", issuer: issuing, serial: superseded.SerialNumber, status: ocsp.Good},
		{name: "never issued", issuer: issuing, serial: big.NewInt(4711), status: ocsp.Unknown},
		{name: "the negative of one that was", issuer: issuing, serial: new(big.Int).Neg(good.SerialNumber), status: ocsp.Unknown},
		{name: "zero", issuer: issuing, serial: new(big.Int), status: ocsp.Unknown},
		{name: "issuing CA", issuer: top, serial: issuing.SerialNumber, status: ocsp.Good},
		{name: "registration authority", issuer: issuing, serial: l.issuer.RACertificate().SerialNumber, status: ocsp.Good},
		{name: "our own", issuer: issuing, serial: own.Cert.SerialNumber, status: ocsp.Good},
		{name: "configured as our own, and not", issuer: issuing, serial: outside.Chain()[0].SerialNumber, status: ocsp.Unknown},
		{name: "issued by the other CA", issuer: top, serial: good.SerialNumber, status: ocsp.Unknown},
		{name: "another issuer", issuer: outside.Chain()[0], serial: good.SerialNumber, fault: ocsp.Unauthorized},
	} {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			raw := l.ask(q.issuer, q.serial, hash)
			b64 := base64.StdEncoding.EncodeToString(raw)
			l.answered(q, "POST", l.do("POST", "/ocsp/contoso", http.Header{"Content-Type": {"application/ocsp-request"}}, raw))
			l.answered(q, "GET", l.do("GET", "/ocsp/contoso/"+b64, nil, nil))
			l.answered(q, "GET escaped", l.do("GET", "/ocsp/contoso/"+url.QueryEscape(b64), nil, nil))
		}
	}
	l.release(trust.SerialOf(held.SerialNumber))
	w := l.do("POST", "/ocsp/contoso", nil, l.ask(issuing, held.SerialNumber, crypto.SHA256))
	if resp, err := ocsp.ParseResponse(w.Body.Bytes(), issuing); err != nil || resp.Status != ocsp.Good {
		t.Errorf("released: %v %+v", err, resp)
	}
}

func (l *lab) answered(q question, how string, w *httptest.ResponseRecorder) {
	l.t.Helper()
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/ocsp-response" {
		l.t.Errorf("%s: %s: %d %v", q.name, how, w.Code, w.Header())
	}
	resp, err := ocsp.ParseResponseForCert(w.Body.Bytes(), &x509.Certificate{SerialNumber: q.serial}, q.issuer)
	if q.fault != 0 {
		if re, ok := err.(ocsp.ResponseError); !ok || re.Status != q.fault { //nolint:errorlint // not wrapped
			l.t.Errorf("%s: %s: %v", q.name, how, err)
		}
		return
	}
	if err != nil || resp.Status != q.status || resp.Status == ocsp.Revoked && resp.RevocationReason != q.reason {
		l.t.Errorf("%s: %s: %v %+v", q.name, how, err, resp)
		return
	}
	if resp.ThisUpdate.After(time.Now()) || time.Since(resp.ThisUpdate) > time.Minute || resp.NextUpdate.Sub(resp.ThisUpdate) != time.Hour {
		l.t.Errorf("%s: from %s to %s", q.name, resp.ThisUpdate, resp.NextUpdate)
	}
	if cached := strings.Contains(w.Header().Get("Cache-Control"), "max-age=60"); cached != (how != "POST") {
		l.t.Errorf("%s: %s: %v", q.name, how, w.Header())
	}
}

// Two certificates of one CA are answered at once; of two CAs, one signer cannot.
func TestOCSPSeveral(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	issuing, top := l.issuer.Chain()[0], l.issuer.Chain()[1]
	same := joined(t, l.ask(issuing, big.NewInt(1), crypto.SHA1), l.ask(issuing, big.NewInt(1), crypto.SHA256))
	if _, err := ocsp.ParseResponseForCert(l.do("POST", "/ocsp/contoso", nil, same).Body.Bytes(), &x509.Certificate{SerialNumber: big.NewInt(1)}, issuing); err != nil {
		t.Error(err)
	}
	mixed := joined(t, l.ask(issuing, big.NewInt(1), crypto.SHA1), l.ask(top, big.NewInt(1), crypto.SHA1))
	if got := l.do("POST", "/ocsp/contoso", nil, mixed).Body.String(); got != string(ca.OCSPErrorResponse(ca.OCSPUnauthorized)) {
		t.Errorf("%q", got)
	}
}

// joined makes one OCSP request of two.
func joined(t *testing.T, requests ...[]byte) []byte {
	t.Helper()
	type outer struct {
		TBS struct{ List []asn1.RawValue }
	}
	var all outer
	for _, raw := range requests {
		var one outer
		if _, err := asn1.Unmarshal(raw, &one); err != nil {
			t.Fatal(err)
		}
		all.TBS.List = append(all.TBS.List, one.TBS.List...)
	}
	raw, err := asn1.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestOCSPRefusals(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	good := l.ask(l.issuer.Chain()[0], big.NewInt(1), crypto.SHA1)
	malformed := string(ca.OCSPErrorResponse(ca.OCSPMalformedRequest))
	for _, c := range []struct {
		name, method, path, contentType string
		body                            []byte
		code                            int
		want                            string
	}{
		{"no request", "GET", "/ocsp/contoso", "", nil, 200, malformed},
		{"empty", "GET", "/ocsp/contoso/", "", nil, 200, malformed},
		{"not base64", "GET", "/ocsp/contoso/!!!", "", nil, 200, malformed},
		{"not DER", "GET", "/ocsp/contoso/AAAA", "", nil, 200, malformed},
		{"long", "GET", "/ocsp/contoso/" + strings.Repeat("A", 1025), "", nil, 200, malformed},
		{"long when escaped", "GET", "/ocsp/contoso/" + strings.Repeat("%41", 1025), "", nil, 200, malformed},
		{"empty body", "POST", "/ocsp/contoso", "application/ocsp-request", nil, 200, malformed},
		{"long body", "POST", "/ocsp/contoso", "application/ocsp-request", append(good, make([]byte, 4096)...), 200, malformed},
		{"another type", "POST", "/ocsp/contoso", "text/plain", good, 415, ""},
		{"POST to a path", "POST", "/ocsp/contoso/AAAA", "application/ocsp-request", good, 415, ""},
		{"another method", "PUT", "/ocsp/contoso", "application/ocsp-request", good, 405, ""},
		{"another issuer", "POST", "/ocsp/fabrikam", "application/ocsp-request", good, 404, ""},
		{"nobody", "GET", "/ocsp/", "", nil, 404, ""},
	} {
		h := http.Header{}
		if c.contentType != "" {
			h.Set("Content-Type", c.contentType)
		}
		w := l.do(c.method, c.path, h, c.body)
		if w.Code != c.code || c.want != "" && w.Body.String() != c.want || w.Header().Get("Cache-Control") != "" {
			t.Errorf("%s: %d %q %v", c.name, w.Code, w.Body, w.Header())
		}
	}
}

// An index that has lost the store does not call anything good.
func TestOCSPOverADeadStore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	l.stop()
	l.must(l.store.Close())
	l.skew.Store(int64(2 * time.Minute))
	w := l.do("POST", "/ocsp/contoso", nil, l.ask(l.issuer.Chain()[0], big.NewInt(1), crypto.SHA1))
	if w.Body.String() != string(ca.OCSPErrorResponse(ca.OCSPTryLater)) {
		t.Errorf("%q", w.Body)
	}
}

func FuzzOCSPPath(f *testing.F) {
	for _, s := range []string{"", "MEIwQDA%2BMDwwOjAJBgUrDgMCGgUABBQ%3D", "AAAA//BB", "%", "%zz", "a b+c/d=", "%2F%2F", strings.Repeat("A", 1024)} {
		f.Add(s)
	}
	l := newLab(f)
	p := l.publisher(l.dir)
	h := p.Handler()
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest(http.MethodGet, "/ocsp/contoso/x", nil)
		u, err := url.Parse("http://ca.test/ocsp/contoso/" + path)
		if err != nil {
			return
		}
		r.URL = u
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK || w.Body.Len() == 0 || w.Header().Get("Content-Type") != "application/ocsp-response" {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
	})
}

// What the publisher forecasts is of what is published and revoked: the arithmetic has tests of its own.
func TestPublisherForecasts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for range 3 {
		l.revoke(l.record(100 * 24 * time.Hour))
	}
	held := l.record(100 * 24 * time.Hour)
	l.hold(held)
	l.release(held)
	l.start()
	all, err := l.pub.Forecasts(t.Context())
	l.must(err)
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	f := all[0]
	if f.Issuer != "contoso" || f.CA != ca.IssuingCA || !f.InForce || f.Entries != 3 || f.Size != l.get("/contoso/issuing.crl").Body.Len() || f.PerDay != 3 || !f.LimitAt.IsZero() || f.Propose ||
		f.Peak != 1000+102*3*49 {
		t.Errorf("%+v", f)
	}
}
