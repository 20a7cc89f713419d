package edge_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/trust"
)

// TestExceptionsHoldWhatTheyHold: what an exception lets through is let through at once, and ends with it: with its revocation and with its time.
func TestExceptionsHoldWhatTheyHold(t *testing.T) {
	for name, end := range map[string]func(w *world, e trust.Exception){
		"revoked": func(w *world, e trust.Exception) {
			_, _, err := w.reg.RevokeException(t.Context(), root, e.ID, "settled")
			must(t, err)
		},
		"over": func(w *world, _ trust.Exception) { w.clock.advance(2 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{staleLimit: 10 * 365 * 24 * time.Hour})
			gone := make(chan string, 10)
			w.answerWith(hold(gone))
			d, c := w.managed(alice, "")
			engine, err := policy.Load(t.Context(), policy.Options{Path: teamPolicy(t, alice, `"no_alice"`), Timeout: 5 * time.Second})
			must(t, err)
			w.active.Swap(engine)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if r, err := w.try(ctx, w.phone(&c, false), command("FolderSync", alice, aliceEAS)); err != nil || phoneSees(r) != blocked {
				t.Fatalf("before: %v, %s", err, phoneSees(r))
			}
			e, rev, err := w.reg.GrantException(ctx, root, trust.Exception{Device: d.ID, Reasons: []string{"no_alice"}, Until: w.clock.now().Add(time.Hour), Comment: "why"})
			must(t, err)
			must(t, w.index.CatchUp(ctx, rev))
			open := w.ping(ctx, w.phone(&c, false), command("Ping", alice, aliceEAS))
			end(w, e)
			select {
			case got := <-open:
				must(t, got.err)
				if _, codes := w.reasons(got.reply.reference); phoneSees(got.reply) != blocked || !slices.Contains(codes, "no_alice") {
					t.Errorf("the phone sees %s, reasons %q", phoneSees(got.reply), codes)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("the Ping stays open")
			}
			<-gone
		})
	}
}
