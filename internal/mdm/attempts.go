package mdm

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// Limits of wrong passwords. An address may have so many at once, and one more after each pause. All addresses together may have more; beyond it somebody
// has many addresses to guess from, and each gets one guess in a pause. What is right always passes from an address that has not been wrong.
const (
	wrongPerAddress = 10
	wrongPause      = time.Minute
	wrongTogether   = 200
	wrongPerSecond  = 0.2
	maxAddresses    = 1 << 14

	// Behind a proxy all clients are one address, those who guess and the MDM: it has as many as all addresses together, and soon more.
	wrongPerProxy = 200
	proxyPause    = time.Second
)

// Attempts counts wrong passwords of HTTP Basic authentication, for all pages that ask for one. Make it with NewAttempts.
type Attempts struct {
	now     func() time.Time
	proxies []netip.Prefix

	mu       sync.Mutex
	from     map[netip.Prefix]spent
	together spent
}

// spent is how many wrong passwords count at a time; they are forgotten one after the other.
type spent struct {
	n    float64
	at   time.Time
	told time.Time // when the log heard last that attempts are refused unread
}

// left forgets what is over by now, at this rate for each second.
func (s spent) left(now time.Time, rate float64) spent {
	if d := now.Sub(s.at).Seconds(); d > 0 {
		s.n = max(0, s.n-d*rate)
	}
	s.at = now
	return s
}

// NewAttempts returns a count of none. The addresses of proxies in front, and always loopback, stand for many clients and have a wider limit, whatever comes
// from elsewhere.
func NewAttempts(now func() time.Time, proxies ...netip.Prefix) *Attempts {
	return &Attempts{now: now, proxies: proxies, from: map[netip.Prefix]spent{}}
}

// proxy reports whether an address stands for many clients.
func (a *Attempts) proxy(at netip.Addr) bool {
	return at.IsLoopback() || slices.ContainsFunc(a.proxies, func(p netip.Prefix) bool { return p.Contains(at) })
}

// verdict is what became of an attempt.
type verdict struct {
	right  bool
	wait   time.Duration // more than 0: the password was not looked at; until when it would not be
	record bool          // a wrong one that is to be audited: so many that they cannot fill the disk
	last   bool          // the address has no further attempt now
	tell   bool          // not looked at, and the log has not heard of it for a pause
}

// try compares a password, unless there were too many wrong ones. One is compared at a time, so that none is compared beyond the limits.
func (a *Attempts) try(from netip.Prefix, right func() bool) verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	all := a.together.left(now, wrongPerSecond)
	limit, pause := float64(wrongPerAddress), wrongPause
	switch {
	case from.IsSingleIP() && a.proxy(from.Addr()):
		limit, pause = wrongPerProxy, proxyPause
	case all.n+1 > wrongTogether:
		limit = 1
	}
	mine := a.from[from].left(now, 1/pause.Seconds())
	if over := mine.n + 1 - limit; over > 0 {
		v := verdict{wait: time.Duration(over * float64(pause)), tell: mine.told.IsZero() || now.Sub(mine.told) >= wrongPause}
		if v.tell {
			mine.told = now
			a.put(from, mine)
		}
		return v
	}
	if right() {
		return verdict{right: true}
	}
	v := verdict{record: all.n+1 <= wrongTogether, last: mine.n+2 > limit}
	if v.record {
		all.n++
	}
	mine.n++
	a.together = all
	a.put(from, mine)
	return v
}

// put remembers an address. Where there are too many, one that has no wrong password left is forgotten, or else any: who has that many addresses gains a guess by
// it, and nobody is kept out.
func (a *Attempts) put(from netip.Prefix, s spent) {
	if _, known := a.from[from]; !known && len(a.from) >= maxAddresses {
		var victim netip.Prefix
		looked := 0
		for victim = range a.from {
			if looked++; looked == 32 || a.from[victim].left(s.at, 1/wrongPause.Seconds()).n == 0 {
				break
			}
		}
		delete(a.from, victim)
	}
	a.from[from] = s
}

// source is what shares a limit: an IPv4 address, an IPv6 network of 64 bits, or a proxy. It is taken from the connection alone. The zero value is for what has
// none.
func (a *Attempts) source(r *http.Request) netip.Prefix {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	at := from.Addr().Unmap().WithZone("")
	bits := at.BitLen()
	if at.Is6() && !a.proxy(at) {
		bits = 64
	}
	p, _ := at.Prefix(bits) // these lengths fit
	return p
}

// authenticate lets a request pass whose name and password right accepts, and answers any other: 401, or 429 after too many wrong ones (RFC 6585, section 4).
// A request without credentials is no attempt: clients begin with it (RFC 7617, section 2). A wrong one that cannot be audited is answered by 503.
func (q *requester) authenticate(w http.ResponseWriter, r *http.Request, right func(name, password string) bool) bool {
	name, password, ok := r.BasicAuth()
	if !ok {
		unauthorized(w)
		return false
	}
	v := q.attempts.try(q.attempts.source(r), func() bool { return right(name, password) })
	remote, _, _ := net.SplitHostPort(r.RemoteAddr)
	log := q.log.With("source", q.source, "issuer", q.issuer, "remote", remote)
	switch {
	case v.right:
		return true
	case v.wait > 0:
		if v.tell {
			log.WarnContext(r.Context(), "passwords are not looked at: too many wrong ones before them", "again_in", v.wait.Round(time.Second))
		}
		w.Header().Set("Retry-After", strconv.Itoa(int(v.wait/time.Second)+1))
		plainText(w, http.StatusTooManyRequests, "too many wrong passwords: correct it, and try again later")
		return false
	case v.record:
		if err := q.recordWrong(r.Context(), remote, name, v.last); err != nil {
			log.ErrorContext(r.Context(), "wrong password cannot be audited", "error", err)
			plainText(w, http.StatusServiceUnavailable, "try again later")
			return false
		}
	}
	log.WarnContext(r.Context(), "wrong user or password", "user", clip(name, 64), "audited", v.record)
	unauthorized(w)
	return false
}

// recordWrong audits a wrong password, also of a client that has gone.
func (q *requester) recordWrong(ctx context.Context, remote, name string, last bool) error {
	detail := []string{"wrong user or password at the page " + q.source, "user " + clip(name, 64), "from " + remote}
	if last {
		detail = append(detail, "the next ones from there are refused unread for a while")
	}
	return q.registry.RecordRefusal(context.WithoutCancel(ctx), trust.Principal{Kind: "mdm", Name: q.source}, registry.ActChallenge, q.issuer, strings.Join(detail, "; "))
}
