package registry_test

import (
	"sync"
	"testing"

	"postern/internal/registry"
)

// Entries are numbered without gaps in the order of commits, and listed newest first in pages.
func TestAuditOrder(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				d, err := w.add("contoso", "A", "alice@contoso.com")
				if err == nil {
					_, err = w.reg.RetireDevice(t.Context(), officer, d.ID, "")
				}
				_ = err // a conflict with another goroutine: nothing is written then
			}
			w.must(w.reg.RecordRefusal(t.Context(), scepDoor, registry.ActEnrol, "unknown device", "why"))
		})
	}
	wg.Wait()
	var all []registry.AuditEntry
	f := registry.AuditFilter{Limit: 7}
	for {
		page, err := w.reg.Audit(t.Context(), f)
		w.must(err)
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		f.Before = page[len(page)-1].Seq
	}
	for i, e := range all {
		if e.Seq != uint64(len(all)-i) || i > 0 && e.Revision > all[i-1].Revision {
			t.Fatalf("entry %d of %d is %d at revision %d", i, len(all), e.Seq, e.Revision)
		}
	}
	refused, err := w.reg.Audit(t.Context(), registry.AuditFilter{Action: registry.ActEnrol, Object: "unknown device"})
	w.must(err)
	if len(refused) != 8 || refused[0].Outcome != registry.Refused || refused[0].Principal != scepDoor || refused[0].Detail != "why" {
		t.Errorf("refusals %+v", refused)
	}
}

// Limits of a page: a hundred where nothing is said, never more than a thousand.
func TestPageLimits(t *testing.T) {
	w := newWorld(t)
	for range registry.MaxLimit + 5 {
		w.must(w.reg.RecordRefusal(t.Context(), scepDoor, registry.ActEnrol, "x", ""))
	}
	for limit, want := range map[int]int{0: registry.DefaultLimit, -1: registry.DefaultLimit, 3: 3, 1 << 40: registry.MaxLimit} {
		got, err := w.reg.Audit(t.Context(), registry.AuditFilter{Limit: limit})
		w.must(err)
		if len(got) != want {
			t.Errorf("limit %d: %d entries, want %d", limit, len(got), want)
		}
	}
}
