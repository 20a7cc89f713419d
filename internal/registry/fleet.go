package registry

import (
	"cmp"
	"slices"

	"postern/internal/trust"
)

// enrolled is a device in use, by when it enrolled.
type enrolled struct {
	at int64 // nanoseconds since 1970
	id trust.DeviceID
}

func compareEnrolled(a, b enrolled) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id))
}

// Fleet counts the devices of an owner that have enrolled and may be in use: managed, and neither retired nor blocked. place is that of the device among them
// in the order in which they enrolled, from 1; 0 if it is none of them. A device that has enrolled a moment ago is counted once the index has followed.
func (x *Index) Fleet(owner string, id trust.DeviceID) (count, place int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	fleet := x.fleets[owner]
	own := x.devices[id]
	if e, counts := inUse(&own); counts && own.Owner == owner {
		at, _ := slices.BinarySearchFunc(fleet, e, compareEnrolled)
		place = at + 1
	}
	return len(fleet), place
}

func inUse(d *trust.Device) (e enrolled, ok bool) {
	at, ok := d.EnrolledAt()
	return enrolled{at.UnixNano(), d.ID}, ok && d.ID != "" && d.Managed && d.State != trust.Retired && d.State != trust.Blocked
}

// moveInFleet takes a device from where it was among its owner's to where it is now.
func (x *Index) moveInFleet(old, d *trust.Device) {
	was, counted := inUse(old)
	is, counts := inUse(d)
	if counted == counts && old.Owner == d.Owner && was == is {
		return
	}
	if counted {
		fleet := x.fleets[old.Owner]
		if at, found := slices.BinarySearchFunc(fleet, was, compareEnrolled); found {
			fleet = slices.Delete(fleet, at, at+1)
		}
		if x.fleets[old.Owner] = fleet; len(fleet) == 0 {
			delete(x.fleets, old.Owner)
		}
	}
	if counts {
		fleet := x.fleets[d.Owner]
		at, _ := slices.BinarySearchFunc(fleet, is, compareEnrolled)
		x.fleets[d.Owner] = slices.Insert(fleet, at, is)
	}
}

// loadFleets makes the fleets of all devices that were read, each sorted once.
func (x *Index) loadFleets() {
	for _, d := range x.devices {
		if e, ok := inUse(&d); ok {
			x.fleets[d.Owner] = append(x.fleets[d.Owner], e)
		}
	}
	for _, fleet := range x.fleets {
		slices.SortFunc(fleet, compareEnrolled)
	}
}
