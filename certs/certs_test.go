package certs_test

import (
	"slices"
	"testing"
	"time"

	"postern/certs"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", certs.Default, certs.Short} {
		p, ok := certs.Lookup(name)
		if !ok || len(p.Subject) == 0 || len(p.SANs) == 0 || !slices.Equal(p.Purposes, []string{certs.ClientAuth}) || p.Lifetime <= 0 || p.Lifetime > certs.MaxLifetime || p.Backdate != 10*time.Minute {
			t.Errorf("%q: %t %+v", name, ok, p)
		}
		for _, k := range p.KeyTypes {
			if !slices.Contains(certs.KeyTypes(), k) {
				t.Errorf("%q: key type %q", name, k)
			}
		}
	}
	if _, ok := certs.Lookup("root"); ok {
		t.Error("there is a profile root")
	}
}

// An override replaces what it names, keeps the rest, and never makes a short profile long.
func TestWith(t *testing.T) {
	t.Parallel()
	own, _ := certs.Lookup(certs.Default)
	if p := own.With(certs.Overrides{}); p.Lifetime != own.Lifetime || !slices.Equal(p.KeyTypes, own.KeyTypes) {
		t.Errorf("nothing changed: %+v", p)
	}
	o := certs.Overrides{Lifetime: 90 * 24 * time.Hour, PolicyOIDs: []string{"1.2.3"}, KeyTypes: []string{certs.P256}, ExtraNames: []string{certs.Aliases}}
	p := own.With(o)
	if p.Lifetime != o.Lifetime || !slices.Equal(p.Policies, o.PolicyOIDs) || !slices.Equal(p.KeyTypes, o.KeyTypes) || !slices.Equal(p.Names, o.ExtraNames) || !slices.Equal(p.Subject, own.Subject) || !slices.Equal(p.SANs, own.SANs) {
		t.Errorf("%+v", p)
	}
	o.KeyTypes[0] = certs.RSA2048
	if p.KeyTypes[0] != certs.P256 {
		t.Error("the profile shares memory with the configuration")
	}
	short, _ := certs.Lookup(certs.Short)
	for lifetime, want := range map[time.Duration]time.Duration{o.Lifetime: short.Lifetime, time.Hour: time.Hour} {
		if got := short.With(certs.Overrides{Lifetime: lifetime}).Lifetime; got != want {
			t.Errorf("short with %s: %s", lifetime, got)
		}
	}
}
