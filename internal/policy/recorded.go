package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"reflect"
	"strings"
)

// A plain allow is recorded in a form of its own: its facts as they stand for the digest, behind the clock. It is read many thousand times a second when a
// policy is tried on what was recorded, and JSON would take longer than the decision.

const (
	recordedAccess = 1 // the first byte; JSON begins with a brace
	maxRecorded    = 64 << 10
)

var (
	errRecorded = errors.New("recorded input is damaged")
	errLayout   = errors.New("recorded input is of a version with other facts")
)

// layout identifies the fields of the contract, so that what another version has recorded is not taken for something else.
var layout = string(layoutOf(orderOfFacts(), reflect.TypeFor[AccessInput]()).Sum(nil)[:4])

// orderOfFacts stands for the order in which facts are written: it has another text whenever that changes.
func orderOfFacts() hash.Hash {
	h := sha256.New()
	_, _ = h.Write([]byte("what passes by comes last"))
	return h
}

func layoutOf(h hash.Hash, t reflect.Type) hash.Hash {
	for i := range t.NumField() {
		fmt.Fprintf(h, "%s %s\n", t.Field(i).Tag.Get("json"), t.Field(i).Type.Kind())
		switch f := t.Field(i).Type; {
		case f.Kind() == reflect.Struct:
			layoutOf(h, f)
		case f.Kind() == reflect.Slice && f.Elem().Kind() == reflect.Struct:
			layoutOf(h, f.Elem())
		}
	}
	return h
}

// RecordKey identifies the facts under which a plain allow is recorded once: all but the clock, the age of the snapshot, and when the token ends, which every
// phone renews many times a day. Of inputs with one key the last is kept. 16 octets.
func (in *AccessInput) RecordKey() string {
	var room [factsRoom]byte
	key := sha256.Sum256(in.append(room[:0]))
	return string(key[:recordKeySize])
}

const recordKeySize = 16

// RecordKey is that of AccessInput for enrolments: all facts but the clock.
func (in *EnrollInput) RecordKey() string {
	same := *in
	same.Now = 0
	text, err := json.Marshal(same)
	if err != nil {
		return "" // not reached: the contract is plain data
	}
	d := sha256.Sum256(text)
	return string(d[:recordKeySize])
}

// Record returns the input in the form in which plain allows are recorded. DecodeAccess reads it.
func (in *AccessInput) Record() []byte {
	var room [factsRoom]byte
	return in.record(in.append(room[:0]))
}

// record is Record with the facts that append has written.
func (in *AccessInput) record(lasting []byte) []byte {
	b := append(make([]byte, 0, len(lasting)+len(layout)+1+4*binary.MaxVarintLen64), recordedAccess)
	b = append(b, layout...)
	for _, n := range [...]int64{in.Now, in.Credential.Expires, in.AssuranceUntil, in.Snapshot.Behind} {
		b = binary.AppendVarint(b, n)
	}
	return append(b, lasting...)
}

// DecodeAccess reads a recorded input, in JSON or as Record has written it. A field that the contract does not have is an error.
func DecodeAccess(raw []byte) (*AccessInput, error) {
	in := &AccessInput{}
	if len(raw) > maxRecorded {
		return nil, fmt.Errorf("%w: larger than %d bytes", errRecorded, maxRecorded)
	}
	if len(raw) == 0 || raw[0] != recordedAccess {
		if err := decodeStrict(raw, in, true); err != nil {
			return nil, fmt.Errorf("%w: %w", errRecorded, err)
		}
		return in, nil
	}
	text, ok := strings.CutPrefix(string(raw[1:]), layout)
	if !ok {
		return nil, errLayout
	}
	r := &recordReader{text: text}
	in.Now, in.Credential.Expires, in.AssuranceUntil, in.Snapshot.Behind = r.varint(), r.varint(), r.varint(), r.varint()
	in.read(r)
	if r.bad || r.text != "" {
		return nil, errRecorded
	}
	return in, nil
}

// DecodeEnroll reads a recorded input of an enrolment, which is JSON.
func DecodeEnroll(raw []byte) (*EnrollInput, error) {
	in := &EnrollInput{}
	if len(raw) > maxRecorded {
		return nil, fmt.Errorf("%w: larger than %d bytes", errRecorded, maxRecorded)
	}
	if err := decodeStrict(raw, in, true); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecorded, err)
	}
	return in, nil
}

// recordReader takes values off the front of a record. What is read after something damaged is empty.
type recordReader struct {
	text string // not yet read; what is read are parts of it
	bad  bool
}

