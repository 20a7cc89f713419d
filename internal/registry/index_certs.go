package registry

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"postern/internal/trust"
)

// CertFact is what the index keeps of a certificate. Its times are exact to the millisecond.
type CertFact struct {
	Issuer, CA, Fingerprint, Owner string
	Serial, Successor              trust.Serial
	Device                         trust.DeviceID
	Status                         trust.CertStatus
	Reason                         trust.ReasonCode
	NotAfter, ChangedAt, FirstUsed time.Time
}

func factOf(c trust.Certificate) CertFact {
	return CertFact{Issuer: c.Issuer, CA: c.CA, Fingerprint: c.Fingerprint, Owner: c.Owner, Serial: c.Serial, Successor: c.Successor,
		Device: c.Device, Status: c.Status, Reason: c.Reason, NotAfter: c.NotAfter, ChangedAt: c.ChangedAt, FirstUsed: c.FirstUsed}
}

func (f CertFact) into(c *trust.Certificate) {
	c.Issuer, c.CA, c.Fingerprint, c.Owner, c.Serial, c.Successor = f.Issuer, f.CA, f.Fingerprint, f.Owner, f.Serial, f.Successor
	c.Device, c.Status, c.Reason, c.NotAfter, c.ChangedAt, c.FirstUsed = f.Device, f.Status, f.Reason, f.NotAfter, f.ChangedAt, f.FirstUsed
}

// serialOctets is a serial number behind its length. ParseSerial lets 21 octets pass.
type serialOctets [22]byte

func packSerial[S ~string | ~[]byte](s S) (o serialOctets, ok bool) {
	if len(s)%2 != 0 || len(s) > 2*(len(o)-1) {
		return o, false
	}
	o[0] = byte(len(s) / 2)
	return o, unhex(o[1:1+o[0]], s)
}

// octets are those of the serial number, as a text that is none.
func (o *serialOctets) octets() string { return string(o[1 : 1+o[0]]) }

func (o serialOctets) serial() trust.Serial { return trust.Serial(hex.EncodeToString(o[1 : 1+o[0]])) }

// unhex reads lower-case hex of exactly the size of dst.
func unhex[S ~string | ~[]byte](dst []byte, s S) bool {
	if len(s) != 2*len(dst) {
		return false
	}
	for i := range dst {
		high, low := digits[s[2*i]], digits[s[2*i+1]]
		if high == 0 || low == 0 {
			return false
		}
		dst[i] = (high-1)<<4 | (low - 1)
	}
	return true
}

// digits holds the value of each lower-case hex digit, plus one.
var digits = [256]byte{'0': 1, '1': 2, '2': 3, '3': 4, '4': 5, '5': 6, '6': 7, '7': 8, '8': 9, '9': 10, 'a': 11, 'b': 12, 'c': 13, 'd': 14, 'e': 15, 'f': 16}

// canonical refuses a certificate that the index could not keep.
func canonical(c trust.Certificate) error {
	var fingerprint [32]byte
	if _, ok := packSerial(c.Serial); !ok || c.Serial == "" || c.Fingerprint != "" && !unhex(fingerprint[:], c.Fingerprint) {
		return fmt.Errorf("certificate with serial number %q and fingerprint %q %w: both are lower-case hex of whole octets", c.Serial, c.Fingerprint, trust.ErrInvalid)
	}
	return nil
}

// certID and certRow are a CertFact without pointers, in a third of the memory, that the garbage collector need not look at: there are several for each device.
type certID struct {
	issuer uint32 // numbers of names
	serial serialOctets
}

type certRow struct {
	fingerprint                    [32]byte
	successor                      serialOctets
	status, reason                 uint8 // positions in statuses and reasons
	ca, device, owner              uint32
	notAfter, changedAt, firstUsed int64 // milliseconds since 1970
}

var (
	statuses = [...]trust.CertStatus{trust.Good, trust.Held, trust.Superseded, trust.Revoked}
	reasons  = [...]trust.ReasonCode{"", trust.Unspecified, trust.KeyCompromise, trust.CACompromise, trust.AffiliationChanged, trust.SupersededReason,
		trust.CessationOfOperation, trust.CertificateHold, trust.RemoveFromCRL, trust.PrivilegeWithdrawn, trust.AACompromise}
)

// position returns where v is in the list, or false.
func position[T comparable](list []T, v T) (uint8, bool) {
	for i, x := range list {
		if x == v {
			return uint8(i), true
		}
	}
	return 0, false
}

// names numbers texts that many rows refer to. The number of the empty text is 0.
type names struct {
	number map[string]uint32
	text   []string
}

func newNames() *names { return &names{map[string]uint32{"": 0}, []string{""}} }

func (n *names) of(s string) uint32 {
	i, known := n.number[s]
	if !known {
		i = uint32(len(n.text))
		n.number[s] = i
		n.text = append(n.text, s)
	}
	return i
}

// packed is a certificate on its way into the index. Texts that have no number yet are here.
type packed struct {
	id                        certID
	row                       certRow
	issuer, ca, device, owner string
}

