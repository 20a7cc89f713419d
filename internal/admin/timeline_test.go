package admin

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/trust"
)

// stage is a registry with one device and certificate, and a clock, behind the API.
type stage struct {
	*testing.T
	admin  *Admin
	api    http.Handler
	serial trust.Serial
	at     time.Time
}

var publisher = trust.Principal{Kind: "publisher", Name: "test"}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{T: t, serial: "0a1b", at: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}
	now, log, store := func() time.Time { return s.at }, slog.New(slog.DiscardHandler), registrytest.Store(t)
	reg := registry.New(store, now, log)
	root := trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}
	for _, ca := range []string{"root", "issuing"} {
		s.must(reg.PutCA(t.Context(), trust.Principal{Kind: "system"}, registry.CA{Issuer: "contoso", ID: ca, Domains: []string{"contoso.com"}, DER: []byte(ca)}))
	}
	d, err := reg.AddDevice(t.Context(), root, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: "S"}, Owner: trust.Owner{Mail: "alice@contoso.com"}})
	s.must(err)
	secret, _, err := reg.CreateChallenge(t.Context(), root, d.ID, 0)
	s.must(err)
	_, err = reg.CommitEnrolment(t.Context(), trust.Principal{Kind: "scep"}, registry.Enrolment{Challenge: secret, Transaction: registry.Transaction{Issuer: "contoso", ID: "1"},
		Certificate: trust.Certificate{Issuer: "contoso", CA: "issuing", Serial: s.serial, Device: d.ID, Owner: d.Owner, Evidence: trust.Evidence{Kind: "challenge"},
			NotAfter: s.at.Add(365 * 24 * time.Hour), DER: []byte{0x30, 0}}})
	s.must(err)
	index, err := registry.NewIndex(t.Context(), store, now, log)
	s.must(err)
	networks := Networks{Date: "2026-02-01", Service: func(n string) string {
		return map[string]string{entra: "Microsoft Entra ID"}[n]
	}}
	var applied registry.Timing
	applied.Observe(7 * time.Millisecond)
	s.admin = New(Config{Registry: reg, Index: index, Policy: &policy.Active{}, Journal: registrytest.Journal(t), Now: now, Log: log, Networks: networks, Problems: func() []string { return nil },
		Edge: func() EdgeReactions { return EdgeReactions{Applied: applied.Counts(), Ended: 4} }})
	s.api = s.admin.Local()
	return s
}

// publish commits a base or a delta that has everything so far, and lives for so long.
func (s *stage) publish(kind registry.CRLKind, number uint64, life time.Duration) {
	s.Helper()
	known, err := s.admin.cfg.Registry.CRLs(s.Context(), "contoso", "issuing")
	s.must(err)
	after := uint64(0)
	for _, c := range known {
		after = max(after, c.Number)
	}
	_, rev, err := s.admin.cfg.Registry.Listed(s.Context(), "contoso", "issuing")
	s.must(err)
	s.must(s.admin.cfg.Registry.CommitCRLs(s.Context(), publisher, after, registry.CRL{Issuer: "contoso", CA: "issuing", Kind: kind, Number: number, Covers: rev,
		ThisUpdate: s.at, NextUpdate: s.at.Add(life), NextPublish: s.at.Add(life / 2)}))
}

func (s *stage) fetch(object string, number int, network string) {
	s.admin.cfg.Journal.Fetched(registry.Receipt{Object: "contoso/" + object, Number: fmt.Sprint(number), Network: network, UserAgent: "agent", First: s.at, Last: s.at})
}

func (s *stage) timeline() *api.Timeline {
	s.Helper()
	var d api.CertificateDetail
	s.get("/certificates/"+string(s.serial), &d)
	return d.Timeline
}

func (s *stage) get(path string, out any) {
	s.Helper()
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, httptest.NewRequestWithContext(s.Context(), http.MethodGet, api.Prefix+path, nil))
	if w.Code != http.StatusOK {
		s.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
	}
	s.must(json.Unmarshal(w.Body.Bytes(), out))
}

const (
	entra  = "198.51.100.0/24"
	others = "192.0.2.0/24"
)

