package ca_test

import (
	"crypto"
	"crypto/elliptic"
	"testing"

	"postern/internal/ca"
	"postern/internal/ca/catest"
)

// BenchmarkIssue is what a certificate costs beside the SCEP messages around it: names, signature, the check of what was signed, lints. The peer of each is
// the signature alone.
func BenchmarkIssue(b *testing.B) {
	i := catest.New(b)
	for name, key := range map[string]crypto.Signer{"rsa": rsaKey(b, 2048), "p256": ecKey(b, elliptic.P256())} {
		b.Run(name, func(b *testing.B) {
			r := catest.Request(b, i, "alice@contoso.com", key)
			proof, err := ca.Prove(r.CSR)
			if err != nil {
				b.Fatal(err)
			}
			r.Proof = proof
			b.ReportAllocs()
			for b.Loop() {
				if _, err := i.Issue(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
