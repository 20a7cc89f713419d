package registry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

func TestAddDevice(t *testing.T) {
	w := newWorld(t)
	d, err := w.add("contoso", "F2LX", " Alice@Contoso.COM ")
	w.must(err)
	if d.State != trust.Pending || d.Owner != "alice@contoso.com" || !strings.HasPrefix(string(d.ID), "dev-") || !d.Created.Equal(w.now()) {
		t.Errorf("added %+v", d)
	}
	stored, err := w.reg.Device(t.Context(), d.ID)
	w.must(err)
	if stored.ID != d.ID || stored.SerialNumber != "F2LX" {
		t.Errorf("stored %+v", stored)
	}
	if o, err := w.reg.Owner(t.Context(), "ALICE@contoso.com"); err != nil || o.Mail != "alice@contoso.com" {
		t.Errorf("owner %+v, %v", o, err)
	}
	if e := w.newest(registry.AuditFilter{Object: string(d.ID)}); e.Action != registry.ActDeviceAdd || e.Principal != officer || e.After == nil {
		t.Errorf("audit %+v", e)
	}
}

// One piece of hardware is one device of an issuer until it is retired, however its number is written.
func TestDuplicateHardware(t *testing.T) {
	w := newWorld(t)
	d, err := w.add("contoso", "F2LX", "alice@contoso.com")
	w.must(err)
	for _, number := range []string{"F2LX", "f2lx", " F2LX", "F2LX\u00a0"} {
		_, err := w.add("contoso", number, "bob@contoso.com")
		w.want(err, trust.ErrConflict)
	}
	_, err = w.add("fabrikam", "F2LX", "bob@fabrikam.com")
	w.must(err)
	with := func(udid string) error {
		_, err := w.reg.AddDevice(t.Context(), officer, registry.NewDevice{Device: trust.Device{Issuer: "contoso", UDID: udid}, Owner: trust.Owner{Mail: "a@contoso.com"}})
		return err
	}
	w.must(with("00008030-00"))
	w.want(with("00008030-00"), trust.ErrConflict)
	w.must(with("F2LX")) // a UDID is no serial number
	_, err = w.reg.RetireDevice(t.Context(), officer, d.ID, "broken")
	w.must(err)
	_, err = w.add("contoso", "F2LX", "bob@contoso.com")
	w.must(err)
}

func TestAddDeviceRefused(t *testing.T) {
	w := newWorld(t)
	good := registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: "S"}, Owner: trust.Owner{Mail: "alice@contoso.com"}}
	long := strings.Repeat("x", 129)
	for name, c := range map[string]struct {
		change func(*registry.NewDevice)
		want   error
	}{
		"foreign domain":      {func(n *registry.NewDevice) { n.Owner.Mail = "alice@fabrikam.com" }, trust.ErrInvalid},
		"subdomain":           {func(n *registry.NewDevice) { n.Owner.Mail = "alice@evil.contoso.com" }, trust.ErrInvalid},
		"domain as suffix":    {func(n *registry.NewDevice) { n.Owner.Mail = "alice@evilcontoso.com" }, trust.ErrInvalid},
		"two addresses":       {func(n *registry.NewDevice) { n.Owner.Mail = "alice@evil.com,bob@contoso.com" }, trust.ErrInvalid},
		"newline in it":       {func(n *registry.NewDevice) { n.Owner.Mail = "alice\n@contoso.com" }, trust.ErrInvalid},
		"not ASCII":           {func(n *registry.NewDevice) { n.Owner.Mail = "аlice@contoso.com" }, trust.ErrInvalid},
		"no owner":            {func(n *registry.NewDevice) { n.Owner.Mail = "" }, trust.ErrInvalid},
		"unknown issuer":      {func(n *registry.NewDevice) { n.Device.Issuer = "nobody" }, trust.ErrNotFound},
		"issuer and CA":       {func(n *registry.NewDevice) { n.Device.Issuer = "contoso/root" }, trust.ErrNotFound},
		"half an issuer":      {func(n *registry.NewDevice) { n.Device.Issuer = "conto" }, trust.ErrNotFound},
		"no issuer":           {func(n *registry.NewDevice) { n.Device.Issuer = "" }, trust.ErrInvalid},
		"no hardware":         {func(n *registry.NewDevice) { n.Device.SerialNumber = "" }, trust.ErrInvalid},
		"blank hardware":      {func(n *registry.NewDevice) { n.Device.SerialNumber = "  " }, trust.ErrInvalid},
		"long serial":         {func(n *registry.NewDevice) { n.Device.SerialNumber = long }, trust.ErrInvalid},
		"NUL in serial":       {func(n *registry.NewDevice) { n.Device.SerialNumber = "a\x00b" }, trust.ErrInvalid},
		"escape in model":     {func(n *registry.NewDevice) { n.Device.Model = "\x1b[2J" }, trust.ErrInvalid},
		"C1 control in model": {func(n *registry.NewDevice) { n.Device.Model = "\u009b2J" }, trust.ErrInvalid},
		"not UTF-8":           {func(n *registry.NewDevice) { n.Device.UDID = "a\xff" }, trust.ErrInvalid},
		"long label":          {func(n *registry.NewDevice) { n.Device.Labels = map[string]string{"a": long} }, trust.ErrInvalid},
		"control in label":    {func(n *registry.NewDevice) { n.Device.Labels = map[string]string{"a\n": "b"} }, trust.ErrInvalid},
		"control in UPN":      {func(n *registry.NewDevice) { n.Owner.UPN = "alice\x00@contoso.com" }, trust.ErrInvalid},
		"control in proxy":    {func(n *registry.NewDevice) { n.Owner.Proxies = []string{"a\nb@contoso.com"} }, trust.ErrInvalid},
		"many proxies":        {func(n *registry.NewDevice) { n.Owner.Proxies = strings.Split(strings.Repeat("a,", 5000), ",") }, trust.ErrInvalid},
	} {
		n := good
		c.change(&n)
		before := w.audits()
		if _, err := w.reg.AddDevice(t.Context(), officer, n); err == nil {
			t.Errorf("%s: added", name)
			w.must(err)
		} else {
			w.want(err, c.want)
		}
		if w.audits() != before {
			t.Errorf("%s: something was written", name)
		}
	}
	if all, err := w.reg.Devices(t.Context(), registry.DeviceFilter{}); err != nil || len(all) != 0 {
		t.Errorf("devices: %v, %v", all, err)
	}
}

