package policy

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Faults are those that a policy has made on this node since it was loaded.
type Faults struct {
	Count uint64
	Last  string    // what the last one was
	At    time.Time // when that was; zero: never
}

// faults counts them. A request that its client gave up is none of the policy's.
type faults struct {
	mu   sync.Mutex
	seen Faults
}

// maxFaultText bounds what is kept of an error, in bytes: the answer of a policy may be in it.
const maxFaultText = 500

func (f *faults) add(err error) {
	if f == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	text := firstBytes(err.Error())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = Faults{f.seen.Count + 1, text, time.Now()}
}

func firstBytes(text string) string {
	if len(text) > maxFaultText {
		return text[:maxFaultText] + "..."
	}
	return text
}

// Faults returns the faults that this policy has made since it was loaded.
func (e *Engine) Faults() Faults {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	return e.faults.seen
}
