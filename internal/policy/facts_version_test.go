package policy

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// slowVersionNumber says what versionNumber does, part by part.
func slowVersionNumber(version string, missing int64) (n int64) {
	version, _, _ = strings.Cut(strings.TrimSpace(version), " ")
	parts := strings.Split(version, ".")
	if len(parts) > 4 {
		return 0
	}
	for i := range 3 {
		part := missing
		if i < len(parts) {
			if len(parts[i]) == 0 || len(parts[i]) > 3 || strings.Trim(parts[i], "0123456789") != "" {
				return 0
			}
			part, _ = strconv.ParseInt(parts[i], 10, 64)
		}
		n = n*(maxPart+1) + part
	}
	return n
}

// Versions of all forms are numbered as the slow way does, without memory.
func TestVersionNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	all := []string{"", ".", "17", "17.5.1", "17.5.1.9", "17.5.1.x", "17.5.1.", "17.5.1.9.9", "1..2", "1.2.", " 26 (a)", "26.1 beta", "1000", "999.999.999", "-1", "+1", "1.٣", "1e2"}
	for range 20_000 {
		b := make([]byte, r.IntN(14))
		for i := range b {
			b[i] = "0123456789... -a"[r.IntN(16)]
		}
		all = append(all, string(b))
	}
	for _, v := range all {
		for _, missing := range []int64{0, maxPart} {
			if got, want := versionNumber(v, missing), slowVersionNumber(v, missing); got != want {
				t.Errorf("%q is %d, want %d", v, got, want)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { VersionNumber("17.5.1") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
