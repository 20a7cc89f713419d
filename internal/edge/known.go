package edge

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"sync"
	"time"

	"postern/internal/eas"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// A phone says the same again and again, on one connection. What a connection keeps of a command that was plainly allowed and remembered saves the next one of
// the same head the reading, the facts and the look into the policy's memory. It is used only while the same way would lead to the same decision: everything
// in the registry that the facts were made of is unchanged (registry.Seen), trust anchors and policy are the very same, the registry is heard of, and the
// clock has not reached the first moment that could matter. The command is in flight like any other, so that whatever comes later ends it.
//
// Only what came with a proved certificate and has nothing left to be written is kept. Exceptions, which begin and end by themselves, first uses, tokens and
// policies that read the clock for themselves go the long way, and so does a Ping: the hour that it takes is not worth the memory.
type known struct {
	head        [sha256.Size]byte
	request     *request
	engine      *policy.Engine
	anchors     *anchors
	seen        registry.Seen
	from, until int64     // Unix seconds: from <= now < until
	again       time.Time // of its flights: when to decide again by the clock alone
	keys        [dependencies]string
	record      trust.Decision // but for its time
}

// knownCommands is how many of them a connection keeps.
const knownCommands = 3

// headKey makes the digests of heads of no use to anybody who would guess passwords by them.
var headKey = func() (key [32]byte) {
	_, _ = rand.Read(key[:])
	return key
}()

var headBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// headNames are the headers, in the form of net/http, that a command is read from. conflict has refused those that come twice.
var headNames = [...]string{"Authorization", "User-Agent", "Ms-Asprotocolversion", "X-Ms-Policykey", "Ms-Asacceptmultipart"}

// headOf returns a digest of everything in a request that its facts are read from; false where it is not one that is kept. The connection says the rest.
func headOf(conn *connection, r *http.Request) (head [sha256.Size]byte, ok bool) {
	if conn.leaf == nil || r.Method != http.MethodPost {
		return head, false
	}
	room := headBuffers.Get().(*[]byte)
	b := append((*room)[:0], headKey[:]...)
	for _, s := range [...]string{r.Host, r.URL.RawQuery, r.RemoteAddr} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	ok = true
	for _, name := range headNames {
		values := r.Header[name]
		b = binary.AppendUvarint(b, uint64(len(values)))
		for _, s := range values {
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
		}
		ok = ok && len(values) < 2
	}
	head = sha256.Sum256(b)
	clear(b) // it holds credentials
	*room = b
	headBuffers.Put(room)
	return head, ok
}

// recall returns what is kept under a head, or nil.
func (c *connection) recall(head *[sha256.Size]byte) *known {
	for i := range c.known {
		if k := c.known[i].Load(); k != nil && k.head == *head {
			return k
		}
	}
	return nil
}

// keep keeps k in the place of one with the same head, in an empty one, or in that of the oldest.
func (c *connection) keep(k *known) {
	free := -1
	for i := range c.known {
		old := c.known[i].Load()
		if old != nil && old.head == k.head {
			c.known[i].Store(k)
			return
		}
		if old == nil && free < 0 {
			free = i
		}
	}
	if free < 0 {
		free = int(c.next.Add(1) % knownCommands)
	}
	c.known[free].Store(k)
}

// serveKnown is serveCommand for a command that the connection knows.
func (e *Edge) serveKnown(w http.ResponseWriter, r *http.Request, k *known) {
	c := newCommand(r.Context(), k.request)
	defer e.flights.leave(&c.flight)
	if e.stands(&c.flight, k) || e.admitted(r.Context(), w, &c.flight) {
		e.forward(w, r, c)
	}
}

// stands reports whether a command is allowed as it was before, and then records that. The flight is entered before it is looked whether anything has changed:
// what changes afterwards finds it there.
func (e *Edge) stands(f *flight, k *known) bool {
	now := e.now()
	if at := now.Unix(); at < k.from || at >= k.until || e.isStale(now) || !e.flights.enter(f, &k.keys, k.engine, k.again) {
		return false
	}
	if e.cfg.Policy.Load() != k.engine || e.anchors.Load() != k.anchors || !e.cfg.Index.Current(&k.seen) {
		return false
	}
	k.engine.UsedAgain()
	d := k.record
	d.At = now
	e.cfg.Journal.Record(d)
	return true
}

// keepKnown keeps a command for the connection that it came on, if it may be: a was in use before the facts were looked up, which x did.
func (e *Edge) keepKnown(q *request, a *anchors, x *registry.Reading, s situation, v verdict, now time.Time) {
	in := s.input
	switch c := q.eas.Command; {
	case !q.headed || v.action != trust.Allow || v.fresh || len(v.decision.Reasons) > 0 || v.engine.Restless(v.decision):
		return
	case !s.proved || s.certUse || s.granted || in.Assurance != "certificate":
		return
	case !in.Profile.Known || in.Profile.Certificate != in.Certificate.Serial || s.profile.Model == "" && in.Claimed.Model != "":
		return // there is, or may soon be, something to be written
	case c == eas.Ping || c == eas.Provision || c == eas.Settings: // for the last two see inform
		return
	}
	end := min(v.until, in.Certificate.NotAfter, s.profile.LastSeen.Add(refreshAfter).Unix())
	if end <= in.Now {
		return
	}
	q.conn.keep(&known{head: q.head, request: q, engine: v.engine, anchors: a, seen: x.Seen(), from: in.Now, until: end, again: until(in, v.engine, v.decision, now),
		keys: dependenciesOf(&s), record: decisionOf(q, s, v, now)})
}
