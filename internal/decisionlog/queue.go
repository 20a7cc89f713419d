package decisionlog

import (
	"sync/atomic"

	"postern/internal/trust"
)

// queue holds decisions until they are told: of known certificates in one, of strangers in another, so that the latter cannot push the former out.
type queue struct {
	waiting chan trust.Decision
	most    int64        // bytes of facts
	bytes   atomic.Int64 // of facts that wait
}

func newQueue(decisions int, most int64) *queue {
	return &queue{waiting: make(chan trust.Decision, decisions), most: most}
}

// offer queues a decision, and reports whether there was room. It never waits.
func (q *queue) offer(d trust.Decision) bool {
	size := int64(len(d.Input))
	if q.bytes.Add(size) <= q.most {
		select {
		case q.waiting <- d:
			return true
		default:
		}
	}
	q.bytes.Add(-size)
	return false
}

// stranger reports whether anybody can have such decisions made, as many as they like. The certificate of one that names it was signed by a CA of ours, and at
// the door "scep" only who is authorised gets as far as a decision; a device without either is only claimed.
func stranger(d trust.Decision) bool { return d.Serial == "" && d.Door != "scep" }

// room is how many events may still be told in a second, and how many of them of strangers.
type room struct{ all, strangers int }

// second is the room of a new second.
func (l *Log) second() *room { return &room{l.cfg.Limit, (l.cfg.Limit + 1) / 2} }
