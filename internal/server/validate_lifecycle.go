package server

import (
	"time"

	"postern/internal/registry"
)

// Lifecycle is a validated LifecycleSection. Every is 0 where the devices are looked through only when somebody asks for it.
type Lifecycle struct {
	Every time.Duration
	Share int // per cent
}

const (
	defaultShare  = 5
	leastInterval = time.Minute
)

func (s *LifecycleSection) valid(p *problems) Lifecycle {
	out := Lifecycle{Share: defaultShare}
	if s == nil {
		return out
	}
	out.Every = time.Duration(s.Every)
	if out.Every < leastInterval {
		p.add("lifecycle.every", "%s: at least %s, for example 24h", out.Every, leastInterval)
	}
	if s.Share != 0 {
		out.Share = s.Share
	}
	if out.Share < 1 || out.Share > 100 {
		p.add("lifecycle.share", "%d: want 1 to 100 per cent", s.Share)
	}
	return out
}

// mostAlone is the most that one person may be allowed to revoke in an hour: who wants more leaves the key out.
const mostAlone = 10_000

func (s *RevocationSection) valid(p *problems) (out registry.RevocationRules) {
	if s == nil {
		return out
	}
	if s.TwoPersons < 0 || s.TwoPersons > mostAlone {
		p.add("revocation.two_persons", "%d: want 1 to %d certificates that one person may revoke in an hour, or 0 for any number", s.TwoPersons, mostAlone)
	}
	out.TwoPersons = s.TwoPersons
	return out
}
