package registry

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"postern/internal/trust"
)

// Differences names the parts of two indexes that are not the same.
func Differences(a, b *Index) (out []string) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, p := range []struct {
		name string
		a, b any
	}{{"revision", a.Revision(), b.Revision()}, {"certificates", a.facts(), b.facts()}, {"devices", a.devices, b.devices}, {"owners", a.owners, b.owners}, {"CAs", a.cas, b.cas},
		{"profiles", a.profiles, b.profiles}, {"profile ids", a.profIDs, b.profIDs}, {"clients", profileSets(a.byClient), profileSets(b.byClient)},
		{"devices' profiles", profileSets(a.byDevice), profileSets(b.byDevice)}, {"users' profiles", profileSets(a.byUser), profileSets(b.byUser)},
		{"profiles found by their ids", a.profilesAsFound(), b.profilesAsFound()}, {"EAS DeviceIds", sets(a.byEAS), sets(b.byEAS)}, {"owners' devices", a.fleets, b.fleets}, {"withdrawn", a.withdrawn(), b.withdrawn()}, {"tickets", a.tickets, b.tickets},
		{"grants", a.grants, b.grants}} {
		if !reflect.DeepEqual(p.a, p.b) {
			out = append(out, p.name)
		}
	}
	return out
}

// NewFleets returns an index without a store, for devices alone.
func NewFleets() *Index {
	return &Index{devices: map[trust.DeviceID]*trust.Device{}, byEAS: map[string]set[trust.DeviceID]{}, fleets: map[string][]enrolled{}}
}

// SetDevice takes a device over as if it had been followed.
func (x *Index) SetDevice(d trust.Device) { x.setDevice(&d) }

// Encode and Decode are the stored form of records.
var (
	Encode = encode
	Decode = decode
)

// facts are all certificates, whatever the numbers of their names.
func (x *Index) facts() map[string]CertFact {
	out := map[string]CertFact{}
	for id, row := range x.certs {
		f := x.unpack(id, row)
		out[certKey(f.Issuer, f.Serial)] = f
	}
	return out
}

// withdrawn are the devices whose newest certificate is revoked or held. The caller holds the lock.
func (x *Index) withdrawn() map[string]bool {
	out := map[string]bool{}
	for i, t := range x.tallies {
		if t.bad > 0 && t.good == 0 {
			out[x.names.text[i]] = true
		}
	}
	return out
}

// profileSets are the ids of the members. A member that is not the very profile that is found by its id has the wrong one.
func profileSets[K comparable](m map[K]set[*trust.MailProfile]) map[K]map[string]bool {
	out := map[K]map[string]bool{}
	for k, s := range m {
		out[k] = map[string]bool{}
		for p := range s.all {
			out[k][p.ID] = true
		}
	}
	return out
}

// profilesAsFound are the profiles that some way does not lead to: none.
func (x *Index) profilesAsFound() (wrong []string) {
	for id, p := range x.profIDs {
		found := p.ID == id && x.profiles[p.Key()] == p && slices.Contains(appendProfiles(nil, x.byClient[clientKey(p.ClientID)]), p)
		if p.Device != "" {
			found = found && slices.Contains(appendProfiles(nil, x.byDevice[p.Device]), p) && slices.Contains(appendProfiles(nil, x.byUser[p.User]), p)
		}
		if !found {
			wrong = append(wrong, id)
		}
	}
	return wrong
}

// sets are the members, whatever their order.
func sets[K, V comparable](m map[K]set[V]) map[K]map[V]bool {
	out := map[K]map[V]bool{}
	for k, s := range m {
		out[k] = map[V]bool{}
		for v := range s.all {
			out[k][v] = true
		}
	}
	return out
}

// Fill adds devices with so many certificates each, the last one good, by the rules that enrolments follow but many to a commit. It returns the devices.
func (r *Registry) Fill(ctx context.Context, devices, certificates int) (all []trust.Device, err error) {
	const batch = 500
	der := make([]byte, 1100) // as large as one with our extensions
	for len(all) < devices {
		var added []trust.Device
		_, err := r.store.Update(ctx, func(w Writer) error {
			added = nil
			t := r.txn(w, trust.Principal{Kind: "system", Name: "fill"})
			for i := range min(batch, devices-len(all)) {
				d, err := t.fill(len(all)+i, certificates, der)
				if err != nil {
					return err
				}
				added = append(added, d)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		all = append(all, added...)
	}
	_, err = r.DeleteExpired(ctx, r.now().Add(2*RetryWindow)) // such transactions as an hour leaves
	return all, err
}

func (t *txn) fill(n, certificates int, der []byte) (trust.Device, error) {
	mail := fmt.Sprintf("user%d@contoso.com", n)
	d := trust.Device{ID: trust.DeviceID(trust.NewIDAt("dev", t.now)), Issuer: "contoso", SerialNumber: trust.NewID("sn"), EASDeviceID: fmt.Sprintf("%032X", n), Owner: mail,
		Model: "iPhone15,4", OS: "ios", OSVersion: "26.1", State: trust.Active, Managed: true, Compliant: trust.Compliant, Source: "mdm", Created: t.now, Updated: t.now}
	if err := errors.Join(uniqueDevice(t, d), mergeOwner(t, trust.Owner{Mail: mail, UPN: mail}), t.putDevice(d, AuditEntry{Action: ActDeviceAdd, After: snapshot(d)})); err != nil {
		return d, err
	}
	for range certificates {
		var random [48]byte
		_, _ = rand.Read(random[:])
		binary.BigEndian.PutUint32(random[:], uint32(t.now.Unix()))
		copy(der[100:], random[:])
		c := trust.Certificate{Issuer: "contoso", CA: "issuing", Serial: trust.Serial(hex.EncodeToString(random[:16])), Device: d.ID, Owner: mail, Subject: "CN=" + mail + ",O=Contoso",
			NotBefore: t.now, NotAfter: t.now.AddDate(1, 0, 0), SKI: hex.EncodeToString(random[:20]), Fingerprint: hex.EncodeToString(random[16:]), Profile: "mail",
			Evidence: trust.Evidence{Kind: "challenge", Challenge: hex.EncodeToString(random[:8]), Remote: "192.0.2.1"}, DER: der}
		if err := t.issue(Transaction{Issuer: "contoso", ID: string(c.Serial)}, c, d, ActEnrol); err != nil {
			return d, err
		}
	}
	return d, nil
}

// Reload reads everything anew, as after a compaction.
func (x *Index) Reload(ctx context.Context) error { return x.load(ctx) }
