package registry_test

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

func newKey(w *world) ed25519.PublicKey {
	w.Helper()
	key, _, err := ed25519.GenerateKey(nil)
	w.must(err)
	return key
}

// renewFor renews a certificate for a key, as a client's own new request.
func (w *world) renewFor(key ed25519.PublicKey, d trust.Device, old trust.Serial) (trust.Certificate, error) {
	w.Helper()
	return w.commit(w.signedFor(key, d, trust.Evidence{Kind: "renewal", Renews: old}))
}

func (w *world) state(id trust.DeviceID) trust.State {
	w.Helper()
	d, err := w.reg.Device(w.Context(), id)
	w.must(err)
	return d.State
}

// A second renewal for the same key gets the certificate of the first for as long as a retry may take, and is no sign of anything later either.
func TestRenewalAgainWithSameKey(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	old, key := w.enrol(d), newKey(w)
	earlier, err := w.reg.MayRenew(t.Context(), scepDoor, "contoso", old.Serial, key)
	w.must(err)
	if earlier != nil {
		t.Errorf("before any renewal: %+v", earlier)
	}
	c, err := w.renewFor(key, d, old.Serial)
	w.must(err)
	w.pass(registry.RetryWindow)
	again, err := w.renewFor(key, d, old.Serial)
	w.must(err)
	earlier, err = w.reg.MayRenew(t.Context(), scepDoor, "contoso", old.Serial, key)
	w.must(err)
	if again.Serial != c.Serial || earlier == nil || earlier.Serial != c.Serial || !bytes.Equal(again.DER, c.DER) || !bytes.Equal(earlier.DER, c.DER) {
		t.Errorf("first %s, then %s and %v", c.Serial, again.Serial, earlier)
	}
	w.pass(1)
	_, err = w.renewFor(key, d, old.Serial)
	w.want(err, registry.ErrRenewedBefore)
	_, err = w.reg.MayRenew(t.Context(), scepDoor, "contoso", old.Serial, key)
	w.want(err, registry.ErrRenewedBefore)
	if w.state(d.ID) != trust.Active || w.status(c) != trust.Good || len(w.certificates(d.ID)) != 2 {
		t.Errorf("device %s, certificate %s", w.state(d.ID), w.status(c))
	}
}

// A second renewal for another key: two parties have the old key. Device and certificates are kept out, whether the door asks first or commits at once.
func TestRenewalAgainWithAnotherKey(t *testing.T) {
	for name, second := range map[string]func(*world, trust.Device, trust.Serial) error{
		"asked": func(w *world, _ trust.Device, s trust.Serial) error {
			_, err := w.reg.MayRenew(w.Context(), scepDoor, "contoso", s, newKey(w))
			return err
		},
		"committed": func(w *world, d trust.Device, s trust.Serial) error {
			_, err := w.renewFor(newKey(w), d, s)
			return err
		},
		"of a key that is no key": func(w *world, _ trust.Device, s trust.Serial) error {
			_, err := w.reg.MayRenew(w.Context(), scepDoor, "contoso", s, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d, bystander := w.device("alice@contoso.com"), w.device("alice@contoso.com")
			old, theirs := w.enrol(d), w.enrol(bystander)
			c, err := w.renew(d, old.Serial)
			w.must(err)
			w.pass(20 * 24 * time.Hour)
			w.want(second(w, d, old.Serial), registry.ErrKeyCopied)
			w.want(registry.ErrKeyCopied, trust.ErrForbidden)
			if w.state(d.ID) != trust.Quarantined || w.status(old) != trust.Held || w.status(c) != trust.Held || !w.lists(c.Serial) || !w.lists(old.Serial) {
				t.Errorf("device %s, renewed %s, successor %s", w.state(d.ID), w.status(old), w.status(c))
			}
			if w.state(bystander.ID) != trust.Active || w.status(theirs) != trust.Good {
				t.Error("another device was hit")
			}
			e := w.newest(registry.AuditFilter{Action: registry.ActRenew})
			if e.Outcome != registry.Refused || e.Object != string(d.ID) || !strings.Contains(e.Detail, string(old.Serial)) || !strings.Contains(e.Detail, "copy") {
				t.Errorf("audit %+v", e)
			}
			before := w.audits()
			w.want(second(w, d, old.Serial), trust.ErrForbidden) // quarantined already: nothing more happens
			if n := w.audits(); n != before {
				t.Errorf("%d audit entries more", n-before)
			}
			// Settled by people: the device and the certificate of their choice work again.
			_, err = w.reg.SetDeviceState(t.Context(), officer, d.ID, trust.Active, "")
			w.must(err)
			_, err = w.reg.Release(t.Context(), officer, "contoso", c.Serial, "")
			w.must(err)
			_, err = w.renew(d, c.Serial)
			w.must(err)
		})
	}
}

