package bench

import (
	"testing"

	"postern/test/scep"
)

// BenchmarkEnrol compares first enrolments: Postern with its defaults and with an RSA issuing key, step-ca with an RSA intermediate that also opens the envelopes,
// and with a P-256 intermediate and an RSA decrypter. Postern spends a one-time challenge and audits, durably; step-ca compares a static secret and stores the
// certificate in its default database.
func BenchmarkEnrol(b *testing.B) {
	const n = (rounds + 1) * perRound
	var posterns []*contestant
	for _, kind := range []string{"P-256", "RSA 2048"} {
		s := newSite(b)
		if kind == "RSA 2048" {
			s.useRSA(b)
		}
		s.start(b)
		s.stop(b)
		applicants := s.applicants(b, n)
		s.start(b)
		b.Cleanup(func() { s.stop(b) })
		posterns = append(posterns, prepare(b, "postern, "+kind+" issuing key", s.URL, s, applicants))
	}
	var peers []*contestant
	for _, o := range []scep.StepCAOptions{{RSA: true, Database: "badgerv2"}, {Database: "badgerv2"}} {
		name := "step-ca, P-256 and RSA decrypter"
		if o.RSA {
			name = "step-ca, RSA 2048"
		}
		s := stepCA(b, o)
		applicants := make([]scep.Applicant, n)
		for i := range applicants {
			applicants[i] = scep.Applicant{Mail: "applicant@" + scep.Domain, Challenge: s.Challenge}
		}
		peers = append(peers, prepare(b, name, s.URL, s, applicants))
	}
	done := false
	for b.Loop() {
		if done {
			continue
		}
		contest(b, append(posterns, peers...)...)
		done = true
	}
	ratio(b, "RSA/step-ca-RSA", posterns[1], peers[0])
	ratio(b, "default/step-ca-RSA", posterns[0], peers[0])
	ratio(b, "default/step-ca-P256", posterns[0], peers[1])
}
