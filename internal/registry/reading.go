package registry

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"

	"postern/internal/trust"
)

// What an answer of the index depends on is a topic: a device, an owner, a DeviceId, a user's mail profiles, a certificate, a ticket or a grant, with all that
// is found under it. Each change marks the topics that it touches, so that whoever keeps what was computed from answers can tell, for the price of a few
// looks, whether any of them would be another now. Topics share marks by their hashes, which makes an answer look changed that is not, and never the other way.
const (
	topicDevice      = "d"
	topicOwner       = "o"
	topicClient      = "c"
	topicUser        = "u"
	topicCertificate = "x"
	topicTicket      = "t"
	topicGrant       = "g"
)

const (
	marks      = 1 << 17 // with 100 changes a second, something that depends on five topics looks changed once a minute
	mostReadOf = 8       // topics that what a Reading found may depend on and still be kept
)

// topics says when each topic was changed last.
type topics struct {
	seed    maphash.Seed
	changes atomic.Uint64 // counted, so that a change has a number
	reload  atomic.Uint64 // the number of the last that changed everything
	last    []atomic.Uint64
}

func newTopics() *topics {
	return &topics{seed: maphash.MakeSeed(), last: make([]atomic.Uint64, marks)}
}

func (t *topics) of(kind, id string) uint32 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	_, _ = h.WriteString(kind)
	_, _ = h.WriteString(id)
	return uint32(h.Sum64() % marks)
}

// touch marks topics as changed. The caller changes what is under them, and holds the lock of the index while doing both. An index that is being loaded has
// no topics yet.
func (t *topics) touch(kind string, ids ...string) {
	if t == nil {
		return
	}
	n := t.changes.Add(1)
	for _, id := range ids {
		t.last[t.of(kind, id)].Store(n)
	}
}

// touchAll is touch for every topic.
func (t *topics) touchAll() { t.reload.Store(t.changes.Add(1)) }

// Reading looks into the index and remembers what it has asked for. It is for one goroutine.
type Reading struct {
	index *Index
	seen  Seen
}

// Seen is what the answers of a Reading depend on. The zero Seen depends on what cannot be said, and so is never Current.
type Seen struct {
	since  uint64
	topics [mostReadOf]uint32
	n      int8 // -1: too many
	valid  bool
}

// Read begins a Reading.
func (x *Index) Read() *Reading {
	return &Reading{index: x, seen: Seen{since: x.topics.changes.Load(), valid: true}}
}

// Seen returns what the answers so far depend on.
func (r *Reading) Seen() Seen { return r.seen }

// Current reports whether every answer would be the same again. What changes after that is told to those who Watch.
func (x *Index) Current(s *Seen) bool {
	if !s.valid || s.n < 0 || x.topics.reload.Load() > s.since {
		return false
	}
	for _, topic := range s.topics[:s.n] {
		if x.topics.last[topic].Load() > s.since {
			return false
		}
	}
	return true
}

func (r *Reading) note(kind, id string) {
	s := &r.seen
	if s.n < 0 {
		return
	}
	topic := r.index.topics.of(kind, id)
	if slices.Contains(s.topics[:s.n], topic) {
		return
	}
	if int(s.n) == len(s.topics) {
		s.n = -1
		return
	}
	s.topics[s.n] = topic
	s.n++
}

// Certificate is Index.Certificate.
func (r *Reading) Certificate(issuer string, s trust.Serial) (CertFact, bool) {
	r.note(topicCertificate, string(s))
	return r.index.Certificate(issuer, s)
}

// Withdrawn is Index.Withdrawn.
func (r *Reading) Withdrawn(id trust.DeviceID) bool {
	r.note(topicDevice, string(id))
	return r.index.Withdrawn(id)
}

// Device is Index.Device.
func (r *Reading) Device(id trust.DeviceID) (trust.Device, bool) {
	r.note(topicDevice, string(id))
	return r.index.Device(id)
}

// Owner is Index.Owner.
func (r *Reading) Owner(mail string) (trust.Owner, bool) {
	r.note(topicOwner, mail)
	return r.index.Owner(mail)
}

// Fleet is Index.Fleet. A device that changes marks its owner.
func (r *Reading) Fleet(owner string, id trust.DeviceID) (count, place int) {
	r.note(topicOwner, owner)
	return r.index.Fleet(owner, id)
}

// ExceptionsFor is Index.ExceptionsFor. An exception for a device marks its owner.
func (r *Reading) ExceptionsFor(d trust.Device) []trust.Exception {
	r.note(topicOwner, d.Owner)
	return r.index.ExceptionsFor(d)
}

// Profile is Index.Profile.
func (r *Reading) Profile(k trust.ProfileKey) (trust.MailProfile, bool) {
	r.note(topicClient, clientKey(k.ClientID))
	return r.index.Profile(k)
}

// ProfilesOfClient is Index.ProfilesOfClient.
func (r *Reading) ProfilesOfClient(clientID string) []trust.MailProfile {
	r.note(topicClient, clientKey(clientID))
	return r.index.ProfilesOfClient(clientID)
}

// ProfilesOfDevice is Index.ProfilesOfDevice.
func (r *Reading) ProfilesOfDevice(id trust.DeviceID) []trust.MailProfile {
	r.note(topicDevice, string(id))
	return r.index.ProfilesOfDevice(id)
}

// ProfilesOfUser is Index.ProfilesOfUser.
func (r *Reading) ProfilesOfUser(name string) []trust.MailProfile {
	r.note(topicUser, name)
	return r.index.ProfilesOfUser(name)
}

// DevicesByEAS is Index.DevicesByEAS.
func (r *Reading) DevicesByEAS(clientID string) []trust.Device {
	r.note(topicClient, clientKey(clientID))
	return r.index.DevicesByEAS(clientID)
}

// Ticket is Index.Ticket.
func (r *Reading) Ticket(secret string) (hash string, k Ticket, ok bool) {
	r.note(topicTicket, hashSecret(strings.ToLower(secret)))
	return r.index.Ticket(secret)
}

// Grant is Index.Grant.
func (r *Reading) Grant(hash string) (g Grant, k Ticket, ok bool) {
	r.note(topicGrant, hash)
	g, k, ok = r.index.Grant(hash)
	r.note(topicTicket, g.Ticket)
	return g, k, ok
}
