package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"postern/certs"
	"postern/internal/trust"
)

// checkKey accepts the key types of the profile. An RSA key has at most 8192 bits and is made as FIPS 186-5, section 5.1, asks.
func checkKey(pub crypto.PublicKey, types []string) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		least := leastRSA(types)
		if n := k.N.BitLen(); least == 0 || n < least || n > 8192 {
			return refuse(PartKey, "RSA key of %d bits: want %s", n, strings.Join(types, " or "))
		}
		if k.E < 65537 || k.E%2 == 0 || k.N.Bit(0) == 0 {
			return refuse(PartKey, "RSA key with modulus or exponent that no sound program makes (exponent %d)", k.E)
		}
		if closePrimes(k.N) {
			return refuse(PartKey, "RSA key whose primes are so close that anybody can find them")
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() && slices.Contains(types, certs.P256) || k.Curve == elliptic.P384() && slices.Contains(types, certs.P384) {
			return nil
		}
		return refuse(PartKey, "EC key on curve %s: want %s", k.Curve.Params().Name, strings.Join(types, " or "))
	default:
		return refuse(PartKey, "key of kind %T: want %s", pub, strings.Join(types, " or "))
	}
	return nil
}

// leastRSA returns how many bits an RSA key needs at least; 0: none is accepted.
func leastRSA(types []string) int {
	for _, t := range []struct {
		name string
		bits int
	}{{certs.RSA2048, 2048}, {certs.RSA3072, 3072}, {certs.RSA4096, 4096}} {
		if slices.Contains(types, t.name) {
			return t.bits
		}
	}
	return 0
}

// closePrimes reports whether 100 rounds of Fermat's method factor n, as they do for keys of some printers (CVE-2022-26320): whether a² - n is a square for
// one of the numbers a from the root of n on, which then is the mean of both primes.
func closePrimes(n *big.Int) bool {
	root := new(big.Int).Sqrt(n)
	sieve := big.NewInt(64 * 63 * 65 * 11)
	m := sieve.Int64()
	a, rest := new(big.Int).Rem(root, sieve).Int64(), new(big.Int).Rem(n, sieve).Int64()
	for k := range int64(101) {
		r := ((a+k)*(a+k) - rest) % m
		if r = (r + m) % m; !squareMod(r, 64) || !squareMod(r, 63) || !squareMod(r, 65) || !squareMod(r, 11) {
			continue // as all but one in a hundred, and without long numbers
		}
		mean := new(big.Int).Add(root, big.NewInt(k))
		square := mean.Mul(mean, mean)
		if square.Sub(square, n).Sign() < 0 {
			continue // k is 0, and n no square
		}
		half := new(big.Int).Sqrt(square)
		if half.Mul(half, half).Cmp(square) == 0 {
			return true
		}
	}
	return false
}

// squareMod reports whether r is a square modulo m.
func squareMod(r, m int64) bool {
	r %= m
	for x := range m/2 + 1 {
		if x*x%m == r {
			return true
		}
	}
	return false
}

// checkOverrides reports what is wrong with an issuer's changes of the profiles, as an error that wraps trust.ErrInvalid.
func checkOverrides(o certs.Overrides) error {
	if o.Lifetime != 0 && (o.Lifetime < time.Hour || o.Lifetime > certs.MaxLifetime || o.Lifetime%time.Second != 0) {
		return fmt.Errorf("lifetime %s %w: want 1h to %s in whole seconds", o.Lifetime, trust.ErrInvalid, certs.MaxLifetime)
	}
	for _, list := range []struct {
		what   string
		values []string
		valid  func(string) bool
		want   string
	}{
		{"policy OID", o.PolicyOIDs, validPolicy, "dotted object identifiers, such as 1.3.6.1.4.1.99999.1"},
		{"key type", o.KeyTypes, func(s string) bool { return slices.Contains(certs.KeyTypes(), s) }, strings.Join(certs.KeyTypes(), ", ")},
		{"extra name", o.ExtraNames, func(s string) bool { return slices.Contains(certs.Names(), s) }, strings.Join(certs.Names(), ", ")},
	} {
		if len(list.values) > 16 {
			return fmt.Errorf("%d values of %s %w: want at most 16", len(list.values), list.what, trust.ErrInvalid)
		}
		for n, v := range list.values {
			if !list.valid(v) {
				return fmt.Errorf("%s %q %w: want %s", list.what, v, trust.ErrInvalid, list.want)
			}
			if slices.Contains(list.values[:n], v) {
				return fmt.Errorf("%s %q %w: it is there twice", list.what, v, trust.ErrInvalid)
			}
		}
	}
	return nil
}

// validPolicy reports whether s is an object identifier that DER can encode, in its one canonical form.
func validPolicy(s string) bool {
	oid, err := parseOID(s)
	if err != nil || len(s) > 128 || oid.String() != s {
		return false
	}
	_, err = policies([]string{s})
	return err == nil
}