// Another owner: certificates with the old one's address are revoked, challenges made for him are void, for good.
func TestReassignDevice(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	open := w.challenge(d.ID)
	first := w.enrol(d)
	held := first
	first, err := w.renew(d, first.Serial)
	w.must(err)
	_, err = w.reg.Hold(t.Context(), desk, "contoso", held.Serial, "")
	w.must(err)
	w.pass(time.Minute)
	d, err = w.reg.ReassignDevice(t.Context(), officer, d.ID, trust.Owner{Mail: "Bob@contoso.com"})
	w.must(err)
	if d.Owner != "bob@contoso.com" || d.State != trust.Pending {
		t.Errorf("reassigned: %+v", d)
	}
	for _, c := range []trust.Certificate{first, held} {
		if c := w.cert(c); c.Status != trust.Revoked || c.Reason != trust.AffiliationChanged {
			t.Errorf("certificate of the old owner is %s (%s)", c.Status, c.Reason)
		}
	}
	_, _, _, err = w.reg.Challenge(t.Context(), "contoso", open)
	w.want(err, registry.ErrChallengeVoid)
	_, err = w.commit(w.first(d, open))
	w.want(err, registry.ErrChallengeVoid)
	_, err = w.renew(d, first.Serial)
	w.want(err, trust.ErrForbidden)
	back, err := w.reg.ReassignDevice(t.Context(), officer, d.ID, trust.Owner{Mail: "alice@contoso.com"})
	w.must(err)
	_, err = w.commit(w.first(back, open))
	w.want(err, registry.ErrChallengeVoid) // alice has it again, and this challenge may be with bob
	w.enrol(back)
	_, err = w.reg.ReassignDevice(t.Context(), officer, d.ID, trust.Owner{Mail: "alice@fabrikam.com"})
	w.want(err, trust.ErrInvalid)
	_, err = w.reg.ReassignDevice(t.Context(), officer, "dev-none", trust.Owner{Mail: "alice@contoso.com"})
	w.want(err, trust.ErrNotFound)
}

// Reassigning to the owner it has revokes nothing; what is new about the owner is kept and audited.
func TestReassignToSameOwner(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	c := w.enrol(d)
	_, err := w.reg.ReassignDevice(t.Context(), officer, d.ID, trust.Owner{Mail: "alice@contoso.com", UPN: "A@contoso.com"})
	w.must(err)
	o, err := w.reg.Owner(t.Context(), "alice@contoso.com")
	w.must(err)
	if w.status(c) != trust.Good || o.UPN != "a@contoso.com" {
		t.Errorf("%s, %+v", w.status(c), o)
	}
	if e := w.newest(registry.AuditFilter{}); e.Action != registry.ActOwnerPut || e.Object != "alice@contoso.com" {
		t.Errorf("audit: %+v", e)
	}
}

