package revocation

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"sync"
	"time"

	"postern/internal/ca"
)

// The bounds of what is kept of signed OCSP answers: with a kilobyte and a half each, at most some 50 MB.
const (
	ocspShards     = 16
	ocspShardLimit = 2048
)

// ocspAnswer is a signed answer for one certificate, ready to be sent. It is immutable.
type ocspAnswer struct {
	says     ca.OCSPAnswer
	der      []byte
	etag     string
	modified string // thisUpdate, as in Last-Modified
}

func newOCSPAnswer(says *ca.OCSPAnswer, der []byte) *ocspAnswer {
	sum := sha256.Sum256(der)
	return &ocspAnswer{says: *says, der: der, etag: `"` + hex.EncodeToString(sum[:]) + `"`, modified: says.ThisUpdate.Format(http.TimeFormat)}
}

// holds reports whether the answer still says what is known now. It is used for the first half of its life only, so that whoever gets it has time to use it,
// and not by a clock that was set back to before it.
func (a *ocspAnswer) holds(now *ca.OCSPAnswer, at time.Time) bool {
	life := a.says.NextUpdate.Sub(a.says.ThisUpdate)
	return a.says.Status == now.Status && a.says.Reason == now.Reason && a.says.RevokedAt.Equal(now.RevokedAt) &&
		!at.Before(a.says.ThisUpdate) && at.Before(a.says.ThisUpdate.Add(life/2))
}

// ocspCache keeps answers of the last kind for certificates that were issued, by the CertID as clients write it: in each hash, with or without parameters.
// What it is asked for is looked up before, so it never speaks for the registry: it only saves the signature. The zero value is ready.
type ocspCache struct {
	shards [ocspShards]struct {
		mu      sync.RWMutex
		answers map[string]*ocspAnswer
	}
}

// shard is chosen by the end of the CertID, which is that of the serial number: random.
func (c *ocspCache) shard(key []byte) int { return int(key[len(key)-1]) % ocspShards }

// get returns an answer that says what says does at that time, or nil.
func (c *ocspCache) get(key []byte, says *ca.OCSPAnswer, at time.Time) *ocspAnswer {
	s := &c.shards[c.shard(key)]
	s.mu.RLock()
	a := s.answers[string(key)]
	s.mu.RUnlock()
	if a == nil || !a.holds(says, at) {
		return nil
	}
	return a
}

// put keeps an answer. Where there is no room, any other one goes.
func (c *ocspCache) put(key []byte, a *ocspAnswer) {
	s := &c.shards[c.shard(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers == nil {
		s.answers = map[string]*ocspAnswer{}
	}
	if _, there := s.answers[string(key)]; !there && len(s.answers) >= ocspShardLimit {
		for other := range s.answers {
			delete(s.answers, other)
			break
		}
	}
	s.answers[string(key)] = a
}

// size is how many answers are kept.
func (c *ocspCache) size() (n int) {
	for i := range c.shards {
		c.shards[i].mu.RLock()
		n += len(c.shards[i].answers)
		c.shards[i].mu.RUnlock()
	}
	return n
}