// What looks like a second renewal and is none: a certificate superseded by a new enrolment, one that is revoked or has expired.
func TestNoSecondRenewal(t *testing.T) {
	for name, spoil := range map[string]func(*world, trust.Device, trust.Certificate){
		"enrolled anew": func(w *world, d trust.Device, _ trust.Certificate) { w.enrol(d) },
		"revoked": func(w *world, d trust.Device, c trust.Certificate) {
			_, err := w.renew(d, c.Serial)
			w.must(err)
			_, err = w.reg.Revoke(w.Context(), officer, "contoso", c.Serial, trust.SupersededReason, "")
			w.must(err)
		},
		"expired": func(w *world, d trust.Device, c trust.Certificate) {
			_, err := w.renew(d, c.Serial)
			w.must(err)
			w.pass(366 * 24 * time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := w.device("alice@contoso.com")
			c := w.enrol(d)
			spoil(w, d, c)
			_, err := w.reg.MayRenew(t.Context(), scepDoor, "contoso", c.Serial, newKey(w))
			w.want(err, trust.ErrForbidden)
			_, err = w.renew(d, c.Serial)
			w.want(err, trust.ErrForbidden)
			if w.state(d.ID) != trust.Active {
				t.Errorf("device is %s", w.state(d.ID))
			}
		})
	}
}

// What the rules of an installation add.
func TestRenewalRules(t *testing.T) {
	w := newWorld(t)
	w.reg = w.reg.WithRenewal(registry.RenewalRules{MaxRenewals: 2, Window: 30 * 24 * time.Hour})
	d := w.device("alice@contoso.com")
	c := w.enrol(d)
	_, err := w.renew(d, c.Serial)
	w.want(err, registry.ErrRenewalEarly)
	for want := 1; want <= 2; want++ {
		w.pass(335 * 24 * time.Hour)
		_, err = w.reg.MayRenew(t.Context(), scepDoor, "contoso", c.Serial, newKey(w))
		w.must(err)
		e := w.signed(d, trust.Evidence{Kind: "renewal", Renews: c.Serial})
		e.Certificate.Renewals = -7 // the count is the registry's
		c, err = w.commit(e)
		w.must(err)
		if got := w.cert(c).Renewals; got != want {
			t.Errorf("%d renewals, want %d", got, want)
		}
	}
	w.pass(335 * 24 * time.Hour)
	_, err = w.reg.MayRenew(t.Context(), scepDoor, "contoso", c.Serial, newKey(w))
	w.want(err, registry.ErrChallengeAgain)
	_, err = w.renew(d, c.Serial)
	w.want(err, registry.ErrChallengeAgain)
	if got := w.cert(w.enrol(d)).Renewals; got != 0 {
		t.Errorf("%d renewals after a challenge", got)
	}
}

// A device that its MDM has not heard of for too long does not renew; an outage of the MDM itself does not count.
func TestRenewalOfSilentDevice(t *testing.T) {
	w := newWorld(t)
	w.reg = w.reg.WithRenewal(registry.RenewalRules{MaxSilence: 7 * 24 * time.Hour})
	for synced, want := range map[time.Duration]error{0: nil, 7 * 24 * time.Hour: nil, 8 * 24 * time.Hour: registry.ErrDeviceSilent} {
		d, err := w.reg.AddDevice(t.Context(), officer, registry.NewDevice{Owner: trust.Owner{Mail: "alice@contoso.com"}, Device: trust.Device{Issuer: "contoso",
			SerialNumber: synced.String(), Source: "mdm", SourceSync: w.now().Add(synced)}})
		w.must(err)
		c := w.enrol(d)
		if _, err = w.renew(d, c.Serial); want == nil {
			w.must(err)
		} else {
			w.want(err, want)
		}
	}
}

// Only the SCEP door asks, and a certificate that is not there does not renew.
func TestMayRenewRefused(t *testing.T) {
	w := newWorld(t)
	c := w.enrol(w.device("alice@contoso.com"))
	for name, p := range principals {
		_, err := w.reg.MayRenew(t.Context(), p, "contoso", c.Serial, newKey(w))
		if name == "scep" {
			w.must(err)
		} else {
			w.want(err, trust.ErrForbidden)
		}
	}
	_, err := w.reg.MayRenew(t.Context(), scepDoor, "contoso", "ffff", newKey(w))
	w.want(err, trust.ErrNotFound)
	_, err = w.reg.MayRenew(t.Context(), scepDoor, "fabrikam", c.Serial, newKey(w))
	w.want(err, trust.ErrNotFound)
}
