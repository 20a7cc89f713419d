package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// One commit: the challenge is spent, the certificate is there, the device is active, and the audit says so.
func TestEnrol(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	secret := w.challenge(d.ID)
	e := w.first(d, secret)
	c, err := w.commit(e)
	w.must(err)
	stored := w.cert(c)
	if stored.Status != trust.Good || !bytes.Equal(stored.DER, e.Certificate.DER) || stored.Owner != d.Owner || !stored.ChangedAt.Equal(w.now()) {
		t.Errorf("stored %+v", stored)
	}
	ch, device, _, err := w.reg.Challenge(t.Context(), "contoso", secret)
	w.want(err, registry.ErrChallengeSpent)
	if ch.Spent != c.Serial || device.State != trust.Active {
		t.Errorf("challenge %+v, device %+v", ch, device)
	}
	if e := w.newest(registry.AuditFilter{}); e.Action != registry.ActEnrol || e.Object != string(d.ID) || e.Principal != scepDoor || bytes.Contains(e.After, []byte(secret)) {
		t.Errorf("audit %+v", e)
	}
}

// Nothing of a refused commit is seen: not the certificate, not the spending of the challenge.
func TestEnrolIsAtomic(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	taken := w.enrol(d)
	secret := w.challenge(d.ID)
	e := w.first(d, secret)
	e.Certificate.Serial = taken.Serial
	before := w.audits()
	got, err := w.commit(e)
	w.want(err, trust.ErrConflict)
	if got.Serial != "" || w.audits() != before || w.status(taken) != trust.Good {
		t.Errorf("after a refused commit: %+v, %s", got, w.status(taken))
	}
	_, err = w.commit(w.first(d, secret))
	w.must(err)
}

// What authorised the enrolment is checked again at the commit.
func TestEnrolRefused(t *testing.T) {
	w := newWorld(t)
	for _, s := range []trust.State{trust.Blocked, trust.Quarantined} {
		d := w.device("alice@contoso.com")
		e := w.first(d, w.challenge(d.ID))
		_, err := w.reg.SetDeviceState(t.Context(), officer, d.ID, s, "")
		w.must(err)
		_, err = w.commit(e)
		w.want(err, trust.ErrForbidden)
	}
	d := w.device("alice@contoso.com")
	for name, change := range map[string]func(*registry.Enrolment){
		"another owner":  func(e *registry.Enrolment) { e.Certificate.Owner = "bob@contoso.com" },
		"another issuer": func(e *registry.Enrolment) { e.Certificate.Issuer = "fabrikam" },
		"no challenge":   func(e *registry.Enrolment) { e.Challenge = "" },
		"no evidence":    func(e *registry.Enrolment) { e.Certificate.Evidence = trust.Evidence{}; e.Challenge = "" },
		"no renewal":     func(e *registry.Enrolment) { e.Certificate.Evidence = trust.Evidence{Kind: "renewal"} },
	} {
		e := w.first(d, w.challenge(d.ID))
		change(&e)
		if _, err := w.commit(e); err == nil {
			t.Errorf("%s: enrolled", name)
		}
	}
	if n := len(w.certificates(d.ID)); n != 0 {
		t.Errorf("%d certificates", n)
	}
}

// atOnce commits sixteen enrolments at the same time.
func (w *world) atOnce(make func() registry.Enrolment) (serials map[trust.Serial]int, refused int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	serials = map[trust.Serial]int{}
	for range 16 {
		e := make()
		wg.Go(func() {
			c, err := w.commit(e)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				serials[c.Serial]++
			case errors.Is(err, trust.ErrForbidden):
				refused++
			default:
				w.Error(err)
			}
		})
	}
	wg.Wait()
	return serials, refused
}

// Sixteen at once with one challenge: one certificate. The same transaction sixteen times: the same certificate for all of them.
func TestEnrolConcurrently(t *testing.T) {
	t.Run("one challenge", func(t *testing.T) {
		w := newWorld(t)
		d := w.device("alice@contoso.com")
		secret := w.challenge(d.ID)
		serials, refused := w.atOnce(func() registry.Enrolment { return w.first(d, secret) })
		if len(serials) != 1 || refused != 15 || len(w.certificates(d.ID)) != 1 {
			t.Errorf("%v, %d refused, %d stored", serials, refused, len(w.certificates(d.ID)))
		}
	})
	t.Run("one transaction", func(t *testing.T) {
		w := newWorld(t)
		d := w.device("alice@contoso.com")
		secret := w.challenge(d.ID)
		tx := registry.Transaction{Issuer: "contoso", ID: "same", Challenge: secret}
		serials, _ := w.atOnce(func() registry.Enrolment { e := w.first(d, secret); e.Transaction = tx; return e })
		if len(serials) != 1 || len(w.certificates(d.ID)) != 1 {
			t.Errorf("%v, %d stored", serials, len(w.certificates(d.ID)))
		}
		for _, count := range serials {
			if count != 16 {
				t.Errorf("%d of %d were answered", count, 16)
			}
		}
	})
	t.Run("one renewal", func(t *testing.T) {
		w := newWorld(t)
		d := w.device("alice@contoso.com")
		old := w.enrol(d)
		serials, refused := w.atOnce(func() registry.Enrolment { return w.signed(d, trust.Evidence{Kind: "renewal", Renews: old.Serial}) })
		if len(serials) != 1 || refused != 15 || len(w.certificates(d.ID)) != 2 {
			t.Errorf("%v, %d refused", serials, refused)
		}
	})
}

