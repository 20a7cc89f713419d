package edge_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// hold is an upstream that keeps Pings open. gone counts those that the edge gave up.
func hold(gone chan<- string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("Cmd") != "Ping" {
			exchange(w, r)
			return
		}
		<-r.Context().Done()
		gone <- r.URL.Query().Get("DeviceId")
	}
}

type pinged struct {
	reply reply
	err   error
	took  time.Duration
}

// ping opens a Ping, waits until the upstream has it, and returns where its answer comes.
func (w *world) ping(ctx context.Context, c *http.Client, k call) <-chan pinged {
	w.t.Helper()
	before := w.countSeen()
	out := make(chan pinged, 1)
	began := time.Now()
	go func() {
		r, err := w.try(ctx, c, k)
		out <- pinged{r, err, time.Since(began)}
	}()
	w.eventually(func() bool { return w.countSeen() > before })
	return out
}

func (w *world) countSeen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

// ending is something that takes a permission away.
type ending struct {
	name   string
	do     func(w *world, d trust.Device, s trust.Serial) error
	phone  string
	reason string
}

func endings(ctx context.Context) []ending {
	return []ending{
		{"revoked", func(w *world, _ trust.Device, s trust.Serial) error {
			_, err := w.reg.Revoke(ctx, root, "contoso", s, trust.KeyCompromise, "lost")
			return err
		}, blocked, "certificate_revoked"},
		{"held", func(w *world, _ trust.Device, s trust.Serial) error {
			_, err := w.reg.Hold(ctx, root, "contoso", s, "")
			return err
		}, blocked, "certificate_held"},
		{"device blocked", func(w *world, d trust.Device, _ trust.Serial) error {
			_, err := w.reg.SetDeviceState(ctx, root, d.ID, trust.Blocked, "")
			return err
		}, blocked, "device_blocked"},
		{"device suspended", func(w *world, d trust.Device, _ trust.Serial) error {
			_, err := w.reg.SuspendDevice(ctx, root, d.ID, trust.SuspendLost, "")
			return err
		}, blocked, "device_suspended"},
		{"owner suspended", func(w *world, _ trust.Device, _ trust.Serial) error {
			_, err := w.reg.SuspendOwner(ctx, root, alice, trust.SuspendUnassigned, "")
			return err
		}, blocked, "owner_suspended"},
		{"device reassigned", func(w *world, d trust.Device, _ trust.Serial) error {
			_, err := w.reg.ReassignDevice(ctx, root, d.ID, trust.Owner{Mail: "carol@contoso.com"})
			return err
		}, blocked, "owner_mismatch"},
		{"policy changed", func(w *world, _ trust.Device, _ trust.Serial) error {
			e, err := policy.Load(ctx, policy.Options{Path: teamPolicy(w.t, alice, `"no_alice"`), Timeout: 5 * time.Second})
			w.active.Swap(e)
			return err
		}, blocked, "no_alice"},
		{"certificate expires", func(w *world, _ trust.Device, _ trust.Serial) error {
			w.clock.advance(366 * 24 * time.Hour)
			return nil
		}, "", ""},
	}
}

// TestOpenPingsEnd: whatever takes the permission away ends the Ping that is open within a second, with the answer that the next request would get, and
// leaves that of another phone alone.
func TestOpenPingsEnd(t *testing.T) {
	for _, tt := range endings(context.Background()) {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, h2 %v", tt.name, h2), func(t *testing.T) { openPingEnds(t, tt, h2) })
		}
	}
}

