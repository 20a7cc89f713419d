package edge_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"postern/internal/eas"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// The facts that the library asks for come from the registry, the request and the data, and each of its policies stops a phone at the edge.
func TestLibraryAtTheEdge(t *testing.T) {
	access := func(settings string) string { return "postern: {config: {access: {" + settings + "}}}\n" }
	no, old := trust.NonCompliant, "17.4"
	update := func(w *world, d trust.Device, u registry.DeviceUpdate) {
		_, rev, err := w.reg.UpdateDevice(context.Background(), root, d.ID, u)
		must(w.t, err)
		must(w.t, w.index.CatchUp(context.Background(), rev))
	}
	for name, c := range map[string]struct {
		data string
		do   func(*world, trust.Device)
		code string
	}{
		"non-compliant, after the grace": {access("noncompliant: deny, noncompliant_grace: 3600"), func(w *world, d trust.Device) {
			update(w, d, registry.DeviceUpdate{Compliant: &no})
			w.pass(time.Hour)
		}, "device_not_compliant"},
		"old system": {access(`min_os_version: {ios: "17.5.1"}`), func(w *world, d trust.Device) {
			ios := "iPadOS" // as Jamf has it
			update(w, d, registry.DeviceUpdate{OS: &ios, OSVersion: &old})
		}, "os_too_old"},
		"old ActiveSync":     {access("min_eas_version: 170"), nil, "eas_version_too_old"},
		"unlisted client":    {access("allowed_clients: [gmail]"), nil, "client_not_allowed"},
		"platform":           {access("denied_platforms: [ios]"), nil, "platform_not_allowed"},
		"network":            {access("denied_zones: [loopback]") + "networks: {loopback: 127.0.0.0/8}\n", nil, "zone_not_allowed"},
		"network, as IPv6":   {access("denied_zones: [loopback]") + "networks: {loopback: '::ffff:127.0.0.0/104'}\n", nil, "zone_not_allowed"},
		"row of the table":   {access("sign_on: [{groups: [all], action: deny}, {action: allow}]") + "groups: {all: [ALICE@contoso.com]}\n", nil, "sign_on_rule"},
		"the second of one":  {access("max_devices: 1, excess_devices: deny"), func(w *world, _ trust.Device) {}, "too_many_devices"},
		"the client's claim": {access(`min_os_version: {ios: "30"}, claimed_os_version: true`), nil, "os_too_old"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{})
			if name == "the second of one" {
				w.managed(alice, "")
				w.pass(time.Minute)
			}
			d, cert := w.managed(alice, "")
			call := command("Sync", alice, aliceEAS)
			w.team(c.data)
			if c.do != nil {
				c.do(w, d)
			}
			last, codes := w.reasons(w.do(w.phone(&cert, false), call).reference)
			if last.Action != trust.Deny || len(codes) != 1 || codes[0] != c.code {
				t.Errorf("%s %v, want %s", last.Action, codes, c.code)
			}
			if strings.HasPrefix(c.code, "zone") {
				var in policy.AccessInput
				if err := json.Unmarshal(last.Input, &in); err != nil || !in.Request.Zones["loopback"] {
					t.Errorf("the zones are not recorded: %v, %v", in.Request.Zones, err)
				}
			}
		})
	}
}

// Every command that the edge reads, and every platform that it tells apart, is one that the policy's data may name.
func TestCommandsAndPlatformsAreKnownToPolicies(t *testing.T) {
	var names []string
	for _, c := range eas.Commands() {
		names = append(names, strings.ToLower(c.String()))
	}
	raw, err := os.ReadFile("../eas/clients.json")
	must(t, err)
	var table struct {
		Rows []struct {
			Platform string `json:"platform"`
		} `json:"rows"`
	}
	must(t, json.Unmarshal(raw, &table))
	var systems []string
	for _, r := range table.Rows {
		systems = append(systems, r.Platform)
	}
	if len(names) < 20 || len(systems) < 20 {
		t.Fatalf("%d commands, %d rows", len(names), len(systems))
	}
	settings := "denied_commands: [" + strings.Join(names, ", ") + "], denied_platforms: [" + strings.Join(systems, ", ") + "]"
	_, err = policy.Load(t.Context(), policy.Options{Timeout: 5 * time.Second, Files: policy.Files{"x.yaml": []byte("postern: {config: {access: {" + settings + "}}}\n")}})
	must(t, err)
}