func TestRetireDevice(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	open, c := w.challenge(d.ID), w.enrol(d)
	for range 2 { // the second time changes nothing
		_, err := w.reg.RetireDevice(t.Context(), officer, d.ID, "sold")
		w.must(err)
	}
	got, err := w.reg.Device(t.Context(), d.ID)
	w.must(err)
	if got.State != trust.Retired || got.Managed || w.cert(c).Reason != trust.CessationOfOperation {
		t.Errorf("retired: %+v, %+v", got, w.cert(c))
	}
	_, err = w.commit(w.first(d, open))
	w.want(err, trust.ErrForbidden)
	_, _, err = w.reg.CreateChallenge(t.Context(), officer, d.ID, 0)
	w.want(err, trust.ErrConflict)
	_, err = w.reg.SetDeviceState(t.Context(), officer, d.ID, trust.Active, "")
	w.want(err, trust.ErrConflict)
	_, err = w.reg.ReassignDevice(t.Context(), officer, d.ID, trust.Owner{Mail: "bob@contoso.com"})
	w.want(err, trust.ErrConflict)
	_, err = w.reg.RetireDevice(t.Context(), officer, "dev-none", "")
	w.want(err, trust.ErrNotFound)
}

func TestSetDeviceState(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	c := w.enrol(d)
	for _, s := range []trust.State{trust.Blocked, trust.Quarantined, trust.Active} {
		_, err := w.reg.SetDeviceState(t.Context(), officer, d.ID, s, "why")
		w.must(err)
		if got, _ := w.reg.Device(t.Context(), d.ID); got.State != s || w.status(c) != trust.Good {
			t.Errorf("%s: %+v", s, got)
		}
	}
	for _, s := range []trust.State{"", trust.Retired, trust.Pending, "gone"} {
		_, err := w.reg.SetDeviceState(t.Context(), officer, d.ID, s, "")
		w.want(err, trust.ErrInvalid)
	}
}

// Owners: single values replace, lists are united, everything in lower case.
func TestPutOwner(t *testing.T) {
	w := newWorld(t)
	w.must(w.reg.PutOwner(t.Context(), officer, trust.Owner{Mail: "Alice@contoso.com", UPN: "A@Contoso.com", SAM: `CONTOSO\alice`, Proxies: []string{"Al@contoso.com"}}))
	w.must(w.reg.PutOwner(t.Context(), officer, trust.Owner{Mail: "alice@contoso.com", OID: "OID", Proxies: []string{"al@contoso.com", "b@contoso.com"}}))
	o, err := w.reg.Owner(t.Context(), "alice@contoso.com")
	w.must(err)
	if o.UPN != "a@contoso.com" || o.SAM != `contoso\alice` || o.OID != "oid" || strings.Join(o.Proxies, " ") != "al@contoso.com b@contoso.com" {
		t.Errorf("owner %+v", o)
	}
	if e := w.newest(registry.AuditFilter{Action: registry.ActOwnerPut}); e.Object != "alice@contoso.com" {
		t.Errorf("audit %+v", e)
	}
	w.want(w.reg.PutOwner(t.Context(), officer, trust.Owner{Mail: "alice"}), trust.ErrInvalid)
}