func openPingEnds(t *testing.T, tt ending, h2 bool) {
	w := newWorld(t, options{staleLimit: 10 * 365 * 24 * time.Hour})
	gone := make(chan string, 10)
	w.answerWith(hold(gone))
	d, c := w.managed(alice, "")
	d2 := w.addDevice(trust.Owner{Mail: bob}, "")
	c2 := w.enrol(d2, leaf{notAfter: time.Now().Add(5 * 365 * 24 * time.Hour)}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := w.ping(ctx, w.phone(&c, h2), command("Ping", alice, aliceEAS))
	other := w.ping(ctx, w.phone(&c2, h2), command("Ping", bob, "BOBSPHONE"))
	must(t, tt.do(w, d, serialOf(c)))
	began := time.Now()
	var got pinged
	select {
	case got = <-open:
	case <-time.After(5 * time.Second):
		t.Fatal("the Ping stays open")
	}
	// A second is what is promised; the machine of the test may be slow.
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("ended after %s", took)
	}
	must(t, got.err)
	if tt.phone != "" && phoneSees(got.reply) != tt.phone {
		t.Errorf("the phone sees %s", phoneSees(got.reply))
	}
	if _, codes := w.reasons(got.reply.reference); tt.reason != "" && !slices.Contains(codes, tt.reason) {
		t.Errorf("reasons %q", codes)
	}
	if id := <-gone; id != aliceEAS {
		t.Errorf("upstream lost %s", id)
	}
	select {
	case <-other:
		t.Error("the other phone's Ping ended too")
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	if id := <-gone; id != "BOBSPHONE" {
		t.Errorf("upstream lost %s", id)
	}
}

// TestSharedMailboxIsTakenAway: the Ping of a mailbox that is not delegated any more ends, the next command is refused, and the owner's own mail goes on.
func TestSharedMailboxIsTakenAway(t *testing.T) {
	w := newWorld(t, options{})
	const info = "info@contoso.com"
	w.answerWith(hold(make(chan string, 10)))
	c := w.enrol(w.addDevice(trust.Owner{Mail: alice, Delegations: []string{info}}, ""), leaf{}, nil)
	phone := w.phone(&c, false)
	shared := command("Ping", info, aliceEAS)
	shared.auth = basic(alice)
	open := w.ping(t.Context(), phone, shared)
	_, rev, err := w.reg.UpdateOwner(t.Context(), root, alice, registry.OwnerUpdate{DropDelegations: []string{info}})
	must(t, err)
	select {
	case got := <-open:
		must(t, got.err)
		if _, codes := w.reasons(got.reply.reference); phoneSees(got.reply) != blocked || !slices.Contains(codes, "owner_mismatch") {
			t.Errorf("the phone sees %s for %q", phoneSees(got.reply), codes)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the Ping stays open")
	}
	must(t, w.index.CatchUp(t.Context(), rev))
	shared.query = strings.Replace(shared.query, "Ping", "FolderSync", 1)
	if got := w.do(phone, shared); phoneSees(got) != blocked {
		t.Errorf("of the mailbox the phone sees %s", phoneSees(got))
	}
	if got := w.do(phone, command("FolderSync", alice, aliceEAS)); phoneSees(got) != mail {
		t.Errorf("of its own the phone sees %s", phoneSees(got))
	}
}

// teamPolicy is a policy of a team's own that knows one rule: nothing for one owner.
func teamPolicy(t *testing.T, owner, reason string) string {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "team.rego"), []byte(`package postern.access.team.test

deny contains reason if {
	input.owner.mail == "`+owner+`"
	reason := `+reason+`
}
`), 0o600))
	return dir
}

// TestPhoneHangsUp: the upstream's Ping ends with the phone's.
func TestPhoneHangsUp(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		w := newWorld(t, options{})
		gone := make(chan string, 1)
		w.answerWith(hold(gone))
		_, c := w.managed(alice, "")
		ctx, cancel := context.WithCancel(t.Context())
		open := w.ping(ctx, w.phone(&c, h2), command("Ping", alice, aliceEAS))
		cancel()
		<-open
		select {
		case <-gone:
		case <-time.After(5 * time.Second):
			t.Errorf("h2 %v: the upstream is still held", h2)
		}
	}
}