// A request is the same only if every field of its transaction is, and for an hour.
func TestRetry(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	e := w.first(d, w.challenge(d.ID))
	c, err := w.commit(e)
	w.must(err)
	for name, change := range map[string]func(*registry.Transaction){
		"issuer":       func(x *registry.Transaction) { x.Issuer = "fabrikam" },
		"id":           func(x *registry.Transaction) { x.ID += "1" },
		"type":         func(x *registry.Transaction) { x.MessageType = "RenewalReq" },
		"signer":       func(x *registry.Transaction) { x.Signer[31] = 1 },
		"CSR":          func(x *registry.Transaction) { x.CSR[0] = 1 },
		"challenge":    func(x *registry.Transaction) { x.Challenge = "" },
		"id into type": func(x *registry.Transaction) { x.ID, x.MessageType = x.ID+x.MessageType[:1], x.MessageType[1:] },
	} {
		x := e.Transaction
		change(&x)
		if _, err := w.reg.Issued(t.Context(), x); !errors.Is(err, trust.ErrNotFound) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	again := e
	again.Certificate.Serial = "0badc0de"
	w.pass(registry.RetryWindow)
	if got, err := w.commit(again); err != nil || got.Serial != c.Serial {
		t.Errorf("retry: %v, %v", got.Serial, err)
	}
	if got, err := w.reg.Issued(t.Context(), e.Transaction); err != nil || got.Serial != c.Serial {
		t.Errorf("issued: %v, %v", got.Serial, err)
	}
	w.pass(1)
	_, err = w.reg.Issued(t.Context(), e.Transaction)
	w.want(err, trust.ErrNotFound)
	_, err = w.commit(again)
	w.want(err, registry.ErrChallengeSpent)
	if n := len(w.certificates(d.ID)); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

// A certificate renews while it is good, valid and of the same device and owner; the old one is superseded.
func TestRenewal(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	old := w.enrol(d)
	c, err := w.renew(d, old.Serial)
	w.must(err)
	was, is := w.cert(old), w.cert(c)
	if was.Status != trust.Superseded || was.Successor != is.Serial || is.Predecessor != was.Serial || is.Status != trust.Good || is.Renewals != 1 {
		t.Errorf("old %+v\nnew %+v", was, is)
	}
	if e := w.newest(registry.AuditFilter{}); e.Action != registry.ActRenew {
		t.Errorf("audit %+v", e)
	}
	other := w.device("alice@contoso.com")
	_, err = w.renew(other, c.Serial)
	w.want(err, trust.ErrForbidden)
	_, err = w.renew(d, "ffff")
	w.want(err, trust.ErrNotFound)
	_, err = w.reg.Hold(t.Context(), desk, "contoso", c.Serial, "")
	w.must(err)
	_, err = w.renew(d, c.Serial)
	w.want(err, trust.ErrForbidden)
	_, err = w.reg.Release(t.Context(), desk, "contoso", c.Serial, "")
	w.must(err)
	w.pass(366 * 24 * time.Hour)
	_, err = w.renew(d, c.Serial)
	w.want(err, trust.ErrForbidden) // expired
	if n := len(w.certificates(d.ID)); n != 2 {
		t.Errorf("%d certificates", n)
	}
}

// A device has one good certificate, whatever happened in between.
func TestOneGoodCertificate(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	held := w.enrol(d)
	_, err := w.reg.Hold(t.Context(), desk, "contoso", held.Serial, "")
	w.must(err)
	fresh := w.enrol(d)
	_, err = w.reg.Release(t.Context(), desk, "contoso", held.Serial, "")
	w.must(err)
	if a, b := w.status(held), w.status(fresh); a != trust.Superseded || b != trust.Good {
		t.Errorf("released one is %s, newer one %s", a, b)
	}
	w.enrol(d)
	good := 0
	for _, c := range w.certificates(d.ID) {
		if c.Status == trust.Good {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d good certificates", good)
	}
}

// Other devices' certificates are nobody's business.
func TestEnrolTouchesOneDevice(t *testing.T) {
	w := newWorld(t)
	a, b := w.device("alice@contoso.com"), w.device("alice@contoso.com")
	ca, cb := w.enrol(a), w.enrol(b)
	w.enrol(a)
	if w.status(ca) != trust.Superseded || w.status(cb) != trust.Good {
		t.Error(fmt.Sprint(w.status(ca), w.status(cb)))
	}
}
