package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// zones tells in which of the networks and countries of a policy's data an address is. Rego would look through all prefixes for every request; here it is one
// search in a list of ranges that do not overlap, made when the policy is loaded.
type zones struct {
	from []netip.Addr      // where a range begins; it ends where the next one does
	in   []map[string]bool // the zones of each range; nil for none, and never changed
}

// zoneOf returns the name of a zone in policies: that of the network, or of the country, in lower case.
func zoneOf(name string) string { return strings.ToLower(name) }

// edgeOf is an address at which a zone begins or is over.
type edgeOf struct {
	at   netip.Addr
	zone string
	step int
}

// newZones makes the ranges of prefixes by zone. IPv4 comes before IPv6 in the order of addresses.
func newZones(prefixes map[string][]netip.Prefix) *zones {
	var edges []edgeOf
	for zone, list := range prefixes {
		for _, p := range list {
			edges = append(edges, edgeOf{p.Masked().Addr(), zone, 1})
			if end := lastOf(p).Next(); end.IsValid() {
				edges = append(edges, edgeOf{end, zone, -1})
			} else if p.Addr().Is4() {
				edges = append(edges, edgeOf{netip.IPv6Unspecified(), zone, -1})
			}
		}
	}
	slices.SortFunc(edges, func(a, b edgeOf) int { return a.at.Compare(b.at) })
	z := &zones{}
	open, known := map[string]int{}, map[string]map[string]bool{}
	for i, e := range edges {
		if open[e.zone] += e.step; open[e.zone] == 0 {
			delete(open, e.zone)
		}
		if i+1 < len(edges) && edges[i+1].at == e.at {
			continue
		}
		names := slices.Sorted(maps.Keys(open))
		key := strings.Join(names, " ")
		if _, made := known[key]; !made && len(names) > 0 {
			known[key] = map[string]bool{}
			for _, n := range names {
				known[key][n] = true
			}
		}
		z.from, z.in = append(z.from, e.at), append(z.in, known[key])
	}
	return z
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().As16()
	for bit := p.Bits() + 128 - p.Addr().BitLen(); bit < 128; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	if last := netip.AddrFrom16(raw); p.Addr().Is4() {
		return last.Unmap()
	} else {
		return last
	}
}

// of returns the zones of an address; nil for none, and for what is no address. It must not be changed.
func (z *zones) of(address string) map[string]bool {
	if len(z.from) == 0 {
		return nil
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return nil
	}
	a = a.Unmap().WithZone("")
	i, begins := slices.BinarySearchFunc(z.from, a, netip.Addr.Compare)
	if !begins {
		i--
	}
	if i < 0 {
		return nil
	}
	return z.in[i]
}
