package revocation_test

import (
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"postern/internal/trust"
)

// notForHolds is the lint that cannot hold where a certificate is on hold or was released: the CA/Browser Forum, whose rules are for servers on the public web,
// forbids both reasons (BR 7.2.2). STANDARDS.md says so.
const notForHolds = "e_cab_crl_has_valid_reason_code"

// Every lint of CRLs that there is, of whatever source, over what the publisher serves: first nothing, then every reason of a revocation, then holds.
func TestLintCRLs(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	for _, path := range []string{"/contoso/root.crl", "/contoso/root-delta.crl", "/contoso/issuing.crl", "/contoso/issuing-delta.crl"} {
		l.lint(path, lint.NA)
	}
	for _, r := range []trust.ReasonCode{trust.Unspecified, trust.KeyCompromise, trust.AffiliationChanged, trust.SupersededReason, trust.CessationOfOperation, trust.PrivilegeWithdrawn} {
		rev, err := l.reg.Revoke(t.Context(), root, "contoso", l.record(1000*time.Hour), r, "")
		l.settle(rev, err)
	}
	l.newBase()
	l.lint("/contoso/issuing.crl", lint.Pass)
	l.lint("/contoso/issuing-delta.crl", lint.Pass)
	l.hold(l.record(1000 * time.Hour))
	released := l.record(1000 * time.Hour)
	l.hold(released)
	l.release(released)
	l.newBase()
	l.lint("/contoso/issuing.crl", lint.Error)
	l.lint("/contoso/issuing-delta.crl", lint.Error)
}

// lint runs the lints. What look at reasons end as asked, where holds are an error of notForHolds alone; that there is a nextUpdate always passes.
func (l *lab) lint(path string, reasons lint.LintStatus) {
	l.t.Helper()
	c, err := zx509.ParseRevocationList(l.get(path).Body.Bytes())
	l.must(err)
	results := zlint.LintRevocationList(c).Results
	if len(results) < 4 {
		l.t.Errorf("%s: only %d lints", path, len(results))
	}
	for name, r := range results {
		want := reasons
		if name == "e_crl_has_next_update" || name != notForHolds && reasons == lint.Error {
			want = lint.Pass
		}
		if r.Status != want {
			l.t.Errorf("%s: %s: %s, want %s: %s", path, name, r.Status, want, r.Details)
		}
	}
}

// newBase publishes a base that has everything.
func (l *lab) newBase() {
	l.t.Helper()
	rev, err := l.reg.RequestPublish(l.t.Context(), root, "contoso", true)
	l.settle(rev, err)
	l.eventually("a new base", func() bool { return l.status().Covers >= rev })
}
