package policy

import "sync"

const (
	seenShards  = 64
	maxOutcomes = 1 << 16 // different outcomes; a policy has some hundreds
)

// seen remembers outcomes under the digest of their facts. Which displaces which is left to chance. Outcomes are few, so that an entry has but the number of
// one: a million of them take less than 100 MB.
type seen struct {
	limit int // of one shard
	table [seenShards]seenShard

	mu      sync.RWMutex
	numbers map[outcome]uint32
	list    []outcome
}

type seenShard struct {
	mu sync.Mutex
	m  map[[16]byte]seenOutcome
}

type seenOutcome struct {
	from, until int64 // Unix seconds: from <= now < until
	number      uint32
}

func newSeen(limit int) *seen {
	s := &seen{limit: limit / seenShards, numbers: map[outcome]uint32{}}
	for i := range s.table {
		s.table[i].m = map[[16]byte]seenOutcome{}
	}
	return s
}

func (s *seen) get(digest *[32]byte, now int64) (outcome, bool) {
	shard := &s.table[digest[31]%seenShards]
	shard.mu.Lock()
	r, ok := shard.m[[16]byte(digest[:16])]
	shard.mu.Unlock()
	if !ok || now < r.from || now >= r.until {
		return outcome{}, false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.list[r.number], true
}

// put remembers an outcome that holds from and until a time.
func (s *seen) put(digest *[32]byte, out outcome, from, until int64) {
	number, ok := s.number(out)
	if !ok {
		return
	}
	shard := &s.table[digest[31]%seenShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if len(shard.m) >= s.limit {
		for k := range shard.m {
			delete(shard.m, k)
			break
		}
	}
	shard.m[[16]byte(digest[:16])] = seenOutcome{from, until, number}
}

func (s *seen) number(out outcome) (uint32, bool) {
	s.mu.RLock()
	n, ok := s.numbers[out]
	s.mu.RUnlock()
	if ok {
		return n, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok = s.numbers[out]; ok || len(s.list) == maxOutcomes {
		return n, ok
	}
	n = uint32(len(s.list))
	s.numbers[out], s.list = n, append(s.list, out)
	return n, true
}