// TestHarmlessChanges leave an open Ping alone: a renewal, a new profile, an owner's new alias, a policy that allows.
func TestHarmlessChanges(t *testing.T) {
	w := newWorld(t, options{})
	gone := make(chan string, 1)
	w.answerWith(hold(gone))
	d, c := w.managed(alice, "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := w.ping(ctx, w.phone(&c, false), command("Ping", alice, aliceEAS))
	must(t, w.reg.PutOwner(ctx, root, trust.Owner{Mail: alice, Proxies: []string{"a@contoso.com"}}))
	newer := w.enrol(d, leaf{}, &c)
	if got := w.do(w.phone(&newer, false), command("FolderSync", "a@contoso.com", aliceEAS)); phoneSees(got) != mail {
		t.Errorf("after renewal the phone sees %s", phoneSees(got))
	}
	e, err := policy.Load(ctx, policy.Options{Timeout: 5 * time.Second})
	must(t, err)
	w.active.Swap(e)
	select {
	case got := <-open:
		t.Errorf("the Ping ended: %+v", got)
	case <-time.After(500 * time.Millisecond):
	}
}

// TestDrain: on shutdown a Ping is told to come back, and Run returns.
func TestDrain(t *testing.T) {
	w := newWorld(t, options{drain: 500 * time.Millisecond})
	gone := make(chan string, 1)
	w.answerWith(hold(gone))
	_, c := w.managed(alice, "")
	open := w.ping(t.Context(), w.phone(&c, false), command("Ping", alice, aliceEAS))
	must(t, w.stop())
	got := <-open
	must(t, got.err)
	if got.reply.status != 503 || got.reply.header.Get("Retry-After") == "" {
		t.Errorf("status %d, %v", got.reply.status, got.reply.header)
	}
	<-gone
}

// TestPolicyFault and TestStale: no decision is "try again later", never a refusal, a password prompt or mail.
func TestPolicyFault(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed("zed@contoso.com", "")
	// A reason whose code is a number is no reason, and a decision with one is no decision.
	e, err := policy.Load(t.Context(), policy.Options{Path: teamPolicy(t, "zed@contoso.com", `{"code": count(input.claimed.user_agent)}`), Timeout: 5 * time.Second})
	must(t, err)
	w.active.Swap(e)
	for _, k := range []call{command("FolderSync", "zed@contoso.com", aliceEAS), {method: "OPTIONS", auth: basic("zed@contoso.com")}, {method: "GET", auth: "Bearer"}} {
		w.takeSeen()
		got := w.do(w.phone(&c, false), k)
		if phoneSees(got) != later || w.countSeen() != 0 {
			t.Errorf("%s: the phone sees %s, the upstream %d requests", k.method, phoneSees(got), w.countSeen())
			continue
		}
		if d, codes := w.reasons(got.reference); d.Action != trust.Fault || !slices.Contains(codes, "policy_fault") || d.Policy == "" {
			t.Errorf("%s %q, policy %q", d.Action, codes, d.Policy)
		}
	}
}

func TestStale(t *testing.T) {
	w := newWorld(t, options{})
	gone := make(chan string, 1)
	w.answerWith(hold(gone))
	_, c := w.managed(alice, "")
	open := w.ping(t.Context(), w.phone(&c, false), command("Ping", alice, aliceEAS))

	must(t, w.reg.Store().Close())
	phone := w.phone(&c, false)
	w.clock.advance(10 * time.Minute)
	if got := w.do(phone, command("FolderSync", alice, aliceEAS)); phoneSees(got) != mail {
		t.Errorf("ten minutes behind the phone sees %s", phoneSees(got))
	}
	if why := w.edge.Trouble(); why != "" {
		t.Errorf("ten minutes behind the edge is in trouble: %s", why)
	}
	w.clock.advance(6 * time.Minute)
	got := w.do(phone, command("FolderSync", alice, aliceEAS))
	if phoneSees(got) != later {
		t.Errorf("sixteen minutes behind the phone sees %s", phoneSees(got))
	}
	if why := w.edge.Trouble(); !strings.Contains(why, "16m") {
		t.Errorf("sixteen minutes behind the edge is in trouble %q", why)
	}
	if _, codes := w.reasons(got.reference); !slices.Contains(codes, "registry_stale") {
		t.Errorf("reasons %q", codes)
	}
	if ended := <-open; ended.err != nil || phoneSees(ended.reply) != later {
		t.Errorf("the open Ping: %+v", ended)
	}
	// A mail profile that cannot be recorded is no reason to guess.
	w.clock.advance(-10 * time.Minute)
	if got := w.do(phone, command("FolderSync", alice, "NEWPHONE")); phoneSees(got) != later {
		t.Errorf("with a new mail profile the phone sees %s", phoneSees(got))
	}
}

// TestSupersededFallsWithItsSuccessor: a certificate that was renewed is accepted for a grace only for the sake of the new one.
func TestSupersededFallsWithItsSuccessor(t *testing.T) {
	w := newWorld(t, options{})
	device, old := w.managed(alice, "")
	renewed := w.enrol(device, leaf{}, &old)
	mine := command("FolderSync", alice, aliceEAS)
	sees := func(when, want string) {
		t.Helper()
		w.sync()
		if got := w.do(w.phone(&old, false), mine); phoneSees(got) != want {
			_, codes := w.reasons(got.reference)
			t.Errorf("%s: the phone sees %s, want %s: %v", when, phoneSees(got), want, codes)
		}
	}
	admin := trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}
	sees("renewed", mail)
	_, err := w.reg.Hold(t.Context(), admin, "contoso", serialOf(renewed), "")
	must(t, err)
	sees("the new one on hold", blocked)
	_, err = w.reg.Release(t.Context(), admin, "contoso", serialOf(renewed), "")
	must(t, err)
	sees("released", mail)
	_, err = w.reg.Revoke(t.Context(), admin, "contoso", serialOf(renewed), trust.KeyCompromise, "lost")
	must(t, err)
	sees("the new one revoked", blocked)
	c, err := w.reg.Certificate(t.Context(), "contoso", serialOf(old))
	must(t, err)
	if c.Status != trust.Revoked || c.Reason != trust.KeyCompromise {
		t.Errorf("the old certificate is %s (%s): relying parties that read CRLs would go on accepting it", c.Status, c.Reason)
	}
}
