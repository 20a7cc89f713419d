package mdm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Intune's thumbprint
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/trust"
)

// Where the stage plays what.
const (
	tokenPath    = "/" + tenant + "/oauth2/v2.0/token"
	graphPath    = "/v1.0/servicePrincipals/appId=0000000a-0000-0000-c000-000000000000/endpoints"
	validatePath = "/StatelessScep/ScepActions/validateRequest"
	successPath  = "/StatelessScep/ScepActions/successNotification"
	failurePath  = "/StatelessScep/ScepActions/failureNotification"
	downloadPath = "/Pki/CertificateAuthorityRequests/downloadRevocationRequests"
	uploadPath   = "/Pki/CertificateAuthorityRequests/uploadRevocationResults"

	success = `{"code":"Success","errorDescription":""}`
	hush    = "client secret of the test"
)

// cloud is Microsoft's side: everything says yes.
func cloud(t *testing.T) *stage {
	s := newStage(t)
	s.plays(tokenPath, ok(`{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"eyJ0.first"}`))
	s.plays(graphPath, ok(directory(s.URL)))
	for _, p := range []string{validatePath, successPath, failurePath} {
		s.plays(p, ok(success))
	}
	return s
}

// directory is Graph's list of services.
func directory(base string) string {
	return `{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#servicePrincipals('x')/endpoints","value":[` +
		`{"id":"1","deletedDateTime":null,"capability":"X","providerId":"p","providerName":"StatelessOther","uri":"https://other.example/x","providerResourceId":"r"},` +
		`{"id":"2","capability":"ScepRequestValidationFEService","providerName":"ScepRequestValidationFEService","uri":"` + base + `/StatelessScep"},` +
		`{"id":"3","capability":"PkiConnectorFEService","serviceName":"PkiConnectorFEService","uri":"` + base + `/Pki/"}]}`
}

func (w *world) intune(s *stage, change func(*IntuneConfig)) *Intune {
	w.Helper()
	cfg := IntuneConfig{Issuer: "contoso", TenantID: tenant, ClientID: clientID, ClientSecret: NewSecret(hush), AuthorityURL: s.URL + "/", GraphURL: s.URL,
		ResourceURL: s.URL + "/", Provider: "Postern 1.0", Registry: w.reg, Principal: principal("intune"), Now: w.now, Log: w.log}
	if change != nil {
		change(&cfg)
	}
	n, err := NewIntune(cfg)
	w.must(err)
	return n
}

func TestIntuneExchange(t *testing.T) {
	w, s := newWorld(t), cloud(t)
	n, sub := w.intune(s, nil), submission(t)
	a, err := n.Validate(t.Context(), sub)
	w.must(err)
	if want := (trust.Applicant{Mail: "alice@contoso.com", UPN: "alice.a@contoso.com", UDID: deviceID, Source: "intune"}); a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
	tokens := s.taken(tokenPath)
	if len(tokens) != 2 {
		t.Fatalf("%d tokens, want one for Graph and one for Intune", len(tokens))
	}
	for i, scope := range []string{s.URL + "/.default", s.URL + "//.default"} {
		form, err := url.ParseQuery(tokens[i].body)
		w.must(err)
		want := url.Values{"client_id": {clientID}, "scope": {scope}, "client_secret": {hush}, "grant_type": {"client_credentials"}}
		if form.Encode() != want.Encode() || tokens[i].header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("token request %d: %s", i, tokens[i].body)
		}
	}
	graph, call := s.one(graphPath), s.one(validatePath)
	if graph.method != "GET" || graph.header.Get("Authorization") != "Bearer eyJ0.first" {
		t.Errorf("discovery: %+v", graph)
	}
	for name, want := range map[string]string{"Authorization": "Bearer eyJ0.first", "api-version": "2018-02-20", "Content-Type": "application/json; charset=utf-8"} {
		if got := call.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if id := call.header.Get("client-request-id"); !guid.MatchString(id) || id == graph.header.Get("client-request-id") {
		t.Errorf("client-request-id %q", id)
	}
	csr := base64.StdEncoding.EncodeToString(sub.CSR)
	if want := `{"request":{"transactionId":"A<1>&","certificateRequest":"` + csr + `","callerInfo":"Postern 1.0"}}`; call.method != "POST" || call.body != want {
		t.Errorf("validateRequest\n got %s\nwant %s", call.body, want)
	}

	der := sign(t, big.NewInt(0xab), "Contoso Issuing CA", time.Date(2027, 3, 1, 1, 2, 3, 0, time.FixedZone("", 3600)))
	w.must(n.Issued(t.Context(), sub, trust.Certificate{Issuer: "contoso", Serial: "ab", DER: der}))
	want := fmt.Sprintf(`{"notification":{"transactionId":"A<1>&","certificateRequest":"%s","certificateThumbprint":"%X","certificateSerialNumber":"AB",`+
		`"certificateExpirationDateUtc":"2027-03-01T00:02:03.000Z","issuingCertificateAuthority":"Contoso Issuing CA","callerInfo":"Postern 1.0",`+
		`"caConfiguration":"contoso","certificateAuthority":"Contoso Issuing CA"}}`, csr, sha1.Sum(der)) //nolint:gosec // as above
	if got := s.one(successPath).body; got != want {
		t.Errorf("successNotification\n got %s\nwant %s", got, want)
	}

	w.must(n.Refused(t.Context(), sub, -2147467259, strings.Repeat("é", 254)+"😀")) // 0x80004005, and one unit too many
	want = `{"notification":{"transactionId":"A<1>&","certificateRequest":"` + csr + `","hResult":2147500037,"errorDescription":"` + strings.Repeat("é", 254) +
		`","callerInfo":"Postern 1.0"}}`
	if got := s.one(failurePath).body; got != want {
		t.Errorf("failureNotification\n got %s\nwant %s", got, want)
	}
	if len(s.taken(tokenPath)) != 2 || len(s.taken(graphPath)) != 1 {
		t.Error("tokens or addresses are not kept")
	}
}