// A phone whose certificate was revoked or held, or whose device was taken out of service, does not do better without the certificate: not for a break-glass
// account, not while the reasons are only observed, and not by an exception.
func TestNoWayRoundRevocation(t *testing.T) {
	const codes = "no_certificate, duplicate_profile_without_certificate"
	ways := map[string]string{
		"break glass": "break_glass: [{user: alice@contoso.com}]",
		"rollout":     "rollout: {no_certificate: [{stage: observe}], duplicate_profile_without_certificate: [{stage: observe}]}",
		"exception":   "max_devices: 0",
	}
	taken := map[string]func(*world, trust.Device, trust.Serial) error{
		"revoked": func(w *world, _ trust.Device, s trust.Serial) error {
			_, err := w.reg.Revoke(context.Background(), root, "contoso", s, trust.KeyCompromise, "")
			return err
		},
		"held": func(w *world, _ trust.Device, s trust.Serial) error {
			_, err := w.reg.Hold(context.Background(), root, "contoso", s, "")
			return err
		},
		"blocked": func(w *world, d trust.Device, _ trust.Serial) error {
			_, err := w.reg.SetDeviceState(context.Background(), root, d.ID, trust.Blocked, "")
			return err
		},
		"suspended": func(w *world, d trust.Device, _ trust.Serial) error {
			_, err := w.reg.SuspendDevice(context.Background(), root, d.ID, trust.SuspendLost, "")
			return err
		},
		"retired": func(w *world, d trust.Device, _ trust.Serial) error {
			_, err := w.reg.RetireDevice(context.Background(), root, d.ID, "")
			return err
		},
	}
	for way, settings := range ways {
		for what, take := range taken {
			t.Run(way+", "+what, func(t *testing.T) {
				w := newWorld(t, options{})
				d, cert := w.managed(alice, aliceEAS)
				w.team("postern: {config: {access: {" + settings + "}}}\n")
				if way == "exception" {
					_, _, err := w.reg.GrantException(context.Background(), root, trust.Exception{Device: d.ID, Reasons: strings.Split(codes, ", "), Until: w.clock.now().Add(time.Hour), Comment: "why"})
					must(t, err)
					w.sync()
				}
				call := command("Sync", alice, aliceEAS)
				if r := w.do(w.phone(&cert, false), call); phoneSees(r) != mail {
					t.Fatalf("with its certificate: %s", phoneSees(r))
				}
				if before := phoneSees(w.do(w.phone(nil, false), call)); (before == mail) != (way != "break glass") {
					t.Fatalf("without it, before: %s", before)
				}
				must(t, take(w, d, serialOf(cert)))
				w.sync()
				w.takeSeen()
				if after := phoneSees(w.do(w.phone(nil, false), call)); after != blocked || len(w.takeSeen()) > 0 {
					t.Errorf("without it, after: %s", after)
				}
			})
		}
	}
}

// Every client family that the edge tells apart is one that the policy's data may name, and the other way round.
func TestClientFamiliesAreKnownToPolicies(t *testing.T) {
	raw, err := os.ReadFile("../eas/clients.json")
	must(t, err)
	var table struct {
		Rows []struct {
			Family string `json:"family"`
		} `json:"rows"`
	}
	must(t, json.Unmarshal(raw, &table))
	families := []string{"other"}
	for _, r := range table.Rows {
		families = append(families, r.Family)
	}
	_, err = policy.Load(t.Context(), policy.Options{Timeout: 5 * time.Second, Files: policy.Files{"x.yaml": []byte("postern: {config: {access: {denied_clients: [" + strings.Join(families, ", ") + "]}}}\n")}})
	must(t, err)
}
