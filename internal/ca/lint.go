package ca

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/community" // register themselves
	_ "github.com/zmap/zlint/v3/lints/rfc"
)

// linter runs the lints of zlint that come from RFCs and from the community. Those of browsers and their forum are about servers on the public web.
type linter struct {
	sets sync.Pool // of []lintRun
}

// lintRun is a lint that is ready to run. zlint's own way, to make and configure each lint anew for each certificate, costs more than the lints do. A lint may
// keep what it has seen, so that one set serves one certificate at a time.
type lintRun struct {
	*lint.CertificateLint
	body lint.CertificateLintInterface
}

// allowedLints are not run.
func allowedLints() []string {
	return []string{
		// An RSA certificate for clientAuth also has keyEncipherment, which RFC 5280, section 4.2.1.12, does not list beside it: the reply to a SCEP renewal is
		// enveloped for it (RFC 8894, section 3.2.2).
		"e_key_usage_and_extended_key_usage_inconsistent",
		"e_rsa_fermat_factorization", // closePrimes looks for the same before anything is signed, at a twentieth of the cost
	}
}

func newLinter() (*linter, error) {
	r, err := lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC5280, lint.RFC3279, lint.RFC5480, lint.RFC5891, lint.RFC8813, lint.Community},
		ExcludeNames:   allowedLints(),
	})
	if err != nil {
		return nil, fmt.Errorf("choose lints: %w", err)
	}
	set, err := lintRuns(r)
	if err != nil {
		return nil, err
	}
	l := &linter{}
	l.sets.Put(set)
	l.sets.New = func() any {
		set, _ := lintRuns(r) // as the first time
		return set
	}
	return l, nil
}

// lintRuns makes and configures every lint.
func lintRuns(r lint.Registry) ([]lintRun, error) {
	lints, config := r.CertificateLints().Lints(), r.GetConfiguration()
	set := make([]lintRun, len(lints))
	for n, one := range lints {
		set[n] = lintRun{one, one.Lint()}
		if err := config.MaybeConfigure(set[n].body, one.Name); err != nil {
			return nil, fmt.Errorf("configure lint %s: %w", one.Name, err)
		}
	}
	return set, nil
}

// run is what zlint's CertificateLint.Execute does with a lint that is configured: nil where it does not apply to the certificate.
func (l lintRun) run(c *zx509.Certificate) *lint.LintResult {
	if !l.body.CheckApplies(c) || !l.CheckEffective(c) {
		return nil
	}
	return l.body.Execute(c)
}

// check returns an error that names every lint that finds an error in the certificate. A lint that cannot be carried out is one of them.
func (l *linter) check(der []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("lint: %v", r)
		}
	}()
	c, err := zx509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("lint: %w", err)
	}
	set := l.sets.Get().([]lintRun)
	var found []string
	for _, one := range set {
		if res := one.run(c); res != nil && res.Status >= lint.Error {
			found = append(found, strings.TrimSpace(one.Name+" "+res.Details))
		}
	}
	l.sets.Put(set) //nolint:staticcheck // a slice header is little beside what it saves
	if found != nil {
		return errors.New("lint: " + strings.Join(found, "; "))
	}
	return nil
}
