package oauth

import (
	"strings"
	"testing"
)

const ours = "https://mail.contoso.com/proxyservice/oauth2/authorize"

// What Exchange Online, a server in hybrid modern authentication and one with AD FS answer, and a demand for new claims: nothing but the address changes.
func TestRewriteChallenge(t *testing.T) {
	for _, value := range []string{
		`Bearer client_id="00000002-0000-0ff1-ce00-000000000000", trusted_issuers="00000001-0000-0000-c000-000000000000@*", token_types="app_asserted_user_v1 service_asserted_app_v1", authorization_uri="@", error="invalid_token"`,
		`Bearer client_id="00000002-0000-0ff1-ce00-000000000000",authorization_uri="@",issuer_kind="AzureAD"`,
		`Bearer realm="", authorization_uri="@", client_id="00000003-0000-0000-c000-000000000000", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ=="`,
		`Basic realm="mail, Bearer authorization_uri=\"x\"", Bearer authorization_uri="@"`,
		`Negotiate abc==, Bearer authorization_uri="@", error=invalid_token`,
		`Negotiate, NTLM, bearer a=b , Authorization_URI="@"`,
		` ,, Bearer authorization_uri = "@"	, x = y`,
		`Bearer authorization_uri="@", Basic authorization_uri="kept"`,
	} {
		theirs := strings.ReplaceAll(value, "@\"", "https://login.microsoftonline.com/common/oauth2/authorize\"")
		want := strings.ReplaceAll(value, "@\"", ours+"\"")
		if got := RewriteChallenge(theirs, ours); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
		if got := RewriteChallenge(want, ours); got != want {
			t.Errorf("rewritten again: %s", got)
		}
	}
}

func TestChallengesThatStay(t *testing.T) {
	for _, value := range []string{"", "Bearer", `Basic realm="x"`, `Basic authorization_uri="x"`, "Negotiate YWJj", `Bearer authorization_uri="not closed`,
		`Bearer authorization_uri=`, `="x"`, `Bearer @, authorization_uri="x"`, `Bearer authorization_uri="x"junk`, `Bearer error="authorization_uri=\"x\""`,
		`authorization_uri="x"`, "Bearer \xff, authorization_uri=\"x\""} {
		if got := RewriteChallenge(value, ours); got != value {
			t.Errorf("%q became %q", value, got)
		}
	}
	if got := RewriteChallenge("Bearer authorization_uri=plain", ours); got != `Bearer authorization_uri="`+ours+`"` {
		t.Errorf("a value without quotes: %s", got)
	}
}

func FuzzRewriteChallenge(f *testing.F) {
	for _, s := range []string{`Bearer client_id="1", authorization_uri="https://login.example/a", error="invalid_token"`, `Basic realm="a\"b", Bearer authorization_uri=x`,
		"Negotiate abc==,Bearer a = b", `Bearer authorization_uri="`, ",,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := RewriteChallenge(value, ours)
		if again := RewriteChallenge(got, ours); again != got {
			t.Fatalf("%q, then %q, then %q", value, got, again)
		}
		if got != value && !strings.Contains(strings.ToLower(value), "authorization_uri") {
			t.Fatalf("%q became %q", value, got)
		}
		// All that was cut out are values: what is before the first and behind the last change is as it was.
		first, _, changed := strings.Cut(got, `"`+ours+`"`)
		if got != value && (!changed || !strings.HasPrefix(value, first)) {
			t.Fatalf("%q became %q", value, got)
		}
	})
}
