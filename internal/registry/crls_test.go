package registry_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

func (w *world) crl(kind registry.CRLKind, number uint64) registry.CRL {
	return registry.CRL{Issuer: "contoso", CA: "issuing", Kind: kind, Number: number, ThisUpdate: w.now(), NextUpdate: w.now().Add(24 * time.Hour)}
}

func (w *world) numbers() (out []uint64) {
	w.Helper()
	all, err := w.reg.CRLs(w.Context(), "contoso", "issuing")
	w.must(err)
	for _, c := range all {
		out = append(out, c.Number)
	}
	return out
}

// Numbers only rise, and only from what the publisher knew.
func TestCommitCRLs(t *testing.T) {
	w := newWorld(t)
	commit := func(after uint64, crls ...registry.CRL) error {
		return w.reg.CommitCRLs(t.Context(), publisher, after, crls...)
	}
	w.must(commit(0))
	w.must(commit(0, w.crl(registry.Base, 5), w.crl(registry.Delta, 6)))
	root := w.crl(registry.Base, 8)
	root.CA = "root"
	for name, err := range map[string]error{
		"knew less":     commit(5, w.crl(registry.Delta, 7)),
		"knew more":     commit(7, w.crl(registry.Delta, 8)),
		"same number":   commit(6, w.crl(registry.Delta, 6)),
		"falling":       commit(6, w.crl(registry.Delta, 5)),
		"twice the one": commit(6, w.crl(registry.Base, 7), w.crl(registry.Delta, 7)),
		"two CAs":       commit(6, w.crl(registry.Base, 7), root),
	} {
		if !errors.Is(err, trust.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := w.numbers(); len(n) != 2 || n[1] != 6 {
		t.Errorf("numbers %v", n)
	}
	if e := w.newest(registry.AuditFilter{Action: registry.ActCRLCommit}); e.Object != "contoso/issuing" || e.After == nil {
		t.Errorf("audit %+v", e)
	}
}

func TestCommitCRLsConcurrently(t *testing.T) {
	w := newWorld(t)
	var done atomic.Uint64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				after := uint64(0)
				if n := w.numbers(); len(n) > 0 {
					after = n[len(n)-1]
				}
				switch err := w.reg.CommitCRLs(t.Context(), publisher, after, w.crl(registry.Base, after+1)); {
				case err == nil:
					done.Add(1)
				case !errors.Is(err, trust.ErrConflict):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n := w.numbers()
	if uint64(len(n)) != done.Load() || n[len(n)-1] != done.Load() {
		t.Errorf("%d commits, %d records up to %d", done.Load(), len(n), n[len(n)-1])
	}
}

// Records that nobody can hold as valid go; the newest of each kind and unexpired bases stay, however many they are.
func TestOldCRLs(t *testing.T) {
	w := newWorld(t)
	number := uint64(0)
	commit := func(kinds ...registry.CRLKind) {
		t.Helper()
		after, crls := number, []registry.CRL{}
		for _, k := range kinds {
			number++
			crls = append(crls, w.crl(k, number))
		}
		w.must(w.reg.CommitCRLs(t.Context(), publisher, after, crls...))
	}
	commit(registry.Base, registry.Delta) // 1 2
	commit(registry.Delta)                // 3
	w.pass(12 * time.Hour)
	commit(registry.Base, registry.Delta) // 4 5
	if n := w.numbers(); len(n) != 3 || n[0] != 1 || n[1] != 4 || n[2] != 5 {
		t.Errorf("numbers %v", n)
	}
	w.pass(13 * time.Hour)
	commit(registry.Delta) // 6; base 1 has expired
	if n := w.numbers(); len(n) != 2 || n[0] != 4 || n[1] != 6 {
		t.Errorf("numbers %v", n)
	}
	many := make([]registry.CRLKind, registry.MaxLimit+10)
	for i := range many {
		many[i] = registry.Base
	}
	commit(many...)
	commit(registry.Base)
	if n := w.numbers(); n[len(n)-1] != number {
		t.Errorf("newest is %d, want %d", n[len(n)-1], number)
	}
}

// A request stays until the one that was carried out is the one that is there, and a request for less does not take one for more away.
func TestRequestPublish(t *testing.T) {
	w := newWorld(t)
	pending := func() []registry.PublishRequest {
		t.Helper()
		all, err := w.reg.PublishRequests(t.Context())
		w.must(err)
		return all
	}
	ask := func(base bool) registry.PublishRequest {
		t.Helper()
		_, err := w.reg.RequestPublish(t.Context(), officer, "contoso", base)
		w.must(err)
		return pending()[0]
	}
	_, err := w.reg.RequestPublish(t.Context(), officer, "nobody", true)
	w.want(err, trust.ErrNotFound)
	first := ask(false)
	second := ask(true) // within the same tick of the clock
	w.must(w.reg.PublishDone(t.Context(), publisher, first))
	if all := pending(); len(all) != 1 || !all[0].Base {
		t.Fatalf("pending %+v", all)
	}
	w.pass(time.Second)
	if third := ask(false); !third.Base {
		t.Error("a delta was asked for, and the base is forgotten")
	}
	w.must(w.reg.PublishDone(t.Context(), publisher, second))
	if len(pending()) != 1 {
		t.Error("a newer request was removed")
	}
	w.must(w.reg.PublishDone(t.Context(), publisher, pending()[0]))
	if len(pending()) != 0 {
		t.Error("the request is still there")
	}
}

// A CA keeps its certificate for ever; its domains and address follow the configuration.
func TestPutCA(t *testing.T) {
	w := newWorld(t)
	ca := registry.CA{Issuer: "contoso", ID: "issuing", Organization: "contoso", Domains: []string{"contoso.com"}, URL: "http://127.0.0.1", DER: []byte("contosoissuing")}
	rev := func() registry.Revision { _, r := w.listed(); return r }
	before := rev()
	w.must(w.reg.PutCA(t.Context(), system, ca))
	if rev() != before {
		t.Error("the same CA again moves the revision")
	}
	other := ca
	other.DER = []byte("x")
	w.want(w.reg.PutCA(t.Context(), system, other), trust.ErrConflict)
	ca.Domains = append(ca.Domains, "contoso.net")
	w.must(w.reg.PutCA(t.Context(), system, ca))
	all, err := w.reg.CAs(t.Context(), "contoso")
	w.must(err)
	if len(all) != 2 || len(all[0].Domains) != 2 {
		t.Errorf("CAs %+v", all)
	}
	if all, err := w.reg.CAs(t.Context(), ""); err != nil || len(all) != 4 {
		t.Errorf("CAs %+v, %v", all, err)
	}
	if all, err := w.reg.CAs(t.Context(), "conto"); err != nil || len(all) != 0 {
		t.Errorf("CAs %+v, %v", all, err)
	}
}

// What a published CRL lists and a restored registry has forgotten is taken up: of certificates that it knows, and of those that it does not.
func TestMergeBack(t *testing.T) {
	w := newWorld(t)
	good, held, revoked := w.enrol(w.device("alice@contoso.com")), w.enrol(w.device("bob@contoso.com")), w.enrol(w.device("carol@contoso.com"))
	_, err := w.reg.Hold(t.Context(), desk, "contoso", held.Serial, "")
	w.must(err)
	_, err = w.reg.Revoke(t.Context(), officer, "contoso", revoked.Serial, trust.Unspecified, "")
	w.must(err)
	at, end := w.now().Add(-time.Hour), w.now().AddDate(5, 0, 0)
	told := []registry.Told{{Serial: good.Serial, Reason: trust.CertificateHold, At: at}, {Serial: held.Serial, Reason: trust.KeyCompromise, At: at},
		{Serial: revoked.Serial, Reason: trust.CertificateHold, At: at}, {Serial: "0badcafe", Reason: trust.KeyCompromise, At: at}}
	_, rev := w.listed()
	_, err = w.reg.MergeBack(t.Context(), officer, "contoso", "issuing", end, told)
	w.want(err, trust.ErrForbidden)
	for want := range []int{0, 1} {
		n, err := w.reg.MergeBack(t.Context(), publisher, "contoso", "issuing", end, told)
		if w.must(err); n != 3*(1-want) {
			t.Errorf("%d merged back", n)
		}
	}
	if a, b, c := w.status(good), w.status(held), w.cert(revoked); a != trust.Held || b != trust.Revoked || c.Reason != trust.Unspecified {
		t.Errorf("%s, %s, %s", a, b, c.Reason)
	}
	all, _, err := w.reg.RevokedSince(t.Context(), "contoso", "issuing", rev)
	w.must(err)
	if len(all) != 3 || !all[0].At.Equal(at) || !w.lists("0badcafe") || !w.lists(good.Serial) {
		t.Errorf("history %+v", all)
	}
}

func TestVoidChallenges(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	before := w.challenge(d.ID)
	w.want(w.reg.VoidChallenges(t.Context(), officer, "x"), trust.ErrForbidden)
	w.must(w.reg.VoidChallenges(t.Context(), publisher, "restored"))
	_, err := w.commit(w.first(d, before))
	w.want(err, registry.ErrChallengeVoid)
	_, err = w.commit(w.first(d, w.challenge(d.ID)))
	w.must(err)
}
