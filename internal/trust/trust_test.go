package trust_test

import (
	"strings"
	"testing"
	"time"

	"postern/internal/trust"
)

func TestMail(t *testing.T) {
	for in, want := range map[string]string{
		"alice@contoso.com": "alice@contoso.com", " Alice@Contoso.COM ": "alice@contoso.com", "o'neil+x@mail.contoso.com": "o'neil+x@mail.contoso.com",
		"": "", "alice": "", "@contoso.com": "", "alice@": "", "alice@contoso": "", "a b@contoso.com": "", "a@b@contoso.com": "", "älice@contoso.com": "",
		"alice@-contoso.com": "", "alice@contoso..com": "", "\"x\"@contoso.com": "", "alice@contoso.com\x00": "", strings.Repeat("a", 65) + "@contoso.com": "",
	} {
		mail, domain, err := trust.Mail(in)
		if mail != want || (err == nil) != (want != "") {
			t.Errorf("Mail(%q) = %q, %v; want %q", in, mail, err, want)
		}
		if err == nil && !strings.HasSuffix(mail, "@"+domain) {
			t.Errorf("Mail(%q): domain %q", in, domain)
		}
	}
}

func TestParseSerial(t *testing.T) {
	for in, want := range map[string]trust.Serial{
		"0A1B": "0a1b", "0a:1b": "0a1b", "0x0a1b": "0a1b", "A1B": "0a1b", "000a1b": "0a1b", " 7f ": "7f",
		"": "", "0": "", "-1": "", "xyz": "", "0x": "", strings.Repeat("ab", 22): "",
	} {
		got, err := trust.ParseSerial(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseSerial(%q) = %q, %v; want %q", in, got, err, want)
		}
		if err == nil && trust.SerialOf(got.Int()) != got {
			t.Errorf("%q does not survive as an integer", got)
		}
	}
}

func TestRevocationReason(t *testing.T) {
	for in, want := range map[string]trust.ReasonCode{"": trust.Unspecified, "keycompromise": trust.KeyCompromise, "superseded": trust.SupersededReason,
		"certificateHold": "", "removeFromCRL": "", "because": ""} {
		got, err := trust.RevocationReason(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("RevocationReason(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestReferencesSortByTimeAndSurviveATelephone(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	early, late := trust.NewReference(at), trust.NewReference(at.Add(time.Second))
	if early >= late || len(early) != 12 {
		t.Errorf("references %q and %q do not sort by time", early, late)
	}
	spoken := strings.NewReplacer("0", "O", "1", "l").Replace(strings.ToLower(early[:4] + "-" + early[4:8] + " " + early[8:]))
	if got := trust.ParseReference(spoken); got != early {
		t.Errorf("ParseReference(%q) = %q, want %q", spoken, got, early)
	}
	if trust.NewReference(at) == trust.NewReference(at) {
		t.Error("two references of one second are equal")
	}
}

// The reference of facts is theirs always, of the form of the others, and differs with the first of their octets.
func TestReferenceOfFacts(t *testing.T) {
	a, b := trust.ReferenceOf("0123456789abcdef"), trust.ReferenceOf("1123456789abcdef")
	if a != trust.ReferenceOf("0123456789abcdef") || a == b || len(a) != 12 || trust.ParseReference(strings.ToLower(a)) != a {
		t.Errorf("%q, %q", a, b)
	}
}

func TestIDsSortByTime(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	early, late := trust.NewIDAt("dev", at), trust.NewIDAt("dev", at.Add(time.Millisecond))
	if early >= late || len(early) != len(trust.NewID("dev")) || trust.NewIDAt("dev", at) == trust.NewIDAt("dev", at) {
		t.Errorf("%s, %s", early, late)
	}
}

func TestOwnerNames(t *testing.T) {
	o := trust.Owner{Mail: "a@c.com", UPN: "A@c.com", SAM: `c\a`, Proxies: []string{"b@c.com", "a@c.com"}, Delegations: []string{"shared@c.com"}}
	if got := strings.Join(o.Names(), " "); got != `a@c.com c\a b@c.com` {
		t.Errorf("Names() = %s", got)
	}
}
