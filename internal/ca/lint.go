package ca

import (
	"errors"
	"fmt"
	"strings"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/community" // register themselves
	_ "github.com/zmap/zlint/v3/lints/rfc"
)

// linter runs the lints of zlint that come from RFCs and from the community. Those of browsers and their forum are about servers on the public web.
type linter struct {
	lints  []*lint.CertificateLint
	config lint.Configuration
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
	return &linter{r.CertificateLints().Lints(), r.GetConfiguration()}, nil
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
	var found []string
	for _, one := range l.lints {
		if res := one.Execute(c, l.config); res.Status >= lint.Error {
			found = append(found, strings.TrimSpace(one.Name+" "+res.Details))
		}
	}
	if found != nil {
		return errors.New("lint: " + strings.Join(found, "; "))
	}
	return nil
}
