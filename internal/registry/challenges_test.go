package registry_test

import (
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// Why a challenge does not authorise: each case by name. Looking it up and spending it agree.
func TestChallengeRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(w *world, d trust.Device, secret string) (issuer, say string)
		want  error
	}{
		"unknown": {func(*world, trust.Device, string) (string, string) {
			return "contoso", "AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH"
		}, registry.ErrChallengeUnknown},
		"empty":        {func(*world, trust.Device, string) (string, string) { return "contoso", "" }, registry.ErrChallengeUnknown},
		"with a blank": {func(_ *world, _ trust.Device, s string) (string, string) { return "contoso", s + " " }, registry.ErrChallengeUnknown},
		"other issuer": {func(_ *world, _ trust.Device, s string) (string, string) { return "fabrikam", s }, registry.ErrChallengeUnknown},
		"spent": {func(w *world, d trust.Device, s string) (string, string) {
			_, err := w.commit(w.first(d, s))
			w.must(err)
			return "contoso", s
		}, registry.ErrChallengeSpent},
		"expired": {func(w *world, _ trust.Device, s string) (string, string) {
			w.pass(registry.DefaultChallengeTTL)
			return "contoso", s
		}, registry.ErrChallengeExpired},
		"reassigned": {func(w *world, d trust.Device, s string) (string, string) {
			_, err := w.reg.ReassignDevice(w.Context(), officer, d.ID, trust.Owner{Mail: "bob@contoso.com"})
			w.must(err)
			return "contoso", s
		}, registry.ErrChallengeVoid},
		"retired": {func(w *world, d trust.Device, s string) (string, string) {
			_, err := w.reg.RetireDevice(w.Context(), officer, d.ID, "")
			w.must(err)
			return "contoso", s
		}, registry.ErrChallengeVoid},
		"blocked": {func(w *world, d trust.Device, s string) (string, string) {
			_, err := w.reg.SetDeviceState(w.Context(), officer, d.ID, trust.Blocked, "")
			w.must(err)
			return "contoso", s
		}, registry.ErrChallengeVoid},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := w.device("alice@contoso.com")
			issuer, secret := c.spoil(w, d, w.challenge(d.ID))
			_, got, _, err := w.reg.Challenge(t.Context(), issuer, secret)
			w.want(err, c.want)
			w.want(err, trust.ErrForbidden)
			if known := c.want != registry.ErrChallengeUnknown; known != (got.ID == d.ID) {
				t.Errorf("the refusal is about device %q", got.ID)
			}
			before := len(w.certificates(d.ID))
			e := w.first(d, secret)
			e.Certificate.Issuer = issuer
			_, err = w.commit(e)
			w.want(err, trust.ErrForbidden)
			if len(w.certificates(d.ID)) != before {
				t.Error("a certificate was stored")
			}
		})
	}
}

func TestChallengeOfAnotherDevice(t *testing.T) {
	w := newWorld(t)
	a, b := w.device("alice@contoso.com"), w.device("alice@contoso.com")
	secret := w.challenge(a.ID)
	_, err := w.commit(w.first(b, secret))
	w.want(err, registry.ErrChallengeUnknown)
	_, err = w.commit(w.first(a, secret)) // the attempt has not used it up
	w.must(err)
}

func TestCreateChallenge(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	secret, c, err := w.reg.CreateChallenge(t.Context(), desk, d.ID, 0)
	w.must(err)
	if len(secret) != 32 || !c.Expires.Equal(w.now().Add(registry.DefaultChallengeTTL)) || c.Device != d.ID || c.Owner != d.Owner || c.By != desk {
		t.Errorf("challenge %+v", c)
	}
	found, device, owner, err := w.reg.Challenge(t.Context(), "contoso", secret)
	w.must(err)
	if found.ID != c.ID || device.ID != d.ID || owner.Mail != d.Owner {
		t.Errorf("found %+v, %+v, %+v", found, device, owner)
	}
	for _, ttl := range []time.Duration{-time.Second, time.Millisecond, registry.MaxChallengeTTL + 1} {
		_, _, err := w.reg.CreateChallenge(t.Context(), desk, d.ID, ttl)
		w.want(err, trust.ErrInvalid)
	}
	_, _, err = w.reg.CreateChallenge(t.Context(), desk, "dev-none", 0)
	w.want(err, trust.ErrNotFound)
}