// Every code of Intune's list, and some that are not on it, is a refusal of the right kind; also when it answers a notification of success.
func TestIntuneCodes(t *testing.T) {
	kinds := map[string]string{"ChallengeExpired": BadTime, "ChallengeInvalidTimestamp": BadTime, "KeyLengthMismatch": BadAlg, "SignatureValidationFailed": BadMessageCheck,
		"ChallengeDecryptionError": BadMessageCheck, "ChallengeDecodingError": BadMessageCheck, "ChallengeDeserializationError": BadMessageCheck,
		"SigningCertThumbprintMismatch": BadMessageCheck}
	codes := strings.Fields(`Unknown CertificateRequestDecodingFailed ChallengePasswordMissing ChallengeDeserializationError ChallengeDecryptionError
		ChallengeDecodingError ChallengeInvalidTimestamp ChallengeExpired SubjectNameMissing SubjectNameMismatch SubjectAltNameMissing SubjectAltNameMismatch
		KeyUsageMismatch KeyLengthMismatch EnhancedKeyUsageMissing EnhancedKeyUsageMismatch AadKeyIdentifierListMissing RegisteredKeyMismatch
		SigningCertThumbprintMismatch ScepProfileNoLongerTargetedToTheClient SignatureValidationFailed BadCertificateRequestIdInChallenge
		BadDeviceIdInChallenge BadUserIdInChallenge`)
	if len(codes) != len(intuneCodes()) {
		t.Errorf("%d codes in the table, want %d", len(intuneCodes()), len(codes))
	}
	w, s := newWorld(t), cloud(t)
	n, sub := w.intune(s, nil), submission(t)
	cert := trust.Certificate{Issuer: "contoso", Serial: "ab", DER: sign(t, big.NewInt(0xab), "CA", w.now())}
	for _, code := range append(codes, "SomethingNew", "success", "Success ") {
		answer := ok(`{"@odata.context":"x","code":"` + code + `","errorDescription":"line\nbreak"}`)
		s.plays(validatePath, answer)
		s.plays(successPath, answer)
		a, err := n.Validate(t.Context(), sub)
		r := refused(t, err, code)
		want := BadRequest
		if kinds[code] != "" {
			want = kinds[code]
		}
		if r.FailInfo() != want || r.Text == "" || a != (trust.Applicant{}) || strings.Contains(r.Error(), "\n") || r.Source != "intune" {
			t.Errorf("%s: %+v, %q", code, a, r)
		}
		refused(t, n.Issued(t.Context(), sub, cert), code)
	}
	if len(s.taken(failurePath)) != 0 {
		t.Error("Intune was told of its own refusals")
	}
}

