package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/trust"
)

var (
	cliRoot = trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}
	desk    = trust.Principal{Kind: "token", Name: "desk", Role: trust.HelpDesk}
)

// fleet is a server with so many devices and a team's lifecycle rules, without listeners.
func fleet(t *testing.T, devices int, rules string) (*lifecycle, []trust.Device) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store := registrytest.Store(t)
	reg := registry.New(store, time.Now, log)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(reg.PutCA(t.Context(), cliRoot, registry.CA{Issuer: "contoso", ID: "issuing", Domains: []string{"contoso.com"}}))
	var all []trust.Device
	for i := range devices {
		d, err := reg.AddDevice(t.Context(), cliRoot, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: fmt.Sprintf("HW%04d", i), Managed: true, Source: "admin"},
			Owner: trust.Owner{Mail: fmt.Sprintf("user%d@contoso.com", i)}})
		must(err)
		all = append(all, d)
	}
	dir := t.TempDir()
	must(os.WriteFile(filepath.Join(dir, "team.rego"), []byte("package postern.lifecycle.team.test\n\n"+rules), 0o600))
	engine, err := policy.Load(t.Context(), policy.Options{Path: dir, Timeout: 5 * time.Second})
	must(err)
	index, err := registry.NewIndex(t.Context(), store, time.Now, log)
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = index.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	s := &Server{opts: Options{Now: time.Now, Log: log}, registry: reg, index: index, policy: policy.NewActive(engine)}
	return &lifecycle{server: s, cfg: Lifecycle{Share: 5}}, all
}

func TestLifecycleSweep(t *testing.T) {
	l, all := fleet(t, 5, "deny contains \"gone\" if input.device.serial_number == \"HW0001\"\n\nquarantine contains \"lent\" if input.device.serial_number == \"HW0002\"\n")
	sweep := func(p trust.Principal, ask api.RunLifecycle) *api.LifecycleRun {
		t.Helper()
		out, err := l.sweep(t.Context(), p, ask)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	state := func(d trust.Device) string {
		t.Helper()
		d, err := l.server.registry.Device(t.Context(), d.ID)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(d.State, " ", d.Suspended != nil)
	}
	out := sweep(desk, api.RunLifecycle{DryRun: true})
	if out.Devices != 5 || out.Retire != 1 || out.Suspend != 1 || out.Done != 0 || len(out.Changes) != 2 || !strings.Contains(codesOf(slices.Concat(out.Changes[0].Reasons, out.Changes[1].Reasons)), "gone") || state(all[1]) != "pending false" {
		t.Errorf("dry run: %+v, %s", out, state(all[1]))
	}
	if _, err := l.sweep(t.Context(), desk, api.RunLifecycle{}); err == nil || !strings.Contains(err.Error(), "may not do this") {
		t.Errorf("the help desk carries it out: %v", err)
	}
	out = sweep(cliRoot, api.RunLifecycle{})
	if out.Done != 2 || state(all[0]) != "pending false" || state(all[1]) != "retired false" || state(all[2]) != "pending true" {
		t.Errorf("%+v, %s, %s, %s", out, state(all[0]), state(all[1]), state(all[2]))
	}
	audit, err := l.server.registry.Audit(t.Context(), registry.AuditFilter{Action: registry.ActDeviceRetire})
	if err != nil || len(audit) != 1 || audit[0].Principal.Kind != "policy" || audit[0].Principal.Name != out.Policy || !strings.Contains(audit[0].Detail, "gone") {
		t.Errorf("%+v, %v", audit, err)
	}
	if out = sweep(cliRoot, api.RunLifecycle{}); out.Devices != 4 || out.Done != 0 {
		t.Errorf("again: %+v", out)
	}
}

// A rule that catches everybody does nothing, and says so, until somebody insists.
func TestLifecycleIsBounded(t *testing.T) {
	l, all := fleet(t, 60, "quarantine contains \"everybody\" if input.device.managed\n")
	out, err := l.sweep(t.Context(), trust.Principal{Kind: "system", Name: "lifecycle"}, api.RunLifecycle{})
	if err != nil || !out.Refused || out.Done != 0 || out.Suspend != 60 || out.Most != 3 {
		t.Fatalf("%+v, %v", out, err)
	}
	if d, err := l.server.registry.Device(t.Context(), all[0].ID); err != nil || d.Suspended != nil {
		t.Errorf("%+v, %v", d, err)
	}
	if p := l.problems(); len(p) != 1 || !strings.Contains(p[0], "would suspend 60 and retire 0 of 60") || !strings.Contains(p[0], "--dry-run") {
		t.Errorf("%q", p)
	}
	out, err = l.sweep(t.Context(), cliRoot, api.RunLifecycle{All: true})
	if err != nil || out.Refused || out.Done != 60 || len(l.problems()) != 0 {
		t.Errorf("%+v, %v, %q", out, err, l.problems())
	}
}

// A device about which the policy has no decision stays as it is.
func TestLifecycleFaults(t *testing.T) {
	l, all := fleet(t, 3, "except contains [input.device.id] if input.device.serial_number == \"HW0001\"\n\ndeny contains \"gone\" if input.device.serial_number in {\"HW0001\", \"HW0002\"}\n")
	out, err := l.sweep(t.Context(), cliRoot, api.RunLifecycle{})
	if err != nil || out.Faults != 1 || out.Done != 1 || len(out.Errors) != 1 || !strings.Contains(out.Errors[0], string(all[1].ID)) {
		t.Errorf("%+v, %v", out, err)
	}
	if d, err := l.server.registry.Device(t.Context(), all[1].ID); err != nil || d.State == trust.Retired {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestLifecycleSection(t *testing.T) {
	for name, c := range map[string]struct {
		section *LifecycleSection
		want    Lifecycle
		bad     string
	}{
		"left out":  {nil, Lifecycle{Share: 5}, ""},
		"daily":     {&LifecycleSection{Every: Duration(24 * time.Hour)}, Lifecycle{24 * time.Hour, 5}, ""},
		"too often": {&LifecycleSection{Every: 1}, Lifecycle{}, "lifecycle.every"},
		"too much":  {&LifecycleSection{Every: Duration(time.Hour), Share: 101}, Lifecycle{}, "lifecycle.share"},
	} {
		var p problems
		got := c.section.valid(&p)
		if c.bad == "" && (len(p) > 0 || got != c.want) || c.bad != "" && !strings.Contains(fmt.Sprint(p), c.bad) {
			t.Errorf("%s: %+v, %v", name, got, p)
		}
	}
}
