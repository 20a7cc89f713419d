package edge

import (
	"strings"
	"testing"
)

// What names the server, and what only the server can be asked for, is made the gate's; nothing else is touched.
func TestOwnCookie(t *testing.T) {
	const server, gate = "eas.outlook.office365.com", "mail.contoso.com"
	for _, tt := range []struct{ name, value, want string }{
		{"no attributes", "a=1", "a=1"},
		{"none that matters", "a=1; Path=/; Secure ;HttpOnly; SameSite=None", "a=1; Path=/; Secure ;HttpOnly; SameSite=None"},
		{"the server", "X-BackEndCookie=u=x; Domain=eas.outlook.office365.com; path=/; secure", "X-BackEndCookie=u=x; path=/; secure"},
		{"a parent, with a dot, in capitals", "a=1;DOMAIN = .Office365.COM ;secure", "a=1;secure"},
		{"at the end", "a=1; secure; domain=outlook.office365.com", "a=1; secure"},
		{"all domains", "a=1; domain=com; secure", "a=1; domain=com; secure"},
		{"somebody else's", "a=1; domain=evil.example", "a=1; domain=evil.example"},
		{"one that only ends like it", "a=1; domain=look.office365.com", "a=1; domain=look.office365.com"},
		{"no domain", "a=1; domain=; secure", "a=1; domain=; secure"},
		{"the gate's", "a=1; domain=contoso.com", "a=1; domain=contoso.com"},
		{"a value that looks like one", "domain=eas.outlook.office365.com", "domain=eas.outlook.office365.com"},
		{"twice", "a=1; domain=contoso.com; domain=office365.com", "a=1; domain=contoso.com"},
		{"below the path", "a=1; Path=/exchange/Microsoft-Server-ActiveSync; secure", "a=1; Path=/Microsoft-Server-ActiveSync; secure"},
		{"the path", "a=1; path= /exchange ;secure", "a=1; path= / ;secure"},
		{"the path with a slash", "a=1; path=/exchange/", "a=1; path=/"},
		{"a path that only begins like it", "a=1; path=/exchange2/x", "a=1; path=/exchange2/x"},
		{"the root", "a=1; path=/", "a=1; path=/"},
	} {
		if got := ownCookie(tt.value, server, gate, "/exchange"); got != tt.want {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
	for _, tt := range []struct{ server, gate, value, want string }{
		{"ex01.contoso.com", gate, "a=1; domain=contoso.com", "a=1; domain=contoso.com"},
		{"ex01.contoso.com", gate, "a=1; domain=ex01.contoso.com", "a=1"},
		{"127.0.0.1", gate, "a=1; domain=127.0.0.1", "a=1"},
		{"127.0.0.1", gate, "a=1; domain=0.0.1", "a=1; domain=0.0.1"},
		{"ex01", gate, "a=1; domain=ex01", "a=1"},
		{server, gate, "a=1; path=/exchange/x", "a=1; path=/exchange/x"},
	} {
		if got := ownCookie(tt.value, tt.server, tt.gate, ""); got != tt.want {
			t.Errorf("%s: %q", tt.server, got)
		}
	}
}

// FuzzOwnCookie: whatever an upstream sends, the cookie's name and value stay, nothing but an attribute goes, and what is the gate's stays as it is.
func FuzzOwnCookie(f *testing.F) {
	for _, s := range []string{"a=b; Domain=.exchange.contoso.com; Path=/owa/x; Secure", "a=\"b;c\"; domain = contoso.com;;", ";Domain", "a; path=/owa"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, base := range []string{"", "/owa"} {
			got := ownCookie(s, "exchange.contoso.com", "mail.fabrikam.com", base)
			pair, _, _ := strings.Cut(s, ";")
			if kept, _, _ := strings.Cut(got, ";"); kept != pair || len(got) > len(s) {
				t.Errorf("%q became %q", s, got)
			}
			if again := ownCookie(got, "exchange.contoso.com", "mail.fabrikam.com", ""); again != ownCookie(again, "exchange.contoso.com", "mail.fabrikam.com", "") {
				t.Errorf("%q is not settled", again)
			}
			if same := ownCookie(s, "mail.fabrikam.com", "mail.fabrikam.com", ""); same != s {
				t.Errorf("%q of the gate itself became %q", s, same)
			}
		}
	})
}
