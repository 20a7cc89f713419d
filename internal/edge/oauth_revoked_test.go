package edge_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"postern/internal/trust"
)

// A token does not outlast the newest certificate of its device, also in the middle of a Ping, and the ticket gets no other one meanwhile. A renewal, and the
// revocation of a certificate that was renewed, stop no token.
func TestTokenEndsWithTheCertificate(t *testing.T) {
	w, p := oauthWorld(t)
	w.team(`postern: {config: {access: {token_families: [gmail]}}}`)
	ctx := context.Background()
	d, cert := w.managed(alice, "")
	ticket, _ := w.ticket(d)
	token, says := tokenFor(alice)
	p.says(says)
	c := w.phone(nil, true)
	if r := w.signIn(c, ticket, codeForm); r.status != 200 {
		t.Fatalf("%d %q", r.status, r.body)
	}
	android := call{query: "Cmd=FolderSync&User=alice@contoso.com&DeviceId=androidc42&DeviceType=Android", agent: "Android-Mail/2026.1", auth: "Bearer " + token}
	works := func(when string) {
		t.Helper()
		w.sync()
		if r := w.do(c, android); phoneSees(r) != mail {
			_, codes := w.reasons(r.reference)
			t.Errorf("%s: %s %v", when, phoneSees(r), codes)
		}
		if r := w.signIn(c, ticket, refreshForm); r.status != 200 {
			t.Errorf("%s: a sign-in: %d", when, r.status)
		}
	}
	stopped := func(when string) {
		t.Helper()
		w.sync()
		p.taken()
		for _, r := range []reply{w.do(c, android), w.signIn(c, ticket, refreshForm)} {
			dec, codes := w.reasons(r.reference)
			if strings.Join(codes, " ") != "token_of_revoked_device" || !strings.Contains(dec.Reasons[0].Text, string(d.ID)) || dec.Reasons[0].Remedy == "" {
				t.Errorf("%s: %d %v", when, r.status, dec.Reasons)
			}
		}
		if len(p.taken()) != 0 {
			t.Errorf("%s: the identity provider was asked", when)
		}
	}
	works("at first")
	renewed := w.enrol(d, leaf{}, &cert)
	works("renewed")
	_, err := w.reg.Revoke(ctx, root, "contoso", serialOf(cert), trust.SupersededReason, "")
	must(t, err)
	works("the old certificate revoked")

	w.mu.Lock()
	exchange := w.upstream
	w.mu.Unlock()
	held := make(chan struct{})
	w.answerWith(func(_ http.ResponseWriter, r *http.Request) {
		close(held)
		<-r.Context().Done()
	})
	ping := android
	ping.query = strings.Replace(ping.query, "FolderSync", "Ping", 1)
	ended := make(chan reply, 1)
	go func() { r, _ := w.try(ctx, c, ping); ended <- r }()
	<-held
	_, err = w.reg.Hold(ctx, root, "contoso", serialOf(renewed), "")
	must(t, err)
	if r := <-ended; phoneSees(r) != blocked {
		t.Errorf("a Ping while the certificate is put on hold: %s", phoneSees(r))
	}
	w.answerWith(exchange)
	stopped("on hold")
	_, err = w.reg.Release(ctx, root, "contoso", serialOf(renewed), "")
	must(t, err)
	works("released")
	_, err = w.reg.Revoke(ctx, root, "contoso", serialOf(renewed), trust.KeyCompromise, "")
	must(t, err)
	stopped("revoked")
	w.enrol(d, leaf{}, nil)
	works("enrolled again")
}
