package registry_test

import (
	"fmt"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// standings give a device a certificate of each standing.
func standings() map[trust.CertStatus]func(*world, trust.Device) trust.Certificate {
	return map[trust.CertStatus]func(*world, trust.Device) trust.Certificate{
		trust.Good: func(w *world, d trust.Device) trust.Certificate { return w.enrol(d) },
		trust.Held: func(w *world, d trust.Device) trust.Certificate {
			c := w.enrol(d)
			_, err := w.reg.Hold(w.Context(), desk, "contoso", c.Serial, "")
			w.must(err)
			return c
		},
		trust.Superseded: func(w *world, d trust.Device) trust.Certificate { c := w.enrol(d); w.enrol(d); return c },
		trust.Revoked: func(w *world, d trust.Device) trust.Certificate {
			c := w.enrol(d)
			_, err := w.reg.Revoke(w.Context(), officer, "contoso", c.Serial, trust.KeyCompromise, "stolen")
			w.must(err)
			return c
		},
	}
}

// Every transition between the standings of a certificate: what is allowed, what changes nothing, and what is a conflict.
func TestStatusTransitions(t *testing.T) {
	acts := map[string]func(*world, trust.Serial) error{
		"revoke": func(w *world, s trust.Serial) error {
			_, err := w.reg.Revoke(w.Context(), officer, "contoso", s, trust.CessationOfOperation, "")
			return err
		},
		"hold": func(w *world, s trust.Serial) error {
			_, err := w.reg.Hold(w.Context(), desk, "contoso", s, "")
			return err
		},
		"release": func(w *world, s trust.Serial) error {
			_, err := w.reg.Release(w.Context(), desk, "contoso", s, "")
			return err
		},
	}
	w, reach := newWorld(t), standings()
	for _, c := range []struct {
		from    trust.CertStatus
		act     string
		to      trust.CertStatus // empty: a conflict
		entries int              // that the change adds to the history of CRLs
	}{
		{trust.Good, "revoke", trust.Revoked, 1}, {trust.Good, "hold", trust.Held, 1}, {trust.Good, "release", trust.Good, 0},
		{trust.Held, "revoke", trust.Revoked, 1}, {trust.Held, "hold", trust.Held, 0}, {trust.Held, "release", trust.Good, 1},
		{trust.Superseded, "revoke", trust.Revoked, 1}, {trust.Superseded, "hold", trust.Held, 1}, {trust.Superseded, "release", "", 0},
		{trust.Revoked, "revoke", trust.Revoked, 0}, {trust.Revoked, "hold", "", 0}, {trust.Revoked, "release", "", 0},
	} {
		cert := reach[c.from](w, w.device("alice@contoso.com"))
		reason := w.cert(cert).Reason
		_, rev := w.listed()
		err := acts[c.act](w, cert.Serial)
		want := c.to
		if c.to == "" {
			w.want(err, trust.ErrConflict)
			want = c.from
		} else {
			w.must(err)
		}
		history, _, err := w.reg.RevokedSince(t.Context(), "contoso", "issuing", rev)
		w.must(err)
		now := w.cert(cert)
		if now.Status != want || len(history) != c.entries {
			t.Errorf("%s of a %s one: %s, %d entries", c.act, c.from, now.Status, len(history))
		}
		if c.from == trust.Revoked && now.Reason != reason {
			t.Errorf("%s changed the reason of a revoked one to %s", c.act, now.Reason)
		}
		if inCRL := want == trust.Held || want == trust.Revoked; w.lists(cert.Serial) != inCRL {
			t.Errorf("%s of a %s one: in the complete CRL: %v", c.act, c.from, !inCRL)
		}
	}
}

func (w *world) listed() ([]trust.Revocation, registry.Revision) {
	w.Helper()
	all, rev, err := w.reg.Listed(w.Context(), "contoso", "issuing")
	w.must(err)
	return all, rev
}

func (w *world) lists(s trust.Serial) bool {
	all, _ := w.listed()
	for _, e := range all {
		if e.Serial == s {
			return true
		}
	}
	return false
}

// A superseded certificate that is held and released is superseded again, not good.
func TestReleaseOfSuperseded(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	old := w.enrol(d)
	w.enrol(d)
	_, err := w.reg.Hold(t.Context(), desk, "contoso", old.Serial, "")
	w.must(err)
	_, err = w.reg.Release(t.Context(), desk, "contoso", old.Serial, "")
	w.must(err)
	if c := w.cert(old); c.Status != trust.Superseded || c.Reason != "" {
		t.Errorf("%s, %s", c.Status, c.Reason)
	}
}

// A revocation is for good: the reasons of hold and release, and those that do not exist, are not reasons of one.
func TestRevokeReasons(t *testing.T) {
	w := newWorld(t)
	c := w.enrol(w.device("alice@contoso.com"))
	for _, r := range []trust.ReasonCode{trust.RemoveFromCRL, trust.CertificateHold, "because"} {
		_, err := w.reg.Revoke(t.Context(), officer, "contoso", c.Serial, r, "")
		w.want(err, trust.ErrInvalid)
	}
	if w.status(c) != trust.Good {
		t.Error(w.status(c))
	}
	_, err := w.reg.Revoke(t.Context(), officer, "contoso", c.Serial, "", "")
	w.must(err)
	if got := w.cert(c); got.Reason != trust.Unspecified {
		t.Errorf("reason %q", got.Reason)
	}
	_, err = w.reg.Revoke(t.Context(), officer, "contoso", "ffff", trust.Unspecified, "")
	w.want(err, trust.ErrNotFound)
}

// The history tells delta CRLs what changed since a revision, oldest first, also what was released.
func TestRevokedSince(t *testing.T) {
	w := newWorld(t)
	a, b := w.enrol(w.device("alice@contoso.com")), w.enrol(w.device("bob@contoso.com"))
	_, start := w.listed()
	r1, err := w.reg.Hold(t.Context(), desk, "contoso", a.Serial, "")
	w.must(err)
	r2, err := w.reg.Revoke(t.Context(), officer, "contoso", b.Serial, trust.KeyCompromise, "")
	w.must(err)
	r3, err := w.reg.Release(t.Context(), desk, "contoso", a.Serial, "")
	w.must(err)
	all := fmt.Sprintf("%s certificateHold %d,%s keyCompromise %d,%s removeFromCRL %d,", a.Serial, r1, b.Serial, r2, a.Serial, r3)
	for after, want := range map[registry.Revision]string{start: all, 0: all, r1: all[len(fmt.Sprintf("%s certificateHold %d,", a.Serial, r1)):],
		r2: fmt.Sprintf("%s removeFromCRL %d,", a.Serial, r3), r3: ""} {
		got, rev, err := w.reg.RevokedSince(t.Context(), "contoso", "issuing", after)
		w.must(err)
		text := ""
		for _, e := range got {
			text += fmt.Sprintf("%s %s %d,", e.Serial, e.Reason, e.Revision)
			if !e.NotAfter.Equal(w.cert(a).NotAfter) || !e.At.Equal(w.now()) {
				t.Errorf("entry %+v", e)
			}
		}
		if text != want || rev < r3 {
			t.Errorf("since %d: %s, want %s", after, text, want)
		}
	}
	for _, other := range [][2]string{{"contoso", "root"}, {"fabrikam", "issuing"}, {"contoso", "issu"}} {
		got, _, err := w.reg.RevokedSince(t.Context(), other[0], other[1], 0)
		w.must(err)
		if len(got) != 0 {
			t.Errorf("%v: %v", other, got)
		}
	}
}

func TestCertificateUsed(t *testing.T) {
	w := newWorld(t)
	c := w.enrol(w.device("alice@contoso.com"))
	first := w.now()
	for range 2 {
		w.must(w.reg.CertificateUsed(t.Context(), edgeDoor, "contoso", c.Serial, w.now()))
		w.pass(time.Hour)
	}
	if got := w.cert(c); !got.FirstUsed.Equal(first) {
		t.Errorf("first used %s", got.FirstUsed)
	}
}

func TestFindCertificate(t *testing.T) {
	w := newWorld(t)
	a, f := w.device("alice@contoso.com"), w.device("carol@fabrikam.com")
	ea, ef := w.first(a, w.challenge(a.ID)), w.first(f, w.challenge(f.ID))
	ea.Certificate.Serial, ef.Certificate.Serial = "aa", "aa"
	for _, e := range []registry.Enrolment{ea, ef} {
		_, err := w.commit(e)
		w.must(err)
	}
	only := w.enrol(f)
	_, err := w.reg.Certificate(t.Context(), "", "aa")
	w.want(err, trust.ErrConflict)
	_, err = w.reg.Revoke(t.Context(), officer, "", "aa", trust.KeyCompromise, "")
	w.want(err, trust.ErrConflict)
	c, err := w.reg.Certificate(t.Context(), "", only.Serial)
	w.must(err)
	if c.Issuer != "fabrikam" {
		t.Errorf("found %+v", c)
	}
	_, err = w.reg.Certificate(t.Context(), "contoso", only.Serial)
	w.want(err, trust.ErrNotFound)
	_, err = w.reg.Certificate(t.Context(), "", "ffff")
	w.want(err, trust.ErrNotFound)
}

func TestListCertificates(t *testing.T) {
	w := newWorld(t)
	a := w.device("alice@contoso.com")
	for range 4 {
		w.enrol(a)
	}
	w.enrol(w.device("bob@contoso.com"))
	w.enrol(w.device("carol@fabrikam.com"))
	for want, f := range map[int]registry.CertificateFilter{6: {}, 5: {Issuer: "contoso"}, 4: {Device: a.ID}, 3: {Device: a.ID, Status: trust.Superseded},
		1: {Owner: "BOB@contoso.com"}, 2: {Device: a.ID, Limit: 2}, 0: {Device: "dev-none"}} {
		got, err := w.reg.Certificates(t.Context(), f)
		w.must(err)
		if len(got) != want {
			t.Errorf("%+v: %d certificates, want %d", f, len(got), want)
		}
	}
	for _, f := range []registry.CertificateFilter{{Issuer: "contoso", Limit: 2}, {Device: a.ID, Limit: 3}} {
		n, all := 0, f
		all.Limit = 0
		want, err := w.reg.Certificates(t.Context(), all)
		w.must(err)
		for {
			page, err := w.reg.Certificates(t.Context(), f)
			w.must(err)
			if len(page) == 0 {
				break
			}
			n += len(page)
			last := page[len(page)-1]
			f.After = last.Issuer + "/" + string(last.Serial)
		}
		if n != len(want) {
			t.Errorf("%d of %d certificates in pages", n, len(want))
		}
	}
}