func (r *recordReader) varint() int64 {
	n, size := binary.Varint([]byte(r.text[:min(len(r.text), binary.MaxVarintLen64)]))
	if size <= 0 {
		r.bad, r.text = true, ""
		return 0
	}
	r.text = r.text[size:]
	return n
}

func (r *recordReader) count() int {
	n, size := binary.Uvarint([]byte(r.text[:min(len(r.text), binary.MaxVarintLen64)]))
	if size <= 0 || n > uint64(len(r.text)-size) {
		r.bad, r.text = true, ""
		return 0
	}
	r.text = r.text[size:]
	return int(n)
}

func (r *recordReader) string() string {
	n := r.count()
	s := r.text[:n]
	r.text = r.text[n:]
	return s
}

func (r *recordReader) strings(fields ...*string) {
	for _, f := range fields {
		*f = r.string()
	}
}

func (r *recordReader) bool() bool {
	if r.text == "" || r.text[0] > 1 {
		r.bad, r.text = true, ""
		return false
	}
	v := r.text[0] == 1
	r.text = r.text[1:]
	return v
}

func (r *recordReader) bools(fields ...*bool) {
	for _, f := range fields {
		*f = r.bool()
	}
}

func (r *recordReader) set() map[string]bool {
	m := map[string]bool{}
	for range r.count() {
		k := r.string()
		m[k] = r.bool()
	}
	return m
}

func (r *recordReader) table() map[string]string {
	m := map[string]string{}
	for range r.count() {
		k := r.string()
		m[k] = r.string()
	}
	return m
}

// read takes the facts in the order in which append wrote them; a test compares the two for every field.
func (in *AccessInput) read(r *recordReader) {
	q, c, k := &in.Request, &in.Claimed, &in.Credential
	r.strings(&q.Class, &q.Protocol, &q.Tenant, &q.Host, &q.Method, &q.Command, &q.SourceIP)
	q.Version = int(r.varint())
	q.Zones = r.set()
	r.strings(&c.DeviceID, &c.DeviceType, &c.UserAgent, &c.Family, &c.Platform, &c.Model, &c.OS)
	c.OSNumber = r.varint()
	r.strings(&k.Kind, &k.Problem, &k.User, &k.OID, &k.TID, &k.AppID)
	k.Names = r.set()
	for range r.count() {
		k.Audience = append(k.Audience, r.string())
	}
	in.Certificate.read(r)
	in.Device.read(r)
	in.Owner.read(r)
	p, d := &in.Profile, &in.Duplicate
	r.bools(&p.Known, &p.Linked, &p.Refused)
	r.strings(&p.ID, &p.Certificate)
	p.FirstSeen = r.varint()
	r.bools(&d.DeviceIDManaged, &d.OtherIsOlder, &d.SameUserModel)
	r.strings(&d.ManagedDevice, &d.OtherDeviceID)
	d.OtherLastSeen, d.OtherFirstSeen = r.varint(), r.varint()
	r.strings(&in.Ticket.Status, &in.Ticket.ID, &in.Ticket.Device, &in.Assurance)
	in.Exceptions = r.exceptions()
}

func (c *CertFacts) read(r *recordReader) {
	r.bools(&c.Present)
	r.strings(&c.Problem, &c.Status, &c.Issuer, &c.Serial, &c.Device, &c.Reason)
	c.NotAfter, c.ChangedAt, c.SuccessorFirstUse = r.varint(), r.varint(), r.varint()
}

func (d *DeviceFacts) read(r *recordReader) {
	r.bools(&d.Known, &d.Managed, &d.Suspended, &d.Revoked)
	r.strings(&d.ID, &d.State, &d.Compliant, &d.EASDeviceID, &d.SerialNumber, &d.Model, &d.OS, &d.OSVersion, &d.Source, &d.SuspendReason)
	d.SilentFor, d.SuspendedAt, d.ComplianceSince, d.OSNumber = r.varint(), r.varint(), r.varint(), r.varint()
	d.Bucket, d.Place = int(r.varint()), int(r.varint())
	d.Labels = r.table()
}

func (o *OwnerFacts) read(r *recordReader) {
	r.bools(&o.Known, &o.Suspended)
	r.strings(&o.Mail, &o.OID, &o.TID, &o.SuspendReason)
	o.SuspendedAt, o.Devices = r.varint(), int(r.varint())
	o.Names, o.Delegations, o.Groups = r.set(), r.set(), r.set()
}
