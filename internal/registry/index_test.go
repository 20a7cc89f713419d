package registry_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
)

func (w *world) index() *registry.Index {
	w.Helper()
	x, err := registry.NewIndex(w.Context(), w.store, w.now, slog.New(slog.DiscardHandler))
	w.must(err)
	return x
}

// follow runs the index until the test ends.
func (w *world) follow(x *registry.Index) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- x.Run(ctx) }()
	w.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.Error(err)
		}
	})
}

// catchUp waits until the index is where the store is.
func (w *world) catchUp(x *registry.Index) {
	w.Helper()
	_, rev := w.listed()
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	w.must(x.CatchUp(ctx, rev))
}

// history does random things; what the rules refuse is part of it.
func (w *world) history(r *rand.Rand, steps int) {
	ctx := w.Context()
	var devices []trust.DeviceID
	var serials []trust.Serial
	var profiles []string
	owners := []string{"alice@contoso.com", "bob@contoso.com", "carol@contoso.com"}
	device := func() trust.DeviceID { return devices[r.IntN(len(devices))] }
	add := func() {
		d, err := w.reg.AddDevice(ctx, officer, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: fmt.Sprint("S", r.IntN(200)),
			EASDeviceID: fmt.Sprint("EAS", r.IntN(10)), Labels: map[string]string{"n": fmt.Sprint(r.IntN(5))}}, Owner: trust.Owner{Mail: owners[r.IntN(3)]}})
		if err == nil {
			devices = append(devices, d.ID)
		}
	}
	for len(devices) < 5 {
		add()
	}
	for range steps {
		w.pass(time.Second)
		switch r.IntN(14) {
		case 0:
			add()
		case 1, 2:
			if secret, c, err := w.reg.CreateChallenge(ctx, officer, device(), 0); err == nil {
				if c, err := w.commit(w.first(trust.Device{ID: c.Device, Issuer: "contoso", Owner: c.Owner}, secret)); err == nil {
					serials = append(serials, c.Serial)
				}
			}
		case 3:
			_, _ = w.reg.ReassignDevice(ctx, officer, device(), trust.Owner{Mail: owners[r.IntN(3)]})
		case 4:
			_, _ = w.reg.SetDeviceState(ctx, officer, device(), []trust.State{trust.Active, trust.Blocked, trust.Quarantined}[r.IntN(3)], "")
		case 5:
			if r.IntN(4) == 0 {
				_, _ = w.reg.RetireDevice(ctx, officer, device(), "")
			}
		case 6:
			w.must(w.reg.PutOwner(ctx, officer, trust.Owner{Mail: owners[r.IntN(3)], Proxies: []string{fmt.Sprintf("p%d@contoso.com", r.IntN(9))}}))
		case 7:
			m := seen(fmt.Sprint("Client", r.IntN(6)), owners[r.IntN(3)])
			if r.IntN(2) == 0 {
				m.Serial, m.Device = "01", device()
			}
			out, _ := w.observe(m)
			profiles = append(profiles, out.ID)
		case 8:
			if len(profiles) > 0 {
				_, _ = w.reg.LinkProfile(ctx, desk, profiles[r.IntN(len(profiles))], device())
			}
		case 9:
			if len(profiles) > 0 {
				_ = w.reg.ForgetProfile(ctx, desk, profiles[r.IntN(len(profiles))])
			}
		case 11:
			_, _ = w.reg.SuspendDevice(ctx, desk, device(), trust.SuspendLost, fmt.Sprint(r.IntN(3)))
			_, _ = w.reg.ReinstateDevice(ctx, desk, device(), "")
		case 12:
			_, _ = w.reg.SuspendOwner(ctx, desk, owners[r.IntN(3)], trust.SuspendAbsent, "")
			_, _ = w.reg.ReinstateOwner(ctx, desk, owners[r.IntN(3)], "")
		case 13:
			w.sign(r, device())
		case 10:
			w.settle(r, serials)
		}
	}
}

// sign makes a ticket and a grant through it, revokes one, or sweeps.
func (w *world) sign(r *rand.Rand, d trust.DeviceID) {
	ctx := w.Context()
	switch all, _ := w.reg.Tickets(ctx, registry.TicketFilter{}); {
	case r.IntN(4) == 0 && len(all) > 0:
		_, _, _ = w.reg.RevokeTicket(ctx, officer, all[r.IntN(len(all))].ID)
	case r.IntN(4) == 0:
		_, _ = w.reg.DeleteExpired(ctx, w.now().Add(time.Duration(r.IntN(60*24))*time.Hour))
	default:
		if secret, _, _, err := w.reg.CreateTicket(ctx, officer, d); err == nil {
			w.grant(d, secret, fmt.Sprint(r.IntN(100)), time.Hour)
		}
	}
}

