package mdm

import (
	"net/http"
	"testing"
)

// A Windows account is the same in any case, with its domain or without. One name means one user, and that one's password counts.
func TestNDESUserNames(t *testing.T) {
	w := newWorld(t)
	w.device("contoso", "C39XYZ", "")
	const second = password + "2"
	users := func(u ...NDESUser) func(*NDESConfig) { return func(cfg *NDESConfig) { cfg.Users = u } }
	one := w.ndes(0, users(NDESUser{`CONTOSO\mdm`, NewSecret(password), false}))
	mail := w.ndes(0, users(NDESUser{"MDM@contoso.com", NewSecret(password), false}))
	bare := w.ndes(0, users(NDESUser{"Mdm", NewSecret(password), false}))
	two := w.ndes(0, users(NDESUser{`CONTOSO\mdm`, NewSecret(password), false}, NDESUser{`FABRIKAM\mdm`, NewSecret(second), false}))
	mixed := w.ndes(0, users(NDESUser{`CONTOSO\mdm`, NewSecret(password), false}, NDESUser{`mdm@contoso.com`, NewSecret(second), false}))
	for _, c := range []struct {
		page       http.Handler
		user, pass string
		want       int
	}{
		{one, `CONTOSO\mdm`, password, 200},
		{one, `contoso\MDM`, password, 200},
		{one, `mdm`, password, 200},
		{one, `Mdm@Contoso`, password, 200},
		{one, `mdm@contoso.com`, password, 200},
		{one, `contoso.com\mdm`, password, 200},
		{one, `.\mdm`, password, 200},
		{one, `FABRIKAM\mdm`, password, 401},
		{one, `mdm@fabrikam.com`, password, 401},
		{one, `mdm@contoso2.com`, password, 401},
		{one, `CONTOSO\mdm2`, password, 401},
		{one, `CONTOSO\`, password, 401},
		{one, `@contoso.com`, password, 401},
		{one, `contoso\MDM`, "CORRECT HORSE", 401},
		{mail, `mdm@contoso.com`, password, 200},
		{mail, `CONTOSO\mdm`, password, 200},
		{mail, `MDM`, password, 200},
		{mail, `mdm@contoso.de`, password, 401},
		{bare, `anybody\MDM`, password, 200},
		{bare, `mdm`, second, 401},
		{two, `contoso\mdm`, password, 200},
		{two, `fabrikam\mdm`, second, 200},
		{two, `contoso\mdm`, second, 401},
		{two, `fabrikam\mdm`, password, 401},
		{two, `mdm`, password, 401}, // whose?
		{two, `mdm`, second, 401},
		{mixed, `contoso\MDM`, password, 200},
		{mixed, `MDM@contoso.com`, second, 200},
		{mixed, `contoso\MDM`, second, 401},
		{mixed, `MDM@contoso.com`, password, 401},
	} {
		// From loopback, where many may be wrong: elsewhere the tenth would be refused for that.
		if got := ask(local{c.page}, "GET", NDESPath+"?serial=C39XYZ", c.user, c.pass, "").Code; got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.user, c.pass, got, c.want)
		}
	}
	cfg := NDESConfig{Issuer: "contoso", CA: one.ca, Registry: w.reg, Log: w.log,
		Users: []NDESUser{{`CONTOSO\mdm`, NewSecret(password), false}, {`contoso\MDM`, NewSecret(second), false}}}
	if _, err := NewNDES(cfg); err == nil {
		t.Error("one account twice: accepted")
	}
}

// local lets each request come from loopback.
type local struct{ http.Handler }

func (f local) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.RemoteAddr = "127.0.0.1:1"
	f.Handler.ServeHTTP(w, r)
}
