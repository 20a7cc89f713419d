package registry

import (
	"cmp"
	"time"

	"postern/internal/trust"
)

// Fleet counts the devices of an owner that have enrolled and may be in use: managed, and neither retired nor blocked. place is that of the device among them
// in the order in which they enrolled, from 1; 0 if it is none of them. A device that has enrolled a moment ago is counted once the index has followed.
func (x *Index) Fleet(owner string, id trust.DeviceID) (count, place int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	own := x.devices[id]
	ownAt, counts := inUse(&own)
	counts = counts && own.Owner == owner
	for other := range x.byOwner[owner].all {
		d := x.devices[other]
		at, ok := inUse(&d)
		if !ok {
			continue
		}
		count++
		if counts && cmp.Or(at.Compare(ownAt), cmp.Compare(other, id)) <= 0 {
			place++
		}
	}
	return count, place
}

func inUse(d *trust.Device) (enrolled time.Time, ok bool) {
	at, ok := d.EnrolledAt()
	return at, ok && d.Managed && d.State != trust.Retired && d.State != trust.Blocked
}
