package probe

import (
	"crypto/x509"
	"time"
)

// Judge looks at the octets of a base and a delta CRL as if they had been fetched. It reports whether a sign-in would work.
func Judge(base, delta []byte, ca *x509.Certificate, now func() time.Time) (ok bool) {
	l := &look{Prober: New(Public(), now), target: Target{URL: "x"}, ca: ca}
	lists := map[string]*list{}
	for about, raw := range map[string][]byte{"base": base, "delta": delta} {
		c, f, err := parse(raw)
		if err != nil {
			l.fail(about, f, "%v", err)
			continue
		}
		l.judge(about, c)
		lists[about] = c
	}
	l.pair(lists["base"], lists["delta"], "")
	for _, f := range l.report.Findings {
		if f.Severity == Error {
			return false
		}
	}
	return true
}
