package registry

import (
	"context"
	"slices"
	"strings"

	"postern/internal/trust"
)

// load reads everything in pages, so that no View is long, and then whatever changed meanwhile is applied by following from the first revision.
func (x *Index) load(ctx context.Context) error {
	fresh := &Index{store: x.store, now: x.now, log: x.log, names: newNames(), devices: map[trust.DeviceID]*trust.Device{},
		owners: map[string]*trust.Owner{}, cas: map[string]CA{}, profiles: map[trust.ProfileKey]*trust.MailProfile{}, profIDs: map[string]*trust.MailProfile{},
		byClient: map[string]set[*trust.MailProfile]{}, byDevice: map[trust.DeviceID]set[*trust.MailProfile]{}, byUser: map[string]set[*trust.MailProfile]{}, byEAS: map[string]set[trust.DeviceID]{},
		fleets:  map[string][]enrolled{},
		tickets: map[string]Ticket{}, grants: map[string]Grant{}, exceptions: newExceptions()}
	var start Revision
	if err := x.store.View(ctx, func(rd Reader) error { start = rd.Revision(); return nil }); err != nil {
		return err
	}
	cas, err := listPaged(ctx, x.store, tableCAs, "", "", unlimited, func(CA) bool { return true })
	for _, ca := range cas {
		fresh.cas[ca.Issuer+"/"+ca.ID] = ca
	}
	if err == nil {
		err = loadTable(ctx, x.store, tableOwners, (*fields).owner, func(o *trust.Owner) { fresh.owners[o.Mail] = clone(o) })
	}
	if err == nil {
		err = loadTable(ctx, x.store, tableDevices, (*fields).device, func(d *trust.Device) { fresh.putDevice(clone(d)) })
		fresh.loadFleets()
	}
	if err == nil {
		err = fresh.loadSuspensions(ctx)
	}
	if err == nil {
		err = fresh.loadCertificates(ctx)
	}
	if err == nil {
		err = loadTable(ctx, x.store, tableProfiles, (*fields).profile, func(p *trust.MailProfile) { fresh.setProfile(clone(p)) })
	}
	if err == nil {
		err = fresh.loadTickets(ctx)
	}
	if err == nil {
		err = fresh.exceptions.load(ctx, x.store)
	}
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.certs, x.names, x.devices, x.owners, x.cas = fresh.certs, fresh.names, fresh.devices, fresh.owners, fresh.cas
	x.profiles, x.profIDs, x.byClient, x.byDevice, x.byUser, x.byEAS = fresh.profiles, fresh.profIDs, fresh.byClient, fresh.byDevice, fresh.byUser, fresh.byEAS
	x.tallies, x.fleets, x.tickets, x.grants, x.exceptions = fresh.tallies, fresh.fleets, fresh.tickets, fresh.grants, fresh.exceptions
	x.topics.touchAll()
	x.mu.Unlock()
	x.advance(start, nil)
	return x.follow(ctx)
}

// loadSuspensions marks what is suspended, once devices and owners are read.
func (x *Index) loadSuspensions(ctx context.Context) error {
	return scanPages(ctx, x.store, tableSuspensions, "", "", func(key string, raw []byte) (bool, error) {
		var s trust.Suspension
		if err := decode(raw, &s); err != nil {
			return false, err
		}
		kind, id, _ := strings.Cut(key, "/")
		if d, ok := x.devices[trust.DeviceID(id)]; ok && kind == string(KindDevice) {
			d = clone(d)
			d.Suspended = &s
			x.devices[d.ID] = d
		}
		if o, ok := x.owners[id]; ok && kind == string(KindOwner) {
			o = clone(o)
			o.Suspended = &s
			x.owners[o.Mail] = o
		}
		return true, nil
	})
}

// clone makes a copy that stays when the page is gone that v was read with.
func clone[T any](v *T) *T { c := *v; return &c }

// setDevice takes over a device, which nobody changes afterwards.
func (x *Index) setDevice(d *trust.Device) {
	old := x.devices[d.ID]
	if old == nil {
		old = &trust.Device{}
	}
	x.putDevice(d)
	x.moveInFleet(old, d)
	x.topics.touch(topicDevice, string(d.ID))
	x.topics.touch(topicClient, clientKey(old.EASDeviceID), clientKey(d.EASDeviceID))
	x.topics.touch(topicOwner, old.Owner, d.Owner)
}

