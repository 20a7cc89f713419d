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
	topicDevice topic = iota + 1
	topicOwner
	topicClient
	topicUser
	topicCertificate // by the octets of its serial number, whatever the issuer
	topicTicket
	topicGrant
)

type topic uint64

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

// of returns the mark of a topic. What has the same id by chance, as the owner and the user of a mailbox have, is marked in another place.
func (t *topics) of(kind topic, id string) uint32 {
	const spread = 0x9e3779b97f4a7c15 // an odd number without pattern
	return uint32((maphash.String(t.seed, id) + uint64(kind)*spread) % marks)
}

// touch marks topics as changed. The caller changes what is under them, and holds the lock of the index while doing both. An index that is being loaded has
// no topics yet.
func (t *topics) touch(kind topic, ids ...string) {
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

func (r *Reading) note(kind topic, id string) {
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

// Standing is Index.Standing.
func (r *Reading) Standing(issuer string, s trust.Serial) (Standing, bool) {
	o, ok := packSerial(s)
	if !ok || s == "" {
		return Standing{}, false
	}
	r.note(topicCertificate, o.octets())
	return r.index.standing(issuer, o)
}

// Successor returns the standing of the certificate that has superseded another; false where none has.
func (r *Reading) Successor(s *Standing) (Standing, bool) {
	if s.successor[0] == 0 {
		return Standing{}, false
	}
	r.note(topicCertificate, s.successor.octets())
	return r.index.standing(s.Issuer, s.successor)
}

// Device is Index.Device.
func (r *Reading) Device(id trust.DeviceID) (*trust.Device, bool) {
	r.note(topicDevice, string(id))
	return r.index.Device(id)
}

// Surroundings is Index.Surroundings.
func (r *Reading) Surroundings(d *trust.Device) Surroundings {
	r.note(topicDevice, string(d.ID)) // for the certificates
	r.note(topicOwner, d.Owner)       // which a device or an exception that changes marks too
	return r.index.Surroundings(d)
}

// Profile is Index.Profile.
func (r *Reading) Profile(k trust.ProfileKey) (*trust.MailProfile, bool) {
	r.note(topicClient, clientKey(k.ClientID))
	return r.index.Profile(k)
}

// Claimants are those for whom a client may speak that claims an EAS DeviceId: Index.DevicesByEAS and Index.ProfilesOfClient, of one moment. They are in the room
// that the caller has for each, from its beginning.
func (r *Reading) Claimants(devices []*trust.Device, profiles []*trust.MailProfile, clientID string) ([]*trust.Device, []*trust.MailProfile) {
	x, client := r.index, clientKey(clientID)
	r.note(topicClient, client)
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.appendDevices(devices[:0], x.byEAS[client]), appendProfiles(profiles[:0], x.byClient[client])
}

// ProfilesOfDevice is Index.ProfilesOfDevice, into room that the caller has, from its beginning.
func (r *Reading) ProfilesOfDevice(room []*trust.MailProfile, id trust.DeviceID) []*trust.MailProfile {
	x := r.index
	r.note(topicDevice, string(id))
	x.mu.RLock()
	defer x.mu.RUnlock()
	return appendProfiles(room[:0], x.byDevice[id])
}

// ProfilesOfUser is Index.ProfilesOfUser.
func (r *Reading) ProfilesOfUser(name string) []*trust.MailProfile {
	r.note(topicUser, name)
	return r.index.ProfilesOfUser(name)
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
