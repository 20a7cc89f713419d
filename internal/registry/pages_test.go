package registry_test

import (
	"slices"
	"strings"
	"testing"

	"postern/internal/registry"
	"postern/internal/trust"
)

// Lists and the index look at more than fits into one View, and lists stop at their limit.
func TestPages(t *testing.T) {
	w := newWorld(t)
	const many = 10_500
	all, err := w.reg.Fill(t.Context(), many, 1)
	w.must(err)
	slices.SortFunc(all, func(a, b trust.Device) int { return strings.Compare(string(a.ID), string(b.ID)) })
	last := all[many-1]
	if got, err := w.reg.Devices(t.Context(), registry.DeviceFilter{Owner: last.Owner}); err != nil || len(got) != 1 || got[0].ID != last.ID {
		t.Errorf("devices of one owner: %v, %v", got, err)
	}
	if got, err := w.reg.Certificates(t.Context(), registry.CertificateFilter{Owner: last.Owner}); err != nil || len(got) != 1 || got[0].Device != last.ID {
		t.Errorf("certificates of one owner: %v, %v", got, err)
	}
	for status, want := range map[trust.CertStatus]int{trust.Good: registry.DefaultLimit, trust.Revoked: 0} {
		if got, err := w.reg.Certificates(t.Context(), registry.CertificateFilter{Status: status}); err != nil || len(got) != want {
			t.Errorf("%d certificates are %s, want %d; %v", len(got), status, want, err)
		}
	}
	if got, err := w.reg.Audit(t.Context(), registry.AuditFilter{Action: registry.ActCAPut}); err != nil || len(got) != 4 {
		t.Errorf("%d entries, %v", len(got), err)
	}
	var seen []trust.Device
	for f := (registry.DeviceFilter{Limit: registry.MaxLimit}); ; f.After = seen[len(seen)-1].ID {
		page, err := w.reg.Devices(t.Context(), f)
		w.must(err)
		if len(page) == 0 {
			break
		}
		seen = append(seen, page...)
	}
	x := w.index()
	missing := 0
	for _, d := range all {
		if got, ok := x.Device(d.ID); !ok || got.SerialNumber != d.SerialNumber {
			missing++
		}
	}
	if len(seen) != many || missing > 0 {
		t.Errorf("%d devices in pages; the index lacks %d", len(seen), missing)
	}
}