func (w *world) settle(r *rand.Rand, serials []trust.Serial) {
	if len(serials) == 0 {
		return
	}
	s := serials[r.IntN(len(serials))]
	switch r.IntN(4) {
	case 0:
		_, _ = w.reg.Revoke(w.Context(), officer, "contoso", s, trust.KeyCompromise, "")
	case 1:
		_, _ = w.reg.Hold(w.Context(), desk, "contoso", s, "")
	case 2:
		_, _ = w.reg.Release(w.Context(), desk, "contoso", s, "")
	case 3:
		_ = w.reg.CertificateUsed(w.Context(), edgeDoor, "contoso", s, w.now())
	}
}

// An index that has followed a random history is what a fresh one reads.
func TestIndexFollows(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t)
			x := w.index()
			w.follow(x)
			r := rand.New(rand.NewPCG(seed, 1))
			for range 3 {
				w.history(r, 100)
				w.catchUp(x)
				if d := registry.Differences(x, w.index()); d != nil {
					t.Fatalf("differs from a fresh one in %v", d)
				}
			}
			if n := len(x.CAs()); n != 4 {
				t.Errorf("%d CAs", n)
			}
		})
	}
}

// An index made and followed while others write is what a fresh one reads, too.
func TestIndexLoadsWhileWritten(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	wg.Go(func() { w.history(rand.New(rand.NewPCG(7, 7)), 300) })
	var all []*registry.Index
	for range 10 {
		x := w.index()
		w.follow(x)
		all = append(all, x)
	}
	wg.Wait()
	for _, x := range all {
		w.catchUp(x)
		if d := registry.Differences(x, w.index()); d != nil {
			t.Fatalf("differs from a fresh one in %v", d)
		}
	}
}

// Watchers hear every change in order, after it can be seen, until they stop.
func TestIndexWatch(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	_, start := w.listed()
	var mu sync.Mutex
	var heard []registry.Change
	stop := x.Watch(func(changes []registry.Change) {
		for _, c := range changes {
			if c.Kind == registry.KindDevice {
				if _, ok := x.Device(trust.DeviceID(c.ID)); !ok {
					t.Errorf("told of device %s before it can be seen", c.ID)
				}
			}
			if x.Revision() < c.Revision {
				t.Errorf("told of revision %d at %d", c.Revision, x.Revision())
			}
		}
		mu.Lock()
		heard = append(heard, changes...)
		mu.Unlock()
	})
	w.follow(x)
	for range 20 {
		w.enrol(w.device("alice@contoso.com"))
	}
	want, err := w.store.Changes(t.Context(), start, 1<<20)
	w.must(err)
	deadline := time.Now().Add(10 * time.Second)
	for n := 0; n < len(want) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		mu.Lock()
		n = len(heard)
		mu.Unlock()
	}
	stop()
	if mu.Lock(); fmt.Sprint(heard) != fmt.Sprint(want) {
		t.Errorf("heard %v\nwant %v", heard, want)
	}
	heard = nil
	mu.Unlock()
	w.device("bob@contoso.com")
	w.catchUp(x)
	if mu.Lock(); len(heard) != 0 {
		t.Errorf("heard after stop: %v", heard)
	}
	mu.Unlock()
}

