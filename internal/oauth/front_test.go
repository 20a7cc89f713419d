package oauth

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const apple = "f8d98a96-0999-43f5-8af3-69971c7bb423"

func v1() Front {
	return Front{Resources: []string{"https://mail.contoso.com/"}, Destination: "https://outlook.office365.com/", Clients: []string{apple}}
}

func v2() Front {
	f := v1()
	f.Scopes = []string{"https://outlook.office365.com/EAS.AccessAsUser.All"}
	return f
}

// What an iPhone asks for, byte for byte but the resource.
func TestAuthorizeV1(t *testing.T) {
	const before = "response_type=code&client_id=" + apple + "&redirect_uri=com.apple.Preferences://oauth-redirect&resource="
	const after = "&display=ios&ui_locales=en-US&state=6F0D%2B&claims=%7B%22access_token%22%3A%7B%22xms_cc%22%3A%7B%22values%22%3A%5B%22cp1%22%5D%7D%7D%7D&login_hint=alice@contoso.com" +
		"&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
	for _, mine := range []string{"https://mail.contoso.com/", "https%3A%2F%2Fmail.contoso.com", "https://MAIL.contoso.com:443/"} {
		got, err := v1().Authorize(before + mine + after)
		if err != nil || got != before+"https%3A%2F%2Foutlook.office365.com%2F"+after {
			t.Errorf("%s: %q, %v", mine, got, err)
		}
	}
	same := before + "https://outlook.office365.com/" + after
	if got, err := v1().Authorize(same); err != nil || got != same {
		t.Errorf("a client that names the mail service: %q, %v", got, err)
	}
}

func TestSwaps(t *testing.T) {
	const head = "client_id=" + apple
	q := url.QueryEscape
	const eas = "https://outlook.office365.com/EAS.AccessAsUser.All"
	for _, c := range []struct{ name, in, want string }{
		{"v2", head + "&scope=" + q("https://mail.contoso.com/EAS.AccessAsUser.All offline_access") + "&x=1", head + "&scope=" + q(eas+" offline_access") + "&x=1"},
		{"two slashes", head + "&scope=" + q("openid https://mail.contoso.com//EAS.AccessAsUser.All"), head + "&scope=" + q("openid "+eas)},
		{"the mail service", head + "&scope=" + q(eas) + "+openid", head + "&scope=" + q(eas) + "+openid"},
		{"nothing named", head + "&state=a", head + "&state=a&scope=" + q(eas)},
		{"only about the user", head + "&scope=openid%20offline_access&state=a", head + "&scope=" + q("openid offline_access "+eas) + "&state=a"},
		{"a resource instead", head + "&resource=https://mail.contoso.com", head + "&resource=" + q("https://outlook.office365.com/")},
	} {
		if got, err := v2().Authorize(c.in); err != nil || got != c.want {
			t.Errorf("%s:\n got %q, %v\nwant %q", c.name, got, err, c.want)
		}
	}
	if got, err := v1().Authorize(head + "&scope=openid"); err != nil || got != head+"&scope=openid&resource="+q("https://outlook.office365.com/") {
		t.Errorf("v1 without resource: %q, %v", got, err)
	}
}

func TestToken(t *testing.T) {
	r, err := v1().Token([]byte("grant_type=authorization_code&client_id=" + apple + "&code=S3cret&redirect_uri=x%3A%2F%2Fy&code_verifier=v&resource=https%3A%2F%2Fmail.contoso.com%2F"))
	want := "grant_type=authorization_code&client_id=" + apple + "&code=S3cret&redirect_uri=x%3A%2F%2Fy&code_verifier=v&resource=https%3A%2F%2Foutlook.office365.com%2F"
	if err != nil || r.Grant != "authorization_code" || r.Form.Reveal() != want {
		t.Errorf("%q %q, %v", r.Grant, r.Form.Reveal(), err)
	}
	r, err = v1().Token([]byte("client_id=" + strings.ToUpper(apple) + "&grant_type=refresh_token&refresh_token=S3cret"))
	if err != nil || r.Grant != "refresh_token" || !strings.HasSuffix(r.Form.Reveal(), "&resource=https%3A%2F%2Foutlook.office365.com%2F") {
		t.Errorf("%q, %v", r.Form.Reveal(), err)
	}
}

// What is there without a value is not there (RFC 6749, sections 3.1 and 3.2).
func TestEmptyParameters(t *testing.T) {
	const code = "grant_type=authorization_code&code=S3cret&client_id=" + apple
	r, err := v1().Token([]byte(code + "&client_secret=&resource=&scope="))
	if want := code + "&client_secret=&scope=&resource=https%3A%2F%2Foutlook.office365.com%2F"; err != nil || r.Form.Reveal() != want {
		t.Errorf("%q, %v", r.Form.Reveal(), err)
	}
	const ask = "response_type=code&client_id=" + apple
	if got, err := v1().Authorize(ask + "&request=&resource&state="); err != nil || got != ask+"&request=&state=&resource=https%3A%2F%2Foutlook.office365.com%2F" {
		t.Errorf("%q, %v", got, err)
	}
}

