package edge

import (
	"net/netip"
	"sync"
	"time"
)

// maxBuckets bounds how many keys a limiter remembers, some 100 bytes each.
const maxBuckets = 16384

// limiter allows each key a burst, and then one more in every interval. Keys that have not been seen for so long that they have their whole burst again are
// forgotten.
type limiter struct {
	burst    int
	interval time.Duration

	mu   sync.Mutex
	full map[string]time.Time // when the key has its whole burst again
}

func newLimiter(burst int, interval time.Duration) *limiter {
	return &limiter{burst: burst, interval: interval, full: map[string]time.Time{}}
}

// take reports whether the key has one left at now, and takes it. IP addresses count by network: IPv6 ones by their first 64 bits, of which a client has all.
func (l *limiter) take(key string, now time.Time) bool {
	if ip, err := netip.ParseAddr(key); err == nil && ip.Is6() && !ip.Is4In6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			key = p.String()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at, known := l.full[key]
	if !known || at.Before(now) {
		at = now
	}
	if next := at.Add(l.interval); next.Sub(now) <= time.Duration(l.burst)*l.interval {
		if !known {
			l.makeRoom(now)
		}
		l.full[key] = next
		return true
	}
	return false
}

// makeRoom forgets those that have their whole burst, and where there are too many others, any one.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.full) < maxBuckets {
		return
	}
	for key, at := range l.full {
		if !at.After(now) {
			delete(l.full, key)
		}
	}
	for key := range l.full {
		if len(l.full) < maxBuckets {
			break
		}
		delete(l.full, key)
	}
}
