package edge_test

import (
	"slices"
	"testing"

	"postern/internal/policy"
	"postern/internal/registry"
)

// A second DeviceId on one certificate waits until it is settled: let in beside the first, or refused for good.
func TestSettledProfiles(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	phone := w.phone(&c, false)
	ask := func(client string) (string, []string) {
		t.Helper()
		r, err := w.try(t.Context(), phone, command("FolderSync", alice, client))
		must(t, err)
		if r.reference == "" {
			return "", nil
		}
		_, codes := w.reasons(r.reference)
		return r.reference, codes
	}
	if _, codes := ask("FIRST1"); codes != nil {
		t.Fatalf("the first: %q", codes)
	}
	ref, codes := ask("SECOND2")
	if !slices.Contains(codes, "duplicate_profile_second_device_id") {
		t.Fatalf("the second: %q", codes)
	}
	d, err := w.journal.Decision(t.Context(), ref)
	must(t, err)
	settle := func(s registry.Settlement) {
		t.Helper()
		_, rev, err := w.reg.SettleProfile(t.Context(), root, d.Profile, s)
		must(t, err)
		must(t, w.index.CatchUp(t.Context(), rev))
	}
	settle(registry.Settlement{})
	ref, codes = ask("SECOND2")
	if !slices.Contains(codes, "profile_refused") {
		t.Errorf("refused: %q", codes)
	}
	d2, err := w.journal.Decision(t.Context(), ref)
	must(t, err)
	if in, err := policy.DecodeAccess(d2.Input); err != nil || !in.Profile.Refused {
		t.Errorf("%+v, %v", in, err)
	}
	settle(registry.Settlement{Allow: true})
	for _, client := range []string{"SECOND2", "FIRST1"} {
		if _, codes := ask(client); codes != nil {
			t.Errorf("%s, allowed: %q", client, codes)
		}
	}
}