// An index that was away for longer than the history reaches back reads everything anew and says so.
func TestIndexCompacted(t *testing.T) {
	store, err := bolt.Open(filepath.Join(t.TempDir(), "registry.db"), bolt.Options{KeepRevisions: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	w := newWorldOn(t, store)
	x := w.index()
	w.history(rand.New(rand.NewPCG(3, 3)), 100)
	anew := make(chan struct{}, 1)
	defer x.Watch(func(changes []registry.Change) {
		if changes == nil {
			select {
			case anew <- struct{}{}:
			default:
			}
		}
	})()
	w.follow(x)
	w.catchUp(x)
	if d := registry.Differences(x, w.index()); d != nil {
		t.Fatalf("differs from a fresh one in %v", d)
	}
	select {
	case <-anew:
	case <-time.After(10 * time.Second):
		t.Error("watchers were not told that all was read anew")
	}
}

func TestIndexCatchUp(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	w.must(x.CatchUp(t.Context(), x.Revision()))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	w.want(x.CatchUp(ctx, x.Revision()+1), context.DeadlineExceeded)
	w.follow(x)
	d := w.device("alice@contoso.com")
	w.catchUp(x)
	if _, ok := x.Device(d.ID); !ok {
		t.Error("caught up, and the device is not there")
	}
}

// Heard is when the store last answered, also while nothing changes.
func TestIndexHeard(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	if !x.Heard().Equal(w.now()) {
		t.Errorf("heard %s", x.Heard())
	}
	w.follow(x)
	w.pass(time.Hour)
	deadline := time.Now().Add(10 * time.Second)
	for !x.Heard().Equal(w.now()) {
		if time.Now().After(deadline) {
			t.Fatalf("heard %s at %s", x.Heard(), w.now())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// What the index answers by: DeviceIds in any case, devices, owners.
func TestIndexLookups(t *testing.T) {
	w := newWorld(t)
	d, err := w.reg.AddDevice(t.Context(), officer, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: "S", EASDeviceID: "ABC"},
		Owner: trust.Owner{Mail: "alice@contoso.com"}})
	w.must(err)
	c := w.enrol(d)
	m := seen("abc", "alice@contoso.com")
	m.Serial, m.Device = c.Serial, d.ID
	m, _ = w.observe(m)
	x := w.index()
	if got := x.DevicesByEAS("aBc"); len(got) != 1 || got[0].ID != d.ID {
		t.Errorf("devices %+v", got)
	}
	for _, got := range [][]*trust.MailProfile{x.ProfilesOfClient("ABC"), x.ProfilesOfDevice(d.ID)} {
		if len(got) != 1 || got[0].ID != m.ID {
			t.Errorf("profiles %+v", got)
		}
	}
	if got, ok := x.Profile(m.Key()); !ok || got.ID != m.ID {
		t.Errorf("profile %+v", got)
	}
	if o, ok := x.Owner("alice@contoso.com"); !ok || o.Mail != "alice@contoso.com" {
		t.Errorf("owner %+v", o)
	}
	if f, ok := x.Certificate("contoso", c.Serial); !ok || f.Device != d.ID || f.Fingerprint != c.Fingerprint || f.Status != trust.Good {
		t.Errorf("certificate %+v", f)
	}
	if _, ok := x.Certificate("fabrikam", c.Serial); ok {
		t.Error("certificate of another issuer")
	}
}

// Serial numbers and fingerprints of every octet come back from the index as they were; what is not in canonical form is not issued.
func TestIndexSerials(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	issue := func(serial, fingerprint string) error {
		e := w.first(d, w.challenge(d.ID))
		e.Certificate.Serial, e.Certificate.Fingerprint = trust.Serial(serial), fingerprint
		_, err := w.commit(e)
		return err
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	text := hex.EncodeToString(all)
	x := w.index()
	w.follow(x)
	for i := 0; i < len(text); i += 64 {
		serial, fingerprint := text[i+2:i+42], text[i:i+64]
		w.must(issue(serial, fingerprint))
		w.catchUp(x)
		for _, x := range []*registry.Index{x, w.index()} {
			if f, ok := x.Certificate("contoso", trust.Serial(serial)); !ok || f.Fingerprint != fingerprint || string(f.Serial) != serial {
				t.Errorf("%s, %s: %+v", serial, fingerprint, f)
			}
		}
	}
	for _, bad := range [][2]string{{"", text[:64]}, {"0", text[:64]}, {"0G", text[:64]}, {"AB", text[:64]}, {text[:44], text[:64]}, {"ab", "ab"}, {"ab", strings.ToUpper(text[64*2 : 64*3])}} {
		w.want(issue(bad[0], bad[1]), trust.ErrInvalid)
		if _, ok := x.Certificate("contoso", trust.Serial(bad[0])); ok {
			t.Errorf("the index has %q", bad[0])
		}
	}
}

// A DeviceId that many devices report is found for all of them.
func TestIndexManyUnderOneDeviceId(t *testing.T) {
	w := newWorld(t)
	var ids []trust.DeviceID
	for i := range 20 {
		d, err := w.reg.AddDevice(t.Context(), officer, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: fmt.Sprint(i), EASDeviceID: "same"},
			Owner: trust.Owner{Mail: "alice@contoso.com"}})
		w.must(err)
		ids = append(ids, d.ID)
	}
	x := w.index()
	got := x.DevicesByEAS("SAME")
	slices.Sort(ids)
	if !slices.EqualFunc(got, ids, func(d *trust.Device, id trust.DeviceID) bool { return d.ID == id }) {
		t.Errorf("%d of %d devices", len(got), len(ids))
	}
}

// A set of many mail profiles shrinks as it grew.
func TestIndexForgetsOfMany(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	w.follow(x)
	for i := range 20 {
		out, _ := w.observe(seen("client", fmt.Sprintf("u%d@contoso.com", i)))
		defer func() {
			w.must(w.reg.ForgetProfile(context.Background(), desk, out.ID))
			w.catchUp(x)
			if n := len(x.ProfilesOfClient("client")); n != i {
				t.Errorf("%d profiles, want %d", n, i)
			}
		}()
	}
}