// TestTimeline plays a revocation, and asks at each step until when the old state may be believed.
func TestTimeline(t *testing.T) {
	s := newStage(t)
	start := s.at
	minutes := func(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }
	s.publish(registry.Base, 100, 7*24*time.Hour)
	s.publish(registry.Delta, 101, time.Hour)
	s.fetch("issuing.crl", 100, entra)
	if got := s.timeline(); got != nil {
		t.Fatalf("a good certificate has a timeline: %+v", got)
	}
	s.at = minutes(2)
	rev, err := s.admin.cfg.Registry.Revoke(t.Context(), trust.Principal{Role: trust.Root}, "contoso", s.serial, trust.KeyCompromise, "")
	s.must(err)
	s.admin.cfg.Journal.Applied(registry.Reaction{Node: "mail.contoso.com", Revision: rev + 3, At: minutes(3)})

	// Whoever was only seen to fetch bases may believe the last base without it, and everybody else the last delta.
	got := s.timeline()
	if got.Change != trust.KeyCompromise || !got.At.Equal(minutes(2)) || len(got.Published) != 0 || got.Fetched != nil || got.Microsoft != nil ||
		len(got.Edges) != 1 || !got.Edges[0].At.Equal(minutes(3)) || got.Edges[0].Node != "mail.contoso.com" {
		t.Errorf("revoked: %+v", got)
	}
	if got.Old == nil || got.Old.Number != 100 || !got.Old.Until.Equal(start.Add(7*24*time.Hour)) || got.Latest == nil || !got.Latest.Equal(minutes(60)) {
		t.Errorf("revoked: old %+v, latest %v", got.Old, got.Latest)
	}
	s.at = minutes(4) // a delta from a cache on the way
	s.fetch("issuing-delta.crl", 101, entra)
	s.fetch("issuing-delta.crl", 99, entra) // nobody knows what that was
	s.at = minutes(5)
	s.publish(registry.Delta, 102, 24*time.Hour)
	s.at = minutes(6)
	s.fetch("issuing-delta.crl", 102, others)
	got = s.timeline()
	if len(got.Published) != 1 || got.Published[0] != (api.Published{Kind: "delta", Number: 102, At: minutes(5)}) || got.Fetched == nil || got.Fetched.Network != others ||
		got.Microsoft != nil || got.Old == nil || got.Old.Number != 101 || !got.Old.Until.Equal(minutes(60)) || !got.Old.At.Equal(minutes(4)) {
		t.Errorf("published: %+v, fetched %+v, old %+v", got, got.Fetched, got.Old)
	}
	s.at = minutes(38)
	s.publish(registry.Base, 103, 7*24*time.Hour)
	s.publish(registry.Delta, 104, 24*time.Hour)
	s.fetch("issuing-delta.crl", 104, entra)
	s.fetch("issuing.crl", 103, entra)
	got = s.timeline()
	if m := got.Microsoft; m == nil || !m.At.Equal(minutes(38)) || m.Service != "Microsoft Entra ID" || m.Network != entra || !got.Fetched.At.Equal(minutes(6)) || len(got.Published) != 2 || got.Old == nil || got.Old.Number != 101 {
		t.Errorf("fetched: %+v, %+v", got.Microsoft, got)
	}
}

// TestReceipts filters who fetched what.
func TestReceipts(t *testing.T) {
	s := newStage(t)
	for i, network := range []string{entra, others, entra} {
		s.at = s.at.Add(time.Minute)
		s.fetch("issuing.crl", 1, network)
		s.fetch("issuing-delta.crl", 2+i, network)
	}
	for query, want := range map[string]int{"": 5, "?microsoft=true": 3, "?microsoft=false": 2, "?kind=base": 2, "?kind=delta&number=3": 1, "?network=" + others: 2,
		"?ca=root": 0, "?issuer=contoso&ca=issuing": 5, "?limit=2": 2} {
		var got []api.Receipt
		s.get("/receipts"+query, &got)
		if len(got) != want {
			t.Errorf("%s: %d rows, want %d", query, len(got), want)
		}
		for i := 1; i < len(got); i++ {
			if got[i].Last.After(got[i-1].Last) {
				t.Errorf("%s: not the newest first", query)
			}
		}
	}
}

// TestReactionMetrics: what a Prometheus gets.
func TestReactionMetrics(t *testing.T) {
	s := newStage(t)
	s.publish(registry.Base, 100, 7*24*time.Hour)
	s.publish(registry.Delta, 101, time.Hour)
	_, err := s.admin.cfg.Registry.Revoke(t.Context(), trust.Principal{Role: trust.Root}, "contoso", s.serial, trust.KeyCompromise, "")
	s.must(err)
	s.at = s.at.Add(700 * time.Millisecond)
	s.publish(registry.Delta, 102, time.Hour)
	s.fetch("issuing-delta.crl", 102, entra)
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`postern_revocation_edge_seconds_bucket{le="0.025"} 1`, `postern_edge_polls_ended_total 4`,
		`postern_revocation_published_seconds_bucket{le="0.5"} 0`, `postern_revocation_published_seconds_bucket{le="1"} 1`,
		`postern_crl_number{ca="issuing",issuer="contoso",kind="delta"} 102`, `postern_crl_number{ca="issuing",issuer="contoso",kind="base"} 100`,
		`postern_crl_receipts{by="microsoft",ca="issuing",issuer="contoso",kind="delta"} 1`, `postern_crl_next_update_timestamp_seconds{ca="issuing",issuer="contoso",kind="base"} `,
	} {
		if !strings.Contains(w.Body.String(), "\n"+line) {
			t.Errorf("no line %s in\n%s", line, w.Body)
		}
	}
}
