package admin

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/trust"
)

// The tickets of devices over the API: made by a PKI officer, ended by the help desk too, listed by an auditor, and the secret shown once.
func TestTickets(t *testing.T) {
	store, log := registrytest.Store(t), slog.New(slog.DiscardHandler)
	reg := registry.New(store, time.Now, log)
	index, err := registry.NewIndex(t.Context(), store, time.Now, log)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = index.Run(t.Context()) }()
	root := trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}
	if err := reg.PutCA(t.Context(), root, registry.CA{Issuer: "contoso", ID: "issuing", Domains: []string{"contoso.com"}, DER: []byte("certificate")}); err != nil {
		t.Fatal(err)
	}
	var devices []trust.Device
	for _, owner := range []string{"alice@contoso.com", "bob@contoso.com"} {
		d, err := reg.AddDevice(t.Context(), root, registry.NewDevice{Owner: trust.Owner{Mail: owner}, Device: trust.Device{Issuer: "contoso", SerialNumber: owner, Managed: true}})
		if err != nil {
			t.Fatal(err)
		}
		devices = append(devices, d)
	}
	tokens := map[trust.Role]string{}
	for _, role := range []trust.Role{trust.Auditor, trust.HelpDesk, trust.PKIOfficer} {
		secret, _, err := reg.CreateToken(t.Context(), root, string(role), role, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		tokens[role] = secret
	}
	serve := func(gate string) *httptest.Server {
		s := httptest.NewServer(New(Config{Registry: reg, Index: index, Gate: gate, Now: time.Now, Log: log}).Remote())
		t.Cleanup(s.Close)
		return s
	}
	gate, bare := serve("https://mail.contoso.com"), serve("")
	ask := func(s *httptest.Server, role trust.Role, method, path, body string, out any) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL+api.Prefix+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+tokens[role])
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if out != nil && json.Unmarshal(answer, out) != nil {
			t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, answer)
		}
		return resp.StatusCode
	}
	forDevice := func(d trust.Device, host string) string {
		raw, err := json.Marshal(api.NewTicket{Device: d.ID, Host: host})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}

	var made [2]api.TicketAddresses
	for i, d := range devices {
		host, base := "", "https://mail.contoso.com/"
		if i == 1 {
			host, base = "Mail.Fabrikam.com", "https://mail.fabrikam.com/"
		}
		m := &made[i]
		if code := ask(gate, trust.PKIOfficer, "POST", "/tickets", forDevice(d, host), m); code != 200 || m.Device != d.ID || m.Owner != d.Owner || m.Status != "live" || m.By == "" {
			t.Fatalf("%d %+v", code, m)
		}
		secret, ok := strings.CutPrefix(strings.TrimSuffix(m.SignInURL, "/authorize"), base+"proxyservice/oauth2/t/")
		if !ok || len(secret) < 20 || m.TokenURL != strings.TrimSuffix(m.SignInURL, "authorize")+"token" || strings.Contains(m.ID, secret) {
			t.Errorf("addresses %q and %q", m.SignInURL, m.TokenURL)
		}
	}
	for name, tt := range map[string]struct {
		s    *httptest.Server
		role trust.Role
		body string
		want int
	}{
		"by an auditor":         {gate, trust.Auditor, forDevice(devices[0], ""), 403},
		"by the help desk":      {gate, trust.HelpDesk, forDevice(devices[0], ""), 403},
		"unknown device":        {gate, trust.PKIOfficer, forDevice(trust.Device{ID: "dev-none"}, ""), 404},
		"no host name":          {gate, trust.PKIOfficer, forDevice(devices[0], "https://mail.contoso.com/x"), 400},
		"unknown field":         {gate, trust.PKIOfficer, `{"device":"` + string(devices[0].ID) + `","hots":"x"}`, 400},
		"no front with tickets": {bare, trust.PKIOfficer, forDevice(devices[0], ""), 400},
		"without a token":       {gate, "nobody", forDevice(devices[0], ""), 401},
	} {
		if code := ask(tt.s, tt.role, "POST", "/tickets", tt.body, nil); code != tt.want {
			t.Errorf("%s: %d, want %d", name, code, tt.want)
		}
	}

	list := func(query string) (ids []string, all []api.Ticket) {
		t.Helper()
		var raw json.RawMessage
		if code := ask(gate, trust.Auditor, "GET", "/tickets"+query, "", &raw); code != 200 {
			t.Fatalf("%s: %d %s", query, code, raw)
		}
		for _, m := range made {
			if secret := strings.Split(m.SignInURL, "/")[6]; strings.Contains(string(raw), secret) {
				t.Error("a list shows the secret of a ticket")
			}
		}
		if err := json.Unmarshal(raw, &all); err != nil {
			t.Fatal(err)
		}
		for _, k := range all {
			ids = append(ids, k.ID)
		}
		return ids, all
	}
	if ids, _ := list(""); len(ids) != 2 {
		t.Errorf("tickets %q", ids)
	}
	if ids, _ := list("?device=" + string(devices[1].ID)); !slices.Equal(ids, []string{made[1].ID}) {
		t.Errorf("tickets of one device: %q", ids)
	}
	first, _ := list("?limit=1")
	if next, _ := list("?limit=1&after=" + first[0]); len(first) != 1 || len(next) != 1 || first[0] == next[0] {
		t.Errorf("two pages: %q and %q", first, next)
	}
	if code := ask(gate, trust.Auditor, "GET", "/tickets?limit=none", "", nil); code != 400 {
		t.Errorf("a limit that is no number: %d", code)
	}

	if code := ask(gate, trust.Auditor, "POST", "/tickets/"+made[0].ID+"/revoke", "", nil); code != 403 {
		t.Errorf("revoked by an auditor: %d", code)
	}
	for range 2 { // the second time changes nothing
		var k api.Ticket
		if code := ask(gate, trust.HelpDesk, "POST", "/tickets/"+made[0].ID+"/revoke", "", &k); code != 200 || k.Status != "revoked" || k.Revoked == nil {
			t.Errorf("%d %+v", code, k)
		}
	}
	if code := ask(gate, trust.HelpDesk, "POST", "/tickets/tk-none/revoke", "", nil); code != 404 {
		t.Errorf("unknown ticket: %d", code)
	}
	// A device that is retired takes its tickets along.
	if _, err := reg.RetireDevice(t.Context(), root, devices[1].ID, ""); err != nil {
		t.Fatal(err)
	}
	for _, k := range func() []api.Ticket { _, all := list(""); return all }() {
		if want := map[string]string{made[0].ID: "revoked", made[1].ID: "dead"}[k.ID]; k.Status != want {
			t.Errorf("%s is %s, want %s", k.ID, k.Status, want)
		}
	}
}
