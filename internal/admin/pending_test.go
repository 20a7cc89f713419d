package admin

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/trust"
)

// The pending requests over the API: listed, shown, settled by those who may, and each settled once.
func TestPending(t *testing.T) {
	reg := registry.New(registrytest.Store(t), time.Now, slog.New(slog.DiscardHandler))
	ids := pend(t, reg)
	a := New(Config{Registry: reg, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	local := httptest.NewServer(a.Local())
	t.Cleanup(local.Close)
	remote := httptest.NewServer(a.Remote())
	t.Cleanup(remote.Close)
	root := trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}
	desk, _, err := reg.CreateToken(t.Context(), root, "desk", trust.HelpDesk, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(base, method, path, token string, out any) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, base+api.Prefix+path, strings.NewReader(map[string]string{"POST": `{"comment":"seen"}`}[method]))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if out != nil && json.Unmarshal(body, out) != nil {
			t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, body)
		}
		return resp.StatusCode
	}
	var all []api.Pending
	if code := ask(remote.URL, "GET", "/pending?state=waiting", desk, &all); code != 200 || len(all) != 2 || all[0].ID != ids[0] || all[0].CSR != "" {
		t.Fatalf("%d %+v", code, all)
	}
	for _, path := range []string{"/approve", "/reject"} {
		if code := ask(remote.URL, "POST", "/pending/"+ids[0]+path, desk, nil); code != 403 {
			t.Errorf("help desk %s: %d", path, code)
		}
	}
	var one api.Pending
	if code := ask(local.URL, "POST", "/pending/"+strings.ToLower(ids[0])+"/approve", "", &one); code != 200 || one.State != "approved" || one.By != "cli:root" || one.Comment != "seen" {
		t.Errorf("%d %+v", code, one)
	}
	if code := ask(local.URL, "POST", "/pending/"+ids[1]+"/reject", "", &one); code != 200 || one.State != "rejected" {
		t.Errorf("%d %+v", code, one)
	}
	if code := ask(local.URL, "POST", "/pending/"+ids[1]+"/approve", "", nil); code != 409 {
		t.Errorf("approved after it was rejected: %d", code)
	}
	if code := ask(local.URL, "GET", "/pending/"+ids[1], "", &one); code != 200 || !strings.Contains(one.CSR, "CERTIFICATE REQUEST") || one.Decided == nil {
		t.Errorf("%d %+v", code, one)
	}
	if code := ask(local.URL, "GET", "/pending/000000000000", "", nil); code != 404 {
		t.Errorf("unknown: %d", code)
	}
}

// pend makes two requests pending and returns their ids in order.
func pend(t *testing.T, reg *registry.Registry) (ids []string) {
	t.Helper()
	root := trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}
	if err := reg.PutCA(t.Context(), trust.Principal{Kind: "system", Name: "serve"}, registry.CA{Issuer: "contoso", ID: "issuing", Domains: []string{"contoso.com"}}); err != nil {
		t.Fatal(err)
	}
	d, err := reg.AddDevice(t.Context(), root, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: "S1", Managed: true, Source: "admin"},
		Owner: trust.Owner{Mail: "alice@contoso.com"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"00000000000A", "00000000000B"} {
		secret, _, err := reg.CreateChallenge(t.Context(), root, d.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		csr := []byte{byte(i)}
		p := registry.Pending{ID: id, Issuer: "contoso", TransactionID: id, MessageType: "PKCSReq", Device: d.ID, Owner: d.Owner, Evidence: trust.Evidence{Kind: "challenge"}, CSR: csr}
		x := registry.Transaction{Issuer: "contoso", ID: id, MessageType: "PKCSReq", CSR: sha256.Sum256(csr), Challenge: secret}
		if _, err := reg.Pend(t.Context(), trust.Principal{Kind: "scep", Name: "contoso"}, p, x, sha256.Sum256(csr)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}