// An owner is corrected: what is not named stays, an empty name goes, further names are added, and a suspension is not touched.
func TestUpdateOwner(t *testing.T) {
	w := newWorld(t)
	w.must(w.reg.PutOwner(t.Context(), officer, trust.Owner{Mail: "alice@contoso.com", UPN: "a@contoso.com", SAM: `contoso\alice`, OID: "o-1", TID: "t-1", Proxies: []string{"al@contoso.com"}}))
	_, err := w.reg.SuspendOwner(t.Context(), officer, "alice@contoso.com", trust.SuspendAbsent, "")
	w.must(err)
	oid, tid, none := "O-2", " T-2 ", ""
	_, rev, err := w.reg.UpdateOwner(t.Context(), officer, "Alice@Contoso.com", registry.OwnerUpdate{OID: &oid, TID: &tid, SAM: &none, Aliases: []string{"AL@contoso.com", "b@contoso.com"}, Delegations: []string{"Info@contoso.com"}})
	w.must(err)
	o, err := w.reg.Owner(t.Context(), "alice@contoso.com")
	w.must(err)
	if o.UPN != "a@contoso.com" || o.SAM != "" || o.OID != "o-2" || o.TID != "t-2" || strings.Join(o.Proxies, " ") != "al@contoso.com b@contoso.com" || strings.Join(o.Delegations, " ") != "info@contoso.com" ||
		o.Suspended == nil || rev == 0 {
		t.Errorf("owner %+v, revision %d", o, rev)
	}
	if e := w.newest(registry.AuditFilter{Action: registry.ActOwnerPut}); e.Object != "alice@contoso.com" || !strings.Contains(string(e.Before), "t-1") || !strings.Contains(string(e.After), "t-2") {
		t.Errorf("audit %+v", e)
	}
	_, _, err = w.reg.UpdateOwner(t.Context(), officer, "alice@contoso.com", registry.OwnerUpdate{Delegations: []string{"sales@contoso.com"}, DropAliases: []string{" AL@contoso.com"}, DropDelegations: []string{"Info@contoso.com"}})
	w.must(err)
	o, err = w.reg.Owner(t.Context(), "alice@contoso.com")
	w.must(err)
	if strings.Join(o.Proxies, " ") != "b@contoso.com" || strings.Join(o.Delegations, " ") != "sales@contoso.com" {
		t.Errorf("names dropped: %+v", o)
	}
	for _, u := range []registry.OwnerUpdate{{DropAliases: []string{"bb@contoso.com"}}, {DropDelegations: []string{"info@contoso.com"}}} {
		_, _, err = w.reg.UpdateOwner(t.Context(), officer, "alice@contoso.com", u)
		if w.want(err, trust.ErrInvalid); !strings.Contains(fmt.Sprint(err), "there are: ") {
			t.Errorf("%v does not say what there is", err)
		}
	}
	_, _, err = w.reg.UpdateOwner(t.Context(), officer, "nobody@contoso.com", registry.OwnerUpdate{OID: &oid})
	w.want(err, trust.ErrNotFound)
	long := strings.Repeat("x", 321)
	_, _, err = w.reg.UpdateOwner(t.Context(), officer, "alice@contoso.com", registry.OwnerUpdate{OID: &long})
	w.want(err, trust.ErrInvalid)
}

func TestListDevices(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.device("alice@contoso.com")
	}
	bob := w.device("bob@contoso.com")
	w.device("carol@fabrikam.com")
	for want, f := range map[int]registry.DeviceFilter{7: {}, 6: {Issuer: "contoso"}, 5: {Owner: "Alice@contoso.com"}, 1: {SerialNumber: strings.ToLower(bob.SerialNumber)},
		0: {State: trust.Active}, 2: {Limit: 2}} {
		got, err := w.reg.Devices(t.Context(), f)
		w.must(err)
		if len(got) != want {
			t.Errorf("%+v: %d devices, want %d", f, len(got), want)
		}
	}
	after, n := trust.DeviceID(""), 0
	for {
		page, err := w.reg.Devices(t.Context(), registry.DeviceFilter{Issuer: "contoso", After: after, Limit: 2})
		w.must(err)
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			if d.ID <= after {
				t.Fatalf("%s after %s", d.ID, after)
			}
			after = d.ID
			n++
		}
	}
	if n != 6 {
		t.Errorf("%d devices in pages", n)
	}
}

// A text in a CSR means the device that has it as id, serial number or UDID.
func TestDeviceNamed(t *testing.T) {
	w := newWorld(t)
	d, err := w.reg.AddDevice(t.Context(), officer, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: "F2LX", UDID: "0000-ABCD"},
		Owner: trust.Owner{Mail: "alice@contoso.com"}})
	w.must(err)
	for text, want := range map[string]trust.DeviceID{string(d.ID): d.ID, strings.ToUpper(string(d.ID)): d.ID, "f2lx": d.ID, " F2LX ": d.ID, "0000-abcd": d.ID, "": "", "F2L": "",
		strings.Repeat("x", 1000): ""} {
		if id, ok, err := w.reg.DeviceNamed(t.Context(), "contoso", text); err != nil || id != want || ok != (want != "") {
			t.Errorf("%q names %q, %v, %v", text, id, ok, err)
		}
	}
	if _, ok, _ := w.reg.DeviceNamed(t.Context(), "fabrikam", "F2LX"); ok {
		t.Error("hardware of another issuer")
	}
}