// pack reads what fact writes. It only reads from n.
func (n *names) pack(f *fields, p *packed) {
	var oks [5]bool
	p.id.issuer = n.read(f, &p.issuer)
	p.row.ca = n.read(f, &p.ca)
	p.id.serial, oks[0] = packSerial(f.next())
	p.row.device = n.read(f, &p.device)
	p.row.owner = n.read(f, &p.owner)
	fingerprint := f.next()
	oks[1] = len(fingerprint) == 0 || unhex(p.row.fingerprint[:], fingerprint)
	var status trust.CertStatus
	var reason trust.ReasonCode
	word(f, &status)
	word(f, &reason)
	p.row.status, oks[2] = position(statuses[:], status)
	p.row.reason, oks[3] = position(reasons[:], reason)
	p.row.successor, oks[4] = packSerial(f.next())
	p.row.notAfter, p.row.changedAt, p.row.firstUsed = f.millis(), f.millis(), f.millis()
	f.bad = f.bad || slices.Contains(oks[:], false)
}

func (n *names) read(f *fields, unknown *string) uint32 {
	b := f.next()
	i, known := n.number[string(b)]
	if !known {
		*unknown = string(b)
	}
	return i
}

func (f *fields) millis() int64 {
	var t time.Time
	f.time(&t)
	return t.UnixMilli()
}

// numbered reports whether every text has its number.
func (p *packed) numbered() bool {
	return p.issuer == "" && p.ca == "" && p.device == "" && p.owner == ""
}

// setCertificate takes over a certificate. The caller holds the lock, or has the index for itself.
func (x *Index) setCertificate(p *packed) {
	for _, n := range []struct {
		text   string
		number *uint32
	}{{p.issuer, &p.id.issuer}, {p.ca, &p.row.ca}, {p.device, &p.row.device}, {p.owner, &p.row.owner}} {
		if n.text != "" {
			*n.number = x.names.of(n.text)
		}
	}
	x.putCertificate(p)
}

// putCertificate keeps a certificate whose names have their numbers.
func (x *Index) putCertificate(p *packed) {
	if old, known := x.certs[p.id]; known {
		x.count(old, -1)
	}
	x.certs[p.id] = p.row
	x.count(p.row, 1)
	if x.topics != nil { // its topics are not needed before
		x.topics.touch(topicDevice, x.names.text[p.row.device])
		x.topics.touch(topicCertificate, p.id.serial.octets())
	}
}

// tally counts certificates of a device.
type tally struct{ good, bad int32 } // bad are the revoked and held ones

func (x *Index) count(r certRow, by int32) {
	if missing := int(r.device) + 1 - len(x.tallies); missing > 0 {
		x.tallies = append(x.tallies, make([]tally, missing)...)
	}
	switch statuses[r.status] {
	case trust.Good:
		x.tallies[r.device].good += by
	case trust.Revoked, trust.Held:
		x.tallies[r.device].bad += by
	}
}

// Withdrawn reports whether the newest certificate of a device is revoked or held: it has one that is, and none that is good. Every certificate that is issued
// supersedes the good one before it, so a good one is the newest.
func (x *Index) Withdrawn(id trust.DeviceID) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.isWithdrawn(id)
}

// isWithdrawn is Withdrawn. The caller holds the lock.
func (x *Index) isWithdrawn(id trust.DeviceID) bool {
	number, ok := x.names.number[string(id)]
	if !ok || int(number) >= len(x.tallies) {
		return false
	}
	t := x.tallies[number]
	return t.bad > 0 && t.good == 0
}

// loadCertificates reads all certificates, once everything that they refer to is read.
func (x *Index) loadCertificates(ctx context.Context) error {
	for _, ca := range x.cas {
		x.names.of(ca.Issuer)
		x.names.of(ca.ID)
	}
	for mail := range x.owners {
		x.names.of(mail)
	}
	for id := range x.devices {
		x.names.of(string(id))
	}
	x.certs = make(map[certID]certRow, 2*len(x.devices)) // a guess that saves most of the growing
	x.tallies = make([]tally, len(x.names.text))
	var late []packed // names must not change while others read them
	err := loadTable(ctx, x.store, tableCertificates, x.names.pack, func(p *packed) {
		if p.numbered() {
			x.putCertificate(p)
		} else {
			late = append(late, *p)
		}
	})
	for i := range late {
		x.setCertificate(&late[i])
	}
	return err
}

// Certificate returns what is known of a certificate.
func (x *Index) Certificate(issuer string, s trust.Serial) (CertFact, bool) {
	serial, ok := packSerial(s)
	if !ok {
		return CertFact{}, false
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	number, ok := x.names.number[issuer]
	if !ok {
		return CertFact{}, false
	}
	r, ok := x.certs[certID{number, serial}]
	if !ok {
		return CertFact{}, false
	}
	return x.unpack(certID{number, serial}, r), true
}

func (x *Index) unpack(id certID, r certRow) CertFact {
	fingerprint := ""
	if r.fingerprint != [32]byte{} { // otherwise it has none
		fingerprint = hex.EncodeToString(r.fingerprint[:])
	}
	return CertFact{Issuer: x.names.text[id.issuer], CA: x.names.text[r.ca], Fingerprint: fingerprint, Owner: x.names.text[r.owner],
		Serial: id.serial.serial(), Successor: r.successor.serial(), Device: trust.DeviceID(x.names.text[r.device]), Status: statuses[r.status], Reason: reasons[r.reason],
		NotAfter: moment(r.notAfter), ChangedAt: moment(r.changedAt), FirstUsed: moment(r.firstUsed)}
}

func moment(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
