package oauth

import (
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func jwt(header, payload string) string {
	e := base64.RawURLEncoding.EncodeToString
	return e([]byte(header)) + "." + e([]byte(payload)) + "." + e([]byte("signature"))
}

func bearer(payload string) string { return "Bearer " + jwt(`{"typ":"JWT","alg":"RS256"}`, payload) }

func basic(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }

func parse(t *testing.T, value string) Credential {
	t.Helper()
	c, err := ParseAuthorization([]string{value})
	if err != nil {
		t.Fatalf("ParseAuthorization: %v", err)
	}
	return c
}

func TestKinds(t *testing.T) {
	for value, want := range map[string]Kind{
		"Bearer": KindEmptyBearer, "Bearer ": KindEmptyBearer, "bearer   ": KindEmptyBearer, "BEARER abc": KindBearer,
		basic("alice:x"): KindBasic, strings.Replace(basic("alice:x"), "Basic ", "bAsIc  ", 1): KindBasic,
	} {
		if c := parse(t, value); c.Kind != want {
			t.Errorf("%q is %s, want %s", value, c.Kind, want)
		}
	}
	if c, err := ParseAuthorization(nil); err != nil || c.Kind != KindNone {
		t.Errorf("no header: %v, %v", c.Kind, err)
	}
}

func TestBasicUsers(t *testing.T) {
	for name, want := range map[string]string{
		"Alice@Contoso.com": "alice@contoso.com", `CONTOSO\Alice`: `contoso\alice`, "contoso/alice": `contoso\alice`,
		`\alice@contoso.com`: "alice@contoso.com", "ÄRGER@contoso.com": "ärger@contoso.com", "alice": "alice",
		`contoso\alice@contoso.com`: `contoso\alice@contoso.com`,
	} {
		c := parse(t, basic(name+":pass:word"))
		if c.User != want || !reflect.DeepEqual(c.Users, []string{want}) || c.Secret().Reveal() != "pass:word" {
			t.Errorf("%q: user %q, users %q, want %q", name, c.User, c.Users, want)
		}
	}
}

// TestPasswordsOfOtherCharacterSets: whose password it is can be read beside any bytes of it.
func TestPasswordsOfOtherCharacterSets(t *testing.T) {
	for _, password := range []string{"p\xe4ss", "\x80\xff", "pä:ss", ""} {
		if c := parse(t, basic("alice@contoso.com:"+password)); c.User != "alice@contoso.com" || c.Secret().Reveal() != password {
			t.Errorf("%q: user %q, password %q", password, c.User, c.Secret().Reveal())
		}
	}
}

func TestEntraToken(t *testing.T) {
	c := parse(t, bearer(`{"aud":"https://Outlook.office365.com/","iss":"https://sts.windows.net/T/","iat":1700000000,"nbf":1700000000,"exp":1700003600.5,
		"appid":"F8D98A96-0999-43f5-8af3-69971c7bb423","oid":"AAAA-1","tid":"BBBB-2","scp":"EAS.AccessAsUser.All offline_access",
		"upn":"Alice@Contoso.com","unique_name":"alice@contoso.com","email":"a.smith@contoso.com","xms_cc":["cp1"],"nested":{"a":{"b":[1]}}}`))
	want := Credential{
		Kind: KindBearer, User: "alice@contoso.com", Users: []string{"alice@contoso.com", "a.smith@contoso.com"},
		OID: "aaaa-1", TID: "bbbb-2", Audience: []string{"https://outlook.office365.com/"}, AppID: "f8d98a96-0999-43f5-8af3-69971c7bb423",
		Issuer: "https://sts.windows.net/T/", Scopes: []string{"eas.accessasuser.all", "offline_access"},
		Expires: time.Unix(1700003600, 0).UTC(), NotBefore: time.Unix(1700000000, 0).UTC(), secret: c.secret,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestTokenShapes(t *testing.T) {
	tests := []struct {
		name, payload string
		check         func(Credential) bool
	}{
		{"audiences", `{"aud":["A","b"],"azp":"X"}`, func(c Credential) bool {
			return reflect.DeepEqual(c.Audience, []string{"a", "b"}) && c.AppID == "x"
		}},
		{"idtyp app", `{"idtyp":"app","upn":"a@b.c"}`, func(c Credential) bool { return c.AppOnly && c.User == "a@b.c" }},
		{"roles without user", `{"roles":["full_access_as_app"]}`, func(c Credential) bool { return c.AppOnly && c.User == "" }},
		{"roles of a user", `{"roles":["x"],"upn":"a@b.c"}`, func(c Credential) bool { return !c.AppOnly }},
		{"no claims", `{}`, func(c Credential) bool { return !c.AppOnly && !c.Opaque && c.User == "" && c.Expires.IsZero() }},
		{"names differ by case", `{"UPN":"mallory@x.y","upn":"a@b.c"}`, func(c Credential) bool { return c.User == "a@b.c" }},
		{"preferred name", `{"preferred_username":"A@b.c"}`, func(c Credential) bool { return c.User == "a@b.c" }},
	}
	for _, tt := range tests {
		if c := parse(t, bearer(tt.payload)); !tt.check(c) {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
}

func TestOpaqueTokens(t *testing.T) {
	for _, token := range []string{"EwBAAul3BAAU", "ya29.a0Af_xyz", "a.b.c.d.e", "abc=="} {
		if c := parse(t, "Bearer "+token); !c.Opaque || c.User != "" || c.Secret().Reveal() != token {
			t.Errorf("%q: %+v", token, c)
		}
	}
}

func TestRefusals(t *testing.T) {
	const secret = "S3cretValue"
	e := base64.RawURLEncoding.EncodeToString
	unsigned := "Bearer " + e([]byte(`{"alg":"none"}`)) + "." + e([]byte(`{"upn":"`+secret+`"}`)) + "."
	tests := map[string][]string{
		"two headers":         {basic("a:" + secret), "Bearer"},
		"the same twice":      {"Bearer " + secret, "Bearer " + secret},
		"too long":            {"Bearer " + strings.Repeat(secret, 2000)},
		"empty":               {""},
		"other scheme":        {"Negotiate " + secret},
		"two in one":          {"Bearer " + secret + ", Basic " + secret},
		"tab":                 {"Bearer\t" + secret},
		"not base64":          {"Basic !" + secret},
		"no padding":          {"Basic YQ"},
		"line break in it":    {"Basic YTp\r\nz"},
		"no colon":            {basic(secret)},
		"no user":             {basic(":" + secret)},
		"latin-1":             {basic("\xe4@contoso.com:" + secret)},
		"control characters":  {basic("a\x00b:" + secret)},
		"control in password": {basic("a:\x07" + secret)},
		"two at signs":        {basic("a@b@c:" + secret)},
		"two domains":         {basic(`a\b\c:` + secret)},
		"user too long":       {basic(strings.Repeat("a", 321) + ":" + secret)},
		"unsigned":            {unsigned},
		"no algorithm":        {"Bearer " + jwt(`{}`, `{}`)},
		"duplicate claim":     {bearer(`{"upn":"a@b.c","upn":"` + secret + `"}`)},
		"escaped duplicate":   {bearer(`{"upn":"a@b.c","\u0075pn":"` + secret + `"}`)},
		"nested duplicate":    {bearer(`{"a":[{"b":1,"b":2}]}`)},
		"deep":                {bearer(strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20))},
		"not an object":       {bearer(`["` + secret + `"]`)},
		"trailing":            {bearer(`{}{}`)},
		"not JSON":            {bearer(secret)},
		"not UTF-8":           {bearer("{\"upn\":\"\xff\"}")},
		"name is a number":    {bearer(`{"upn":1}`)},
		"name is a list":      {bearer(`{"upn":["` + secret + `"]}`)},
		"bad name":            {bearer(`{"upn":"a@b@` + secret + `"}`)},
		"expiry is text":      {bearer(`{"exp":"1700000000"}`)},
		"expiry out of range": {bearer(`{"exp":1e300}`)},
		"negative expiry":     {bearer(`{"exp":-1}`)},
		"audience is mixed":   {bearer(`{"aud":["a",1]}`)},
		"null audience":       {bearer(`{"aud":null}`)},
		"two clients":         {bearer(`{"appid":"a","azp":"b"}`)},
		"padding inside":      {"Bearer " + e([]byte(`{"alg":"x"}`)) + "=.e30." + e([]byte("s"))},
	}
	for name, values := range tests {
		c, err := ParseAuthorization(values)
		var refused *Error
		if !errors.As(err, &refused) {
			t.Errorf("%s: accepted as %+v", name, c)
			continue
		}
		want := CodeUnreadable
		if len(values) > 1 {
			want = CodeDuplicate
		}
		if refused.Code != want || strings.Contains(err.Error(), secret) || !reflect.DeepEqual(c, Credential{}) {
			t.Errorf("%s: %v (code %s, want %s), credential %+v", name, err, refused.Code, want, c)
		}
	}
}

func FuzzParseAuthorization(f *testing.F) {
	for _, seed := range []string{"", "Bearer", "Bearer a.b.c", basic("a@b.c:secret"), basic(`D\u:p`), bearer(`{"upn":"a@b.c","exp":1}`),
		bearer(`{"roles":["x"],"aud":["y"]}`), bearer(`{"a":1,"a":2}`), "Negotiate x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		c, err := ParseAuthorization([]string{value})
		if err != nil {
			if !reflect.DeepEqual(c, Credential{}) {
				t.Fatalf("a refused credential says something: %+v", c)
			}
			return
		}
		for _, user := range c.Users {
			again, ok := NormalizeUser(user)
			if !ok || again != user {
				t.Fatalf("user %q normalises to %q, %v", user, again, ok)
			}
		}
		if c.Kind == KindNone || (c.User == "") != (len(c.Users) == 0) {
			t.Fatalf("odd credential %+v", c)
		}
	})
}