// putDevice is setDevice without the fleets.
func (x *Index) putDevice(d *trust.Device) {
	if old := x.devices[d.ID]; old != nil && old.EASDeviceID != "" {
		remove(x.byEAS, clientKey(old.EASDeviceID), d.ID)
	}
	x.devices[d.ID] = d
	if d.EASDeviceID != "" {
		insert(x.byEAS, clientKey(d.EASDeviceID), d.ID)
	}
}

// setProfile takes over a mail profile, which nobody changes afterwards.
func (x *Index) setProfile(p *trust.MailProfile) {
	x.dropProfile(p.ID)
	x.profiles[p.Key()] = p
	x.profIDs[p.ID] = p
	insert(x.byClient, clientKey(p.ClientID), p)
	if p.Device != "" {
		insert(x.byDevice, p.Device, p)
		insert(x.byUser, p.User, p)
	}
	x.touchProfile(p)
}

func (x *Index) dropProfile(id string) {
	old, ok := x.profIDs[id]
	if !ok {
		return
	}
	remove(x.byClient, clientKey(old.ClientID), old)
	remove(x.byDevice, old.Device, old)
	remove(x.byUser, old.User, old)
	delete(x.profiles, old.Key())
	delete(x.profIDs, id)
	x.touchProfile(old)
}

func (x *Index) touchProfile(p *trust.MailProfile) {
	x.topics.touch(topicClient, clientKey(p.ClientID))
	x.topics.touch(topicDevice, string(p.Device))
	x.topics.touch(topicUser, p.User)
}

// Device returns a device, or nil and false. It must not be changed.
func (x *Index) Device(id trust.DeviceID) (*trust.Device, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	d, ok := x.devices[id]
	return d, ok
}

// Owner returns an owner by mail address, or nil and false. It must not be changed. It is the same one for as long as nothing of it has changed.
func (x *Index) Owner(mail string) (*trust.Owner, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	o, ok := x.owners[mail]
	return o, ok
}

// CAs returns every CA of every issuer, sorted by issuer and id.
func (x *Index) CAs() []CA {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]CA, 0, len(x.cas))
	for _, ca := range x.cas {
		out = append(out, ca)
	}
	slices.SortFunc(out, func(a, b CA) int { return strings.Compare(a.Issuer+"/"+a.ID, b.Issuer+"/"+b.ID) })
	return out
}

// Profile returns the mail profile with the key, or nil and false. It must not be changed.
func (x *Index) Profile(k trust.ProfileKey) (*trust.MailProfile, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	p, ok := x.profiles[k]
	return p, ok
}

// ProfilesOfClient returns the mail profiles under an EAS DeviceId, in canonical form, sorted by id. They must not be changed.
func (x *Index) ProfilesOfClient(clientID string) []*trust.MailProfile {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return appendProfiles(nil, x.byClient[clientKey(clientID)])
}

// ProfilesOfDevice returns the mail profiles of a device, sorted by id. They must not be changed.
func (x *Index) ProfilesOfDevice(id trust.DeviceID) []*trust.MailProfile {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return appendProfiles(nil, x.byDevice[id])
}

// ProfilesOfUser returns the mail profiles under a user's name that are a device's, sorted by id. The name is that of the profile: the owner's mail address,
// where the user is the owner of the device. They must not be changed.
func (x *Index) ProfilesOfUser(name string) []*trust.MailProfile {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return appendProfiles(nil, x.byUser[name])
}

// appendProfiles appends the profiles to room, which is empty, sorted by id.
func appendProfiles(room []*trust.MailProfile, of set[*trust.MailProfile]) []*trust.MailProfile {
	for p := range of.all {
		room = append(room, p)
	}
	slices.SortFunc(room, func(a, b *trust.MailProfile) int { return strings.Compare(a.ID, b.ID) })
	return room
}

// DevicesByEAS returns the devices for which the MDM reports this EAS DeviceId, in canonical form, sorted by id. They must not be changed.
func (x *Index) DevicesByEAS(clientID string) []*trust.Device {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.appendDevices(nil, x.byEAS[clientKey(clientID)])
}

// appendDevices appends the devices to room, which is empty, sorted by id.
func (x *Index) appendDevices(room []*trust.Device, of set[trust.DeviceID]) []*trust.Device {
	for id := range of.all {
		room = append(room, x.devices[id])
	}
	slices.SortFunc(room, func(a, b *trust.Device) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return room
}
