package bolt

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"postern/internal/trust"
)

const (
	sampleOneIn = 16
	maxBuckets  = 16_384      // sources, and devices, with a budget of their own in one minute; the rest share one
	reportEvery = time.Minute // log lines about what is not kept
)

// ring says in which of the two rings on disk a decision is kept.
type ring int

// Who is known must not lose evidence to whom anybody can pretend to be, as often as he likes.
const (
	known ring = iota
	strangers
	rings

	listed = rings
)

func (r ring) bucket() []byte {
	return []byte([rings]string{"decisions", "strangers"}[r])
}

// proved reports whether a decision is about somebody who has shown a certificate of ours, or what authorises an enrolment.
func proved(d trust.Decision) bool { return d.Serial != "" || d.Door == "scep" }

// budget counts the decisions of this minute that nothing is proved about. It is bounded however many sources there are.
type budget struct {
	minute    int64 // since 1970
	sources   map[netip.Prefix]int
	devices   map[trust.DeviceID]int
	strangers int
}

// admit says in which ring a decision is kept that is not proved, and whether it is kept at all. Beyond the budget of its source, it is kept without its
// input. A device that is only named has a budget too, because a DeviceId is no secret.
func (j *Journal) admit(d *trust.Decision) (r ring, keep bool) {
	minute, source := j.opts.Now().Unix()/60, network(d.Remote)
	j.mu.Lock()
	defer j.mu.Unlock()
	b := &j.budget
	if b.minute != minute || b.sources == nil {
		*b = budget{minute: minute, sources: map[netip.Prefix]int{}, devices: map[trust.DeviceID]int{}}
	}
	if d.Device != "" && take(b.devices, d.Device, j.opts.DeviceRate) {
		return known, true
	}
	if !take(b.sources, source, j.opts.SourceRate) {
		d.Input = nil
		return strangers, oneIn16()
	}
	// One source that has spent its own budget does not spend that of all.
	if b.strangers < j.opts.StrangerRate {
		b.strangers++
		return strangers, true
	}
	return strangers, oneIn16()
}

// take takes one of so many for the key. Keys beyond maxBuckets share those of the zero key.
func take[K comparable](buckets map[K]int, key K, limit int) bool {
	if _, ok := buckets[key]; !ok && len(buckets) >= maxBuckets {
		var rest K
		key = rest
	}
	if buckets[key] >= limit {
		return false
	}
	buckets[key]++
	return true
}

// oneIn16 is random, so that who floods the journal cannot choose whose decisions it keeps.
func oneIn16() bool { return rand.IntN(sampleOneIn) == 0 }

// network cuts an address, with or without a port, to its /24 or /48. What is no address has the zero one.
func network(remote string) netip.Prefix {
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		at, err := netip.ParseAddrPort(remote)
		if err != nil {
			return netip.Prefix{}
		}
		addr = at.Addr()
	}
	addr = addr.Unmap().WithZone("")
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// reporter says in the log what is not kept, at most once in reportEvery. It belongs to the goroutine that writes.
type reporter struct {
	at      time.Time
	sampled uint64
	evicted [rings]uint64
}

func (p *reporter) report(j *Journal, closing bool) {
	now, s := j.opts.Now(), j.Stats()
	evicted := [rings]uint64{known: s.Evicted, strangers: s.EvictedStrangers} // of the allowed only Recorded tells
	if passed := now.Sub(p.at); !closing && passed >= 0 && passed < reportEvery || s.Sampled == p.sampled && evicted == p.evicted {
		return
	}
	if n := s.Sampled - p.sampled; n > 0 {
		j.opts.Log.Warn("journal: decisions are sampled, these were only counted and their references cannot be found", "only_counted", n, "since_start", s.Sampled)
	}
	if n := evicted[strangers] - p.evicted[strangers]; n > 0 {
		j.opts.Log.Warn("journal: decisions of strangers made room before their time", "evicted", n, "since_start", s.EvictedStrangers)
	}
	if n := evicted[known] - p.evicted[known]; n > 0 {
		j.opts.Log.Error("journal: decisions of known devices made room before their time", "evicted", n, "since_start", s.Evicted)
	}
	*p = reporter{at: now, sampled: s.Sampled, evicted: evicted}
}
