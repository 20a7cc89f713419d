package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
)

// Two persons over the API: everybody looks, officers propose, agree and withdraw, and nobody agrees to what they have proposed themselves.
func TestRevocationsByTwoPersons(t *testing.T) {
	s := newStage(t)
	reg := s.admin.cfg.Registry.WithRevocationRules(registry.RevocationRules{TwoPersons: 1})
	go func() { _ = s.admin.cfg.Index.Run(t.Context()) }()
	root := trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}
	d, err := reg.AddDevice(t.Context(), root, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: "T"}, Owner: trust.Owner{Mail: "bob@contoso.com"}})
	s.must(err)
	secret, _, err := reg.CreateChallenge(t.Context(), root, d.ID, 0)
	s.must(err)
	_, err = reg.CommitEnrolment(t.Context(), trust.Principal{Kind: "scep"}, registry.Enrolment{Challenge: secret, Transaction: registry.Transaction{Issuer: "contoso", ID: "2"},
		Certificate: trust.Certificate{Issuer: "contoso", CA: "issuing", Serial: "0b", Device: d.ID, Owner: d.Owner, Evidence: trust.Evidence{Kind: "challenge"},
			NotAfter: s.at.Add(365 * 24 * time.Hour), DER: []byte{0x30, 0}}})
	s.must(err)
	tokens := map[string]string{}
	for name, role := range map[string]trust.Role{"anna": trust.PKIOfficer, "boris": trust.PKIOfficer, "desk": trust.HelpDesk, "author": trust.PolicyAuthor, "eyes": trust.Auditor} {
		tokens[name], _, err = reg.CreateToken(t.Context(), root, name, role, time.Hour)
		s.must(err)
	}
	remote := s.admin.Remote()
	ask := func(who, method, path, body string, want int, out any) {
		t.Helper()
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, api.Prefix+path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+tokens[who])
		if remote.ServeHTTP(w, r); w.Code != want {
			t.Fatalf("%s %s by %s: %d, want %d: %s", method, path, who, w.Code, want, w.Body)
		}
		if out != nil {
			s.must(json.Unmarshal(w.Body.Bytes(), out))
		}
	}
	both := fmt.Sprintf(`{"reason":"keyCompromise","comment":"stolen","targets":[{"serial":%q},{"device":%q},{"serial":"ffff"}]}`, s.serial, d.ID)
	for _, who := range []string{"desk", "author", "eyes"} {
		ask(who, "POST", "/revocations", both, http.StatusForbidden, nil)
	}
	var got api.Revocations
	ask("anna", "POST", "/revocations", both, http.StatusOK, &got)
	if p := got.Proposal; p == nil || p.State != "waiting" || p.Count != 2 || p.By != "token:anna" || !p.Until.Equal(s.at.Add(24*time.Hour)) || len(got.Results) != 3 || got.Results[2].Error == "" ||
		len(got.Results[0].Revoked)+len(got.Results[1].Revoked) != 0 {
		t.Fatalf("%+v", got)
	}
	path := "/revocations/proposals/" + got.Proposal.ID
	for who := range tokens {
		var shown api.RevokeProposal
		if ask(who, "GET", path, "", http.StatusOK, &shown); len(shown.Certificates) != 2 || shown.Digest != got.Proposal.Digest {
			t.Errorf("%s sees %+v", who, shown)
		}
		if who != "boris" {
			ask(who, "POST", path+"/approve", "", http.StatusForbidden, nil)
		}
		if who != "anna" && who != "boris" {
			ask(who, "POST", path+"/withdraw", "", http.StatusForbidden, nil)
		}
	}
	ask("boris", "POST", "/revocations/proposals/rp-none/approve", "", http.StatusNotFound, nil)
	var done api.Approved
	ask("boris", "POST", path+"/approve", "", http.StatusOK, &done)
	if done.Revoked != 2 || done.Proposal.State != "done" || done.Proposal.Second != "token:boris" || done.Proposal.Done == nil {
		t.Errorf("%+v", done)
	}
	ask("anna", "POST", path+"/withdraw", "", http.StatusConflict, nil)
	var waiting, all []api.RevokeProposal
	ask("eyes", "GET", "/revocations/proposals", "", http.StatusOK, &waiting)
	ask("eyes", "GET", "/revocations/proposals?all=true", "", http.StatusOK, &all)
	if len(waiting) != 0 || len(all) != 1 {
		t.Errorf("%d wait of %d", len(waiting), len(all))
	}
}
