package edge_test

import (
	"encoding/json"
	"strings"
	"testing"

	"postern/internal/eas"
	"postern/internal/trust"
)

// provision is a Provision with what a phone says of itself.
func provision(t *testing.T, model, os string) string {
	t.Helper()
	body, err := eas.NewEncoder().Start(eas.PageProvision, "Provision").Start(eas.PageSettings, "DeviceInformation").Start(eas.PageSettings, "Set").
		Element(eas.PageSettings, "Model", model).Element(eas.PageSettings, "OS", os).End().End().End().Bytes()
	must(t, err)
	return string(body)
}

// TestDeviceInformation: what a phone says of itself in a body is a claimed fact, with limits, and the body passes as it came.
func TestDeviceInformation(t *testing.T) {
	w := newWorld(t, options{})
	d, c := w.managed(alice, "")
	_, err := w.reg.SetDeviceState(t.Context(), root, d.ID, trust.Blocked, "") // refusals are explained, with their facts
	must(t, err)
	w.sync()
	claimed := func(k call) (out struct{ Model, OS string }) {
		t.Helper()
		k.agent = "Android-Mail/2026.08.17"
		decision, _ := w.reasons(w.do(w.phone(&c, false), k).reference)
		var input struct{ Claimed struct{ Model, OS string } }
		must(t, json.Unmarshal(decision.Input, &input))
		return input.Claimed
	}
	k := command("Provision", alice, aliceEAS)
	for _, tt := range []struct{ name, body, model, os string }{
		{"no document", "\x03\x01\x6a\x00garbage", "", ""},
		{"too large", provision(t, "Pixel 9", "x") + strings.Repeat("\x00", 70_000), "", ""},
		{"nothing", "", "", ""},
		{"as sent", provision(t, "Pixel 9", "Android 16"), "Pixel 9", "Android 16"},
		{"Apple's spelling", provision(t, "iPhone15C4", "iOS 27.0"), "iPhone15,4", "iOS 27.0"},
		{"too long to be of use", provision(t, strings.Repeat("m", 1000), ""), strings.Repeat("m", 128), ""},
	} {
		k.body = tt.body
		if got := claimed(k); got.Model != tt.model || got.OS != tt.os {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	other := command("Sync", alice, aliceEAS)
	other.body = provision(t, "Pixel 9", "Android 16")
	if got := claimed(other); got.OS != "" {
		t.Errorf("another command: %+v", got)
	}

	_, err = w.reg.SetDeviceState(t.Context(), root, d.ID, trust.Active, "")
	must(t, err)
	w.sync()
	w.takeSeen()
	for _, body := range []string{provision(t, "Pixel 9", "Android 16"), "\x03\x01\x6a\x00garbage", strings.Repeat("long", 50_000)} {
		k.body = body
		if got := w.do(w.phone(&c, false), k); phoneSees(got) != mail {
			t.Fatalf("the phone sees %s", phoneSees(got))
		}
		if seen := w.takeSeen(); len(seen) != 1 || seen[0].body != body {
			t.Errorf("a body of %d bytes did not pass as it was", len(body))
		}
	}
}
