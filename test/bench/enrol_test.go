package bench

import (
	"testing"

	"postern/test/scep"
)

// BenchmarkEnrol compares first enrolments: Postern with its defaults and with an RSA issuing key, both with Go's RSA and with OpenSSL's, and step-ca with an RSA
// intermediate that also opens the envelopes, and with a P-256 intermediate and an RSA decrypter. Postern spends a one-time challenge and audits, durably;
// step-ca compares a static secret and stores the certificate in its default database.
func BenchmarkEnrol(b *testing.B) {
	const n = (rounds + 1) * perRound
	peers := map[string]*contestant{}
	var all []*contestant
	for name, o := range map[string]scep.StepCAOptions{"RSA 2048": {RSA: true, Database: "badgerv2"}, "P-256": {Database: "badgerv2"}} {
		s := stepCA(b, o)
		applicants := make([]scep.Applicant, n)
		for i := range applicants {
			applicants[i] = scep.Applicant{Mail: "applicant@" + scep.Domain, Challenge: s.Challenge}
		}
		peers[name] = prepare(b, "step-ca, "+name+" issuing key", s.URL, s, applicants)
		all = append(all, peers[name])
	}
	type pair struct {
		name     string
		ours     *contestant
		stepKind string
	}
	var pairs []pair
	for _, with := range []struct{ name, binary string }{{"go", binary(b)}, {"openssl", openSSLBinary(b)}} {
		if with.binary == "" {
			continue
		}
		rsa, p256 := ours(b, with.binary, "RSA 2048", with.name, n), ours(b, with.binary, "P-256", with.name, n)
		pairs = append(pairs, pair{with.name + ":RSA/step-ca-RSA", rsa, "RSA 2048"}, pair{with.name + ":default/step-ca-RSA", p256, "RSA 2048"},
			pair{with.name + ":default/step-ca-P256", p256, "P-256"})
		all = append(all, rsa, p256)
	}
	done := false
	for b.Loop() {
		if !done {
			contest(b, rounds, all...)
			done = true
		}
	}
	for _, p := range pairs {
		ratio(b, p.name, p.ours, peers[p.stepKind])
	}
}

// ours starts a Postern with an issuing key of that kind, and gives it n applicants.
func ours(b *testing.B, binary, kind, rsa string, n int) *contestant {
	b.Helper()
	s := newSite(b, binary)
	if kind == "RSA 2048" {
		s.useRSA(b)
	}
	s.start(b)
	s.stop(b)
	applicants := s.applicants(b, n)
	s.start(b)
	b.Cleanup(func() { s.stop(b) })
	return prepare(b, "postern, "+kind+" issuing key, RSA of "+rsa, s.URL, s, applicants)
}