// Libraries of Microsoft put what is for its servers into the address of the token endpoint; what a request consists of is not taken from there.
func TestTokenQuery(t *testing.T) {
	for _, query := range []string{"", "api-version=1.0", "client-request-id=1-2-3&slice=testslice&x-client-SKU=MSAL.iOS"} {
		if err := CheckTokenQuery(query); err != nil {
			t.Errorf("%q: %v", query, err)
		}
	}
	for _, query := range []string{"grant_type=password", "Resource=https://graph.microsoft.com", "%72esource=x", "refresh_token=S3cret", "client_secret=S3cret", "api-version=1.0&scope=x", "scope",
		"api-version=1.0;resource=x", "a=1&a=2", "a=%zz", "x=" + strings.Repeat("a", MaxAuthorizeQuery), manyParams() + "&more=1"} {
		refusedFor(t, query[:min(len(query), 40)], CheckTokenQuery(query), InvalidRequest)
	}
}

func TestFrontRefuses(t *testing.T) {
	const secret = "S3cret"
	const code = "grant_type=authorization_code&code=" + secret + "&client_id=" + apple
	tokens := map[string][2]string{
		"password":              {"grant_type=password&username=a&password=" + secret + "&client_id=" + apple, UnsupportedGrantType},
		"client credentials":    {"grant_type=client_credentials&client_id=" + apple, UnsupportedGrantType},
		"device code":           {"grant_type=urn:ietf:params:oauth:grant-type:device_code&device_code=" + secret + "&client_id=" + apple, UnsupportedGrantType},
		"on behalf of":          {"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=" + secret + "&client_id=" + apple, UnsupportedGrantType},
		"no grant":              {"code=" + secret + "&client_id=" + apple, UnsupportedGrantType},
		"another client":        {strings.Replace(code, apple, "d3590ed6-52b3-4102-aeff-aad2292ab01c", 1), InvalidClient},
		"no client":             {"grant_type=refresh_token&refresh_token=" + secret, InvalidClient},
		"confidential":          {code + "&client_secret=" + secret, InvalidClient},
		"assertion":             {code + "&client_assertion=" + secret, InvalidClient},
		"another resource":      {code + "&resource=https://graph.microsoft.com", InvalidTarget},
		"in another case":       {code + "&Resource=https://graph.microsoft.com", InvalidTarget},
		"escaped name":          {code + "&%72esource=https://graph.microsoft.com", InvalidTarget},
		"two resources":         {code + "&resource=https://mail.contoso.com&resource=https://graph.microsoft.com", InvalidRequest},
		"twice, in two cases":   {code + "&resource=https://mail.contoso.com&RESOURCE=https://graph.microsoft.com", InvalidRequest},
		"behind a semicolon":    {code + "&x=1;resource=https://graph.microsoft.com", InvalidRequest},
		"a lookalike":           {code + "&resource=https://mail.contoso.com.evil.example", InvalidTarget},
		"another scope":         {code + "&scope=https://graph.microsoft.com/Mail.Read", InvalidScope},
		"a word of its own":     {code + "&scope=.default", InvalidScope},
		"two grants":            {code + "&grant_type=refresh_token", InvalidRequest},
		"code and refresh":      {code + "&refresh_token=" + secret, InvalidRequest},
		"no code":               {"grant_type=authorization_code&client_id=" + apple, InvalidRequest},
		"empty code":            {"grant_type=authorization_code&code=&client_id=" + apple, InvalidRequest},
		"not escaped":           {code + "&x=%zz", InvalidRequest},
		"a name with a blank":   {code + "&+resource=x", InvalidRequest},
		"a name with a bracket": {code + "&resource[]=x", InvalidRequest},
		"empty":                 {"", InvalidClient},
		"JSON":                  {`{"grant_type":"refresh_token"}`, InvalidRequest},
		"too long":              {code + "&x=" + strings.Repeat("a", MaxTokenForm), InvalidRequest},
		"many":                  {code + "&" + manyParams(), InvalidRequest},
	}
	for name, c := range tokens {
		r, err := v1().Token([]byte(c[0]))
		refusedFor(t, name, err, c[1])
		if !r.Form.IsZero() {
			t.Errorf("%s: there is a form to send", name)
		}
	}
	const ask = "response_type=code&client_id=" + apple
	for name, c := range map[string][2]string{
		"implicit":         {"response_type=token&client_id=" + apple, UnsupportedResponseType},
		"hybrid":           {"response_type=code+id_token&client_id=" + apple, UnsupportedResponseType},
		"request object":   {ask + "&request=x.y.z", InvalidRequest},
		"request uri":      {ask + "&request_uri=https://evil.example", InvalidRequest},
		"another client":   {"response_type=code&client_id=x", InvalidClient},
		"another resource": {ask + "&resource=https://graph.microsoft.com", InvalidTarget},
		"too long":         {ask + "&x=" + strings.Repeat("a", MaxAuthorizeQuery), InvalidRequest},
	} {
		_, err := v1().Authorize(c[0])
		refusedFor(t, name, err, c[1])
	}
	if _, err := (Front{}).Authorize("client_id="); err == nil {
		t.Error("the zero Front lets something through")
	}
}

