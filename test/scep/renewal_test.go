package scep_test

import (
	"crypto/rsa"
	"strings"
	"testing"

	"postern/test/scep"
)

// served is the conversation with a fresh Postern that has these sections in its configuration.
func served(t *testing.T, binary, more string) (*talk, *scep.Postern) {
	t.Helper()
	p, err := scep.NewPostern(shortDir(t), scep.PosternOptions{Binary: binary, More: more})
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return newTalk(t, &server{url: p.URL, applicant: func() (scep.Applicant, error) { return p.Add("phone") }}), p
}

// renewed is who has the certificate that a renewal brought.
func (k *talk) renewed(old *enrolled, changes ...change) *enrolled {
	k.t.Helper()
	a := k.renewal(old, changes...)
	if err := success.check(k, a); err != nil {
		k.t.Fatalf("renewal: %v", err)
	}
	return &enrolled{app: old.app, key: a.request.csr.Key.(*rsa.PrivateKey), cert: a.reply.Certificates[0]}
}

// What the section of renewals says holds at the door: not before the window, and after so many in a row only with a challenge for that device.
func TestRenewalKeys(t *testing.T) {
	binary := posternBinary(t)
	refused := func(k *talk, why string, a *answer) {
		t.Helper()
		if err := failure(scep.BadRequest).check(k, a); err != nil || !strings.Contains(a.reply.FailInfoText, why) {
			t.Errorf("want %q: %v, %s", why, err, a)
		}
	}
	early, _ := served(t, binary, "renewal: {window: 720h}") // certificates are good for a year
	refused(early, "may not be renewed yet", early.renewal(early.enrol()))

	open, _ := served(t, binary, "renewal: {window: 8784h}")
	open.renewed(open.enrol())

	k, p := served(t, binary, "renewal: {max_renewals: 2}")
	phone := k.enrol()
	app := phone.app
	for range 2 {
		phone = k.renewed(phone)
	}
	refused(k, "a challenge is required", k.renewal(phone))
	other, err := p.Add("phone")
	if err != nil {
		t.Fatal(err)
	}
	refused(k, "the challenge is not valid", k.renewal(phone, challenge(scep.Challenge(other.Challenge))))
	if app, err = p.Challenge(app); err != nil {
		t.Fatal(err)
	}
	phone = k.renewed(phone, challenge(scep.Challenge(app.Challenge)))
	k.renewed(k.renewed(phone)) // counted anew
}