// What is no answer is a fault, never an approval.
func TestIntuneFaults(t *testing.T) {
	later := reply{status: 503, header: http.Header{"Retry-After": {"120"}}}
	for name, c := range map[string]struct {
		path    string
		replies []reply
		calls   int // of validateRequest; discoveries are as many where it is reached
	}{
		"unavailable":             {validatePath, []reply{{status: 503}}, 2},
		"asks for a pause":        {validatePath, []reply{later}, 1},
		"too many requests":       {validatePath, []reply{{status: 429, header: http.Header{"Retry-After": {"10"}}, body: success}}, 1},
		"too many, no time":       {validatePath, []reply{{status: 429}}, 1},
		"bad request":             {validatePath, []reply{{status: 400, body: success}}, 1},
		"forbidden":               {validatePath, []reply{{status: 403, body: success}}, 1},
		"unauthorized twice":      {validatePath, []reply{{status: 401, body: success}}, 2},
		"moved":                   {validatePath, []reply{{status: 307, header: http.Header{"Location": {"/elsewhere"}}, body: success}}, 1},
		"not JSON":                {validatePath, []reply{ok(`Success`)}, 1},
		"empty":                   {validatePath, []reply{ok(``)}, 1},
		"no content":              {validatePath, []reply{{status: 204}}, 1},
		"half":                    {validatePath, []reply{ok(`{"code":"Success"`)}, 1},
		"two values":              {validatePath, []reply{ok(success + success)}, 1},
		"two codes":               {validatePath, []reply{ok(`{"code":"ChallengeExpired","code":"Success"}`)}, 1},
		"other case":              {validatePath, []reply{ok(`{"Code":"Success"}`)}, 1},
		"no code":                 {validatePath, []reply{ok(`{"errorDescription":""}`)}, 1},
		"null code":               {validatePath, []reply{ok(`{"code":null}`)}, 1},
		"code is a number":        {validatePath, []reply{ok(`{"code":1}`)}, 1},
		"code is a list":          {validatePath, []reply{ok(`{"code":["Success"]}`)}, 1},
		"a list":                  {validatePath, []reply{ok(`[` + success + `]`)}, 1},
		"not UTF-8":               {validatePath, []reply{ok("{\"code\":\"Success\",\"x\":\"\xff\"}")}, 1},
		"oversized":               {validatePath, []reply{ok(`{"code":"Success","x":"` + strings.Repeat("x", maxAnswer) + `"}`)}, 1},
		"slow":                    {validatePath, []reply{{wait: true}}, 1},
		"no token":                {tokenPath, []reply{{status: 401, body: `{"error":"invalid_client","error_description":"AADSTS7000215: wrong ` + hush + `"}`}}, 0},
		"token unavailable":       {tokenPath, []reply{{status: 503}}, 0},
		"token not JSON":          {tokenPath, []reply{ok(`<html>`)}, 0},
		"token of another kind":   {tokenPath, []reply{ok(`{"token_type":"mac","expires_in":3599,"access_token":"x"}`)}, 0},
		"token without life":      {tokenPath, []reply{ok(`{"token_type":"Bearer","expires_in":0,"access_token":"x"}`)}, 0},
		"token with a line break": {tokenPath, []reply{ok(`{"token_type":"Bearer","expires_in":60,"access_token":"x\r\ny: z"}`)}, 0},
		"token empty":             {tokenPath, []reply{ok(`{"token_type":"Bearer","expires_in":60,"access_token":""}`)}, 0},
		"token oversized":         {tokenPath, []reply{ok(`{"x":"` + strings.Repeat("x", maxTokenAnswer) + `"}`)}, 0},
		"token slow":              {tokenPath, []reply{{wait: true}}, 0},
		"not listed":              {graphPath, []reply{ok(`{"value":[]}`)}, 0},
		"no list":                 {graphPath, []reply{ok(`{"value":{}}`)}, 0},
		"list not JSON":           {graphPath, []reply{ok(`{"value":[1]}`)}, 0},
		"list too long":           {graphPath, []reply{ok(`{"value":[{}` + strings.Repeat(",{}", maxServices) + `]}`)}, 0},
		"Graph forbids":           {graphPath, []reply{{status: 403}}, 0},
		"Graph slow":              {graphPath, []reply{{wait: true}}, 0},
		"plain HTTP":              {graphPath, []reply{ok(`{"value":[{"providerName":"ScepRequestValidationFEService","uri":"http://192.0.2.1/x"}]}`)}, 0},
		"no address":              {graphPath, []reply{ok(`{"value":[{"providerName":"ScepRequestValidationFEService","uri":""}]}`)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := newWorld(t), cloud(t)
			s.plays(c.path, c.replies...)
			n := w.intune(s, func(cfg *IntuneConfig) {
				if c.replies[0].wait {
					cfg.Timeout = 50 * time.Millisecond
				}
			})
			sub := submission(t)
			a, err := n.Validate(t.Context(), sub)
			fault(t, err)
			if a != (trust.Applicant{}) || strings.Contains(err.Error(), hush) || strings.Contains(err.Error(), sub.Challenge) {
				t.Errorf("%+v, %v", a, err)
			}
			if got := len(s.taken(validatePath)); got != c.calls {
				t.Errorf("%d calls, want %d", got, c.calls)
			}
			if len(s.taken("/elsewhere")) != 0 {
				t.Error("a redirect was followed")
			}
			// It is over as soon as the other side is well again.
			s.plays(tokenPath, ok(`{"token_type":"Bearer","expires_in":"3599","access_token":"new"}`))
			s.plays(graphPath, ok(directory(s.URL)))
			s.plays(validatePath, ok(success))
			_, err = n.Validate(t.Context(), sub)
			w.must(err)
		})
	}
}