func manyParams() string {
	var all []string
	for i := range maxParams {
		all = append(all, "p"+strings.Repeat("x", i)+"=1")
	}
	return strings.Join(all, "&")
}

func refusedFor(t *testing.T, name string, err error, code string) {
	t.Helper()
	var refused *RequestError
	if !errors.As(err, &refused) || refused.Code != code || strings.Contains(err.Error(), "S3cret") {
		t.Errorf("%s: %v, want %s", name, err, code)
	}
}

func TestTokenAnswer(t *testing.T) {
	for body, want := range map[string]time.Duration{
		`{"token_type":"Bearer","access_token":"abc","expires_in":3599}`:            3599 * time.Second,
		`{"token_type":"bearer","access_token":"abc","expires_in":"3599","x":[{}]}`: 3599 * time.Second,
		`{"token_type":"Bearer","access_token":"abc"}`:                              time.Hour,
		`{"token_type":"Bearer","access_token":"abc","expires_in":-5}`:              time.Hour,
		`{"token_type":"Bearer","access_token":"abc","expires_in":1e300}`:           366 * 24 * time.Hour,
		`{"token_type":"Bearer","access_token":"abc","expires_in":"soon"}`:          time.Hour,
		`{"token_type":"DPoP","access_token":"abc"}`:                                -1,
		`{"token_type":"Bearer"}`:                                                   -1,
		`{"token_type":"Bearer","access_token":"abc","access_token":"other"}`:       -1,
		`{"token_type":"Bearer","access_token":{"a":1}}`:                            -1,
		`[]`: -1, ``: -1,
	} {
		a, ok := ParseTokenAnswer([]byte(body))
		if ok != (want > 0) || ok && (a.Life != want || a.Access.Reveal() != "abc") {
			t.Errorf("%s: %v %v %v", body, a.Life, ok, a.Access.Reveal())
		}
	}
	if s := string(ErrorAnswer(InvalidTarget, "a\"b\\c\n\u00e4")); s != `{"error":"invalid_target","error_description":"abc"}` {
		t.Error(s)
	}
}

func FuzzFront(f *testing.F) {
	for _, s := range []string{"response_type=code&client_id=" + apple + "&resource=https://mail.contoso.com/&state=%20", "grant_type=refresh_token&refresh_token=a&client_id=" + apple,
		"client_id=" + apple + "&scope=openid+https://mail.contoso.com//EAS.AccessAsUser.All", "client_id=" + apple + "&Resource=x;y", "&&a=b&", "%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckTokenQuery(s) == nil {
			for name := range mustQuery(t, s) {
				if slices.Contains(ofToken, strings.ToLower(name)) {
					t.Errorf("%q was let through in the query %q", name, s)
				}
			}
		}
		for _, front := range []Front{v1(), v2()} {
			out, err := front.Authorize(s)
			if err == nil {
				// Whoever reads the result, by letter case or not, sees the mail service alone, and all else as it was.
				reads(t, s, out, front)
			}
			r, err := front.Token([]byte(s))
			if err == nil {
				reads(t, s, r.Form.Reveal(), front)
			}
		}
	})
}

func mustQuery(t *testing.T, s string) url.Values {
	t.Helper()
	v, err := url.ParseQuery(s)
	if err != nil {
		t.Fatalf("accepted and not readable: %v", err)
	}
	return v
}

func reads(t *testing.T, in, out string, f Front) {
	t.Helper()
	before, err := url.ParseQuery(in)
	after, err2 := url.ParseQuery(out)
	if err != nil || err2 != nil {
		t.Fatalf("accepted and not readable: %v, %v", err, err2)
	}
	about := false
	for name, values := range after {
		switch strings.ToLower(name) {
		case "resource":
			about = true
			if len(values) != 1 || !sameResource(values[0], f.Destination) {
				t.Fatalf("resource %q", values)
			}
		case "scope":
			for _, w := range strings.Fields(values[0]) {
				if strings.Contains(w, "/") && !strings.HasPrefix(strings.ToLower(w), strings.ToLower(f.Destination)) {
					t.Fatalf("scope %q", values)
				}
				about = about || strings.Contains(w, "/")
			}
		default:
			if len(values) != 1 || len(before[name]) != 1 || before[name][0] != values[0] {
				t.Fatalf("%s was %q and is %q", name, before[name], values)
			}
		}
	}
	if !about {
		t.Fatalf("%q names no resource", out)
	}
}
