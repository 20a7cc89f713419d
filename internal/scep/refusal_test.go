package scep

import (
	"crypto/x509/pkix"
	"strings"
	"testing"

	"postern/internal/registry"
	"postern/internal/trust"
)

// The audit says to a help desk why a challenge did not let a device enrol, and what helps. It never holds the challenge.
func TestRefusedChallengesInWords(t *testing.T) {
	for name, c := range map[string]struct {
		spoil       func(g *gate, d trust.Device, a *ask)
		words, does string
		stranger    bool // the entry is of no device
	}{
		"used": {spoil: func(g *gate, _ trust.Device, a *ask) {
			if got := g.send(ask{challenge: a.challenge, key: rsaKeys()[1]}); got.cert == nil {
				g.Fatal("not enrolled")
			}
		}, words: "was used before, on 2", does: "`postern device challenge DEVICE`"},
		"expired": {spoil: func(g *gate, _ trust.Device, _ *ask) { g.pass(registry.DefaultChallengeTTL) },
			words: "could be used until 2", does: "`postern device challenge DEVICE`"},
		"void": {spoil: func(g *gate, d trust.Device, _ *ask) {
			_, err := g.reg.SetDeviceState(g.Context(), admin, d.ID, trust.Blocked, "")
			g.must(err)
		}, words: "was made before the device got another owner, was blocked", does: "`postern device challenge DEVICE`"},
		"unknown": {spoil: func(_ *gate, _ trust.Device, a *ask) {
			a.challenge, a.subject = "AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH", pkix.Name{CommonName: strings.Repeat("x", 200), OrganizationalUnit: []string{"a\nb", "c", "d"}}
		}, words: `The request names "c", "d", "a\nb", and 1 more`, does: "`postern device challenge ID`", stranger: true},
		"none": {spoil: func(_ *gate, _ trust.Device, a *ask) { a.challenge = "" }, words: "sent no one-time challenge", does: "Put one into it", stranger: true},
		"other hardware": {spoil: func(g *gate, _ trust.Device, a *ask) { a.subject.CommonName = g.device().SerialNumber },
			words: "is that of DEVICE, and the request names other hardware", does: "its own challenge"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			d := g.device()
			a := ask{challenge: g.challenge(d)}
			secret := a.challenge
			c.spoil(g, d, &a)
			e := g.wantRefused(BadRequest, func() answer { return g.send(a) })
			for _, want := range []string{c.words, c.does} {
				if want = strings.ReplaceAll(want, "DEVICE", string(d.ID)); !strings.Contains(e.Detail, want) {
					t.Errorf("%q\nwant %q", e.Detail, want)
				}
			}
			if (e.Object == string(d.ID)) == c.stranger || strings.Contains(e.Detail, secret) || strings.Contains(e.Detail, strings.Repeat("x", 65)) || strings.ContainsRune(e.Detail, '\n') {
				t.Errorf("%+v", e)
			}
		})
	}
}

// The client's text says what to do, or at least what happened.
func TestRefusalTexts(t *testing.T) {
	m := pkcsReq(t, AES128)
	m.signer = testParties().ec
	_, err := ParseRequest(m.encode(t))
	if f := wantFailure(t, err, BadRequest); !strings.HasSuffix(f.Text, "enrol with an RSA key and a challenge") {
		t.Errorf("EC: %q", f.Text)
	}
	g := newGate(t)
	d := g.device()
	first := g.enrol(d, rsaKeys()[0])
	g.enrol(d, rsaKeys()[1])
	if got := g.send(ask{kind: RenewalReq, key: rsaKeys()[2], signer: first, id: "late"}); got.rep.failInfo != "4" || !strings.Contains(got.rep.failText, "has enrolled anew since") {
		t.Errorf("a renewal after a new enrolment: %s %q", got.rep.failInfo, got.rep.failText)
	}
}