// A refused token is replaced, and a moved service found, once and unnoticed.
func TestIntuneRecovers(t *testing.T) {
	for name, c := range map[string]struct {
		first               reply
		tokens, discoveries int
	}{
		"expired token": {reply{status: 401}, 3, 1},
		"moved":         {reply{status: 404}, 2, 2},
		"unavailable":   {reply{status: 503}, 2, 2},
		"broken off":    {reply{status: 200, header: http.Header{"Content-Length": {"1000"}}, body: "{"}, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newWorld(t), cloud(t)
			s.plays(validatePath, c.first, ok(success))
			n := w.intune(s, nil)
			_, err := n.Validate(t.Context(), submission(t))
			w.must(err)
			if got := []int{len(s.taken(tokenPath)), len(s.taken(graphPath)), len(s.taken(validatePath))}; got[0] != c.tokens || got[1] != c.discoveries || got[2] != 2 {
				t.Errorf("tokens, discoveries and calls: %d", got)
			}
		})
	}
}

// A service that is busy has not moved: it is not looked for anew, and the pause that it asks for is told.
func TestIntuneBusy(t *testing.T) {
	for name, c := range map[string]struct {
		first reply
		pause time.Duration
	}{
		"too many requests": {reply{status: 429, header: http.Header{"Retry-After": {"120"}}}, 2 * time.Minute},
		"no time said":      {reply{status: 429}, 0},
		"maintenance":       {reply{status: 503, header: http.Header{"Retry-After": {"9000"}}}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newWorld(t), cloud(t)
			s.plays(validatePath, c.first, c.first, ok(success))
			n := w.intune(s, nil)
			for range 2 {
				_, err := n.Validate(t.Context(), submission(t))
				fault(t, err)
				var busy interface{ RetryAfter() time.Duration }
				if !errors.As(err, &busy) || busy.RetryAfter() != c.pause {
					t.Errorf("%v: want a pause of %s", err, c.pause)
				}
			}
			_, err := n.Validate(t.Context(), submission(t))
			w.must(err)
			if got := len(s.taken(graphPath)); got != 1 {
				t.Errorf("%d discoveries, want 1", got)
			}
		})
	}
}

func TestIntuneTokenLife(t *testing.T) {
	w, s := newWorld(t), cloud(t)
	n, sub := w.intune(s, nil), submission(t)
	for _, c := range []struct {
		pass time.Duration
		want int // tokens so far
	}{{0, 2}, {54 * time.Minute, 2}, {2 * time.Minute, 3}, {time.Minute, 3}} {
		w.pass(c.pass)
		_, err := n.Validate(t.Context(), sub)
		w.must(err)
		if got := len(s.taken(tokenPath)); got != c.want {
			t.Errorf("%d tokens, want %d", got, c.want)
		}
	}
}

