package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

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
	return x.placeInFleet(owner, x.devices[id])
}

// placeInFleet is Fleet for a device that was looked up, nil for none. The caller holds the lock.
func (x *Index) placeInFleet(owner string, own *trust.Device) (count, place int) {
	fleet := x.fleets[owner]
	if own == nil {
		return len(fleet), 0
	}
	if e, counts := inUse(own); counts && own.Owner == owner {
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
		if e, ok := inUse(d); ok {
			x.fleets[d.Owner] = append(x.fleets[d.Owner], e)
		}
	}
	for _, fleet := range x.fleets {
		slices.SortFunc(fleet, compareEnrolled)
	}
}

// FleetMoved says that another device of the owner enrolled since the owner's devices were counted: decide again, with what an index knows that has reached At.
// It is a trust.ErrConflict.
type FleetMoved struct {
	Owner string
	At    Revision
}

func (e *FleetMoved) Error() string {
	return fmt.Sprintf("another device of %s has enrolled meanwhile: try again", e.Owner)
}

func (e *FleetMoved) Unwrap() error { return trust.ErrConflict }

// fleetKey is where the revision of an owner's last first enrolment is kept. Who counted the devices before it has counted too few.
func fleetKey(owner string) string { return "fleet/" + owner }

// joins reports whether a certificate makes d one more of its owner's devices.
func joins(d trust.Device) bool { return d.State != trust.Active && d.Enrolled.IsZero() }

// stillCounted checks that no other device of the owner has enrolled since they were counted; counted is 0 for an enrolment that does not depend on it.
func (t *txn) stillCounted(d trust.Device, counted Revision) error {
	raw, ok := t.Get(tableMeta, fleetKey(d.Owner))
	if !ok || counted == 0 || !joins(d) {
		return nil
	}
	last, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil {
		return fmt.Errorf("read %s: %w", fleetKey(d.Owner), err)
	}
	if Revision(last) > counted {
		return &FleetMoved{d.Owner, Revision(last)}
	}
	return nil
}

// joined notes the first enrolment of d.
func (t *txn) joined(d trust.Device) {
	t.Put(tableMeta, fleetKey(d.Owner), strconv.AppendUint(nil, uint64(t.Revision()), 10))
}
