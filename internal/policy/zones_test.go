package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// The ranges say of every address what looking through all prefixes says.
func TestZones(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	prefixes := map[string][]netip.Prefix{
		"all4": {netip.MustParsePrefix("0.0.0.0/0")}, "end4": {netip.MustParsePrefix("255.255.255.0/24")}, "end6": {netip.MustParsePrefix("ffff::/16")},
		"mixed": {netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/32")}}
	for i := range 300 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(r.IntN(4)), byte(r.IntN(4)), byte(r.IntN(256)), 9}), 8+r.IntN(25))
		prefixes[fmt.Sprint("z", i%40)] = append(prefixes[fmt.Sprint("z", i%40)], p)
	}
	z := newZones(prefixes)
	addresses := []string{"0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "fe80::1%eth0", "9.255.255.255", "11.0.0.0"}
	for range 3000 {
		addresses = append(addresses, netip.AddrFrom4([4]byte{byte(r.IntN(5)), byte(r.IntN(5)), byte(r.IntN(256)), byte(r.IntN(256))}).String())
	}
	for _, text := range addresses {
		a := netip.MustParseAddr(text).Unmap().WithZone("")
		want := map[string]bool{}
		for zone, list := range prefixes {
			for _, p := range list {
				if p.Contains(a) {
					want[zone] = true
				}
			}
		}
		if got := z.of(text); len(got) != len(want) || fmt.Sprint(got) != fmt.Sprint(want) && len(want) > 0 {
			t.Fatalf("%s: %v, want %v", text, got, want)
		}
	}
	if z.of("") != nil || z.of("host") != nil || (&zones{}).of("10.0.0.1") != nil {
		t.Error("zones of what is no address")
	}
}

// An IPv4 network may be written as addresses of IPv6. What is more than the IPv4 addresses, and would fit none of them, is no prefix.
func TestMappedPrefixes(t *testing.T) {
	for text, want := range map[string]string{"::ffff:192.0.2.0/120": "192.0.2.0/24", "::ffff:192.0.2.7": "192.0.2.7/32", "::ffff:0.0.0.0/96": "0.0.0.0/0", "192.0.2.0/24": "192.0.2.0/24",
		"::/0": "::/0", "2001:db8::/32": "2001:db8::/32"} {
		if p, err := prefixOf(text); err != nil || p.String() != want {
			t.Errorf("%s: %v, %v; want %s", text, p, err, want)
		}
	}
	for _, text := range []string{"::ffff:0.0.0.0/95", "::ffff:192.0.2.0/24", "192.0.2.0/33", "::ffff:192.0.2.0/129"} {
		if p, err := prefixOf(text); err == nil {
			t.Errorf("%s is %v", text, p)
		}
	}
}

// BenchmarkZones looks an address up among many thousand prefixes.
func BenchmarkZones(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 4))
	prefixes := map[string][]netip.Prefix{}
	for i := range 50_000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(r.IntN(224)), byte(r.IntN(256)), byte(r.IntN(256)), 0}), 16+r.IntN(9)).Masked()
		prefixes[fmt.Sprint("c", i%240)] = append(prefixes[fmt.Sprint("c", i%240)], p)
	}
	z := newZones(prefixes)
	b.ReportAllocs()
	for b.Loop() {
		z.of("203.0.113.7")
	}
}

func TestVersionNumber(t *testing.T) {
	for text, want := range map[string][2]int64{"17.5.1": {17005001, 17005001}, "26": {26000000, 26999999}, "14.0": {14000000, 14000999}, "17.5.1.2": {17005001, 17005001},
		"17.5.1 (21F90)": {17005001, 17005001}, "": {}, "x": {}, "10.0.19045.1": {}, "1.2.3.4.5": {}, "-1": {}, "1..2": {}, " 9.1 ": {9001000, 9001999}} {
		if got := [2]int64{VersionNumber(text), HighestVersion(text)}; got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// A version that a phone or an MDM reports is a number of at most three parts, whatever it is; the highest that it may stand for is not below it.
func FuzzVersionNumber(f *testing.F) {
	for _, s := range []string{"17.5.1", "26", "10.0.19045.1", "17.5.1 (21F90)", "1000", ".", "9.9.9.9.9", " 1", "-1.+2.3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		least, most := VersionNumber(s), HighestVersion(s)
		if least < 0 || most < least || most > 999_999_999 {
			t.Errorf("%q: %d to %d", s, least, most)
		}
		if PlatformOf(PlatformOf(s)) != PlatformOf(s) {
			t.Errorf("%q: the platform %q is another one when it is asked again", s, PlatformOf(s))
		}
	})
}