// Many at once share one token and one discovery, and who gives up does not take the others along.
func TestIntuneAtOnce(t *testing.T) {
	w, s := newWorld(t), cloud(t)
	n, sub := w.intune(s, nil), submission(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.Validate(gone, sub)
	fault(t, err)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := n.Validate(t.Context(), sub); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(s.taken(tokenPath)) != 2 || len(s.taken(graphPath)) != 1 {
		t.Errorf("%d tokens, %d discoveries", len(s.taken(tokenPath)), len(s.taken(graphPath)))
	}
}

func TestIntuneClientCertificate(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postern"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w, s := newWorld(t), cloud(t)
	cc, err := NewClientCertificate(leaf, key)
	w.must(err)
	n := w.intune(s, func(cfg *IntuneConfig) { cfg.ClientSecret, cfg.ClientCertificate = Secret{}, cc })
	_, err = n.Validate(t.Context(), submission(t))
	w.must(err)
	form, err := url.ParseQuery(s.taken(tokenPath)[0].body)
	w.must(err)
	if form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || form.Has("client_secret") {
		t.Errorf("form %s", form)
	}
	parts := strings.Split(form.Get("client_assertion"), ".")
	if len(parts) != 3 {
		t.Fatalf("assertion of %d parts", len(parts))
	}
	var claims struct {
		Aud, Iss, Sub, Jti string
		Nbf, Exp           int64
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	w.must(err)
	w.must(json.Unmarshal(raw, &claims))
	if claims.Aud != s.URL+tokenPath || claims.Iss != clientID || claims.Sub != clientID || claims.Jti == "" || claims.Nbf != w.now().Unix() || claims.Exp <= claims.Nbf {
		t.Errorf("claims %s", raw)
	}
	sum := sha256.Sum256(der)
	head, err := base64.RawURLEncoding.DecodeString(parts[0])
	w.must(err)
	if want := `{"alg":"PS256","typ":"JWT","x5t#S256":"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"}`; string(head) != want {
		t.Errorf("header %s", head)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	w.must(err)
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	w.must(rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest[:], signature, nil))
}

// Requests that cannot be Intune's are refused without asking.
func TestIntuneDoesNotAsk(t *testing.T) {
	w, s := newWorld(t), newStage(t)
	n, sub := w.intune(s, nil), submission(t)
	other := sub
	other.Issuer = "fabrikam"
	_, err := n.Validate(t.Context(), other)
	fault(t, err)
	for code, spoil := range map[string]func(*trust.Submission){
		"ChallengePasswordMissing":         func(s *trust.Submission) { s.Challenge = "" },
		"TransactionMissing":               func(s *trust.Submission) { s.TransactionID = "" },
		"CertificateRequestDecodingFailed": func(s *trust.Submission) { s.CSR = s.CSR[1:] },
	} {
		bad := sub
		spoil(&bad)
		_, err := n.Validate(t.Context(), bad)
		refused(t, err, code)
	}
}

// When Intune approves what names nobody, its administrator is told why there is no certificate.
func TestIntuneNobody(t *testing.T) {
	w, s := newWorld(t), cloud(t)
	n, sub := w.intune(s, nil), submission(t)
	sub.CSR = request(t, pkix.Name{CommonName: deviceID})
	_, err := n.Validate(t.Context(), sub)
	r := refused(t, err, "MailMissing")
	if body := s.one(failurePath).body; !strings.Contains(body, r.Text) || !strings.Contains(body, `"hResult":2768568321,`) {
		t.Errorf("told %s", body)
	}
	s.plays(failurePath, reply{status: 500}) // it stays a refusal
	_, err = n.Validate(t.Context(), sub)
	refused(t, err, "MailMissing")
}

func TestNewIntune(t *testing.T) {
	w := newWorld(t)
	for name, spoil := range map[string]func(*IntuneConfig){
		"tenant":       func(c *IntuneConfig) { c.TenantID = "a/b" },
		"client":       func(c *IntuneConfig) { c.ClientID = "postern" },
		"no secret":    func(c *IntuneConfig) { c.ClientSecret = Secret{} },
		"two secrets":  func(c *IntuneConfig) { c.ClientCertificate = &ClientCertificate{} },
		"plain HTTP":   func(c *IntuneConfig) { c.GraphURL = "http://graph.example.com" },
		"not a URL":    func(c *IntuneConfig) { c.AuthorityURL = "login" },
		"password":     func(c *IntuneConfig) { c.ResourceURL = "https://a:b@api.example.com/" },
		"issuer":       func(c *IntuneConfig) { c.Issuer = "" },
		"name":         func(c *IntuneConfig) { c.Name = "In Tune" },
		"max requests": func(c *IntuneConfig) { c.MaxRequests = 501 },
		"timeout":      func(c *IntuneConfig) { c.Timeout = -1 },
		"provider":     func(c *IntuneConfig) { c.Provider = "a\nb" },
		"registry":     func(c *IntuneConfig) { c.Registry = nil },
	} {
		cfg := IntuneConfig{Issuer: "contoso", TenantID: "contoso.onmicrosoft.com", ClientID: clientID, ClientSecret: NewSecret(hush), Registry: w.reg, Now: w.now, Log: w.log}
		if _, err := NewIntune(cfg); err != nil {
			t.Fatal(err)
		}
		spoil(&cfg)
		if _, err := NewIntune(cfg); err == nil || strings.Contains(err.Error(), hush) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
