package registry

import (
	"context"
	"errors"
	"slices"
	"strings"

	"postern/internal/trust"
)

// exceptions are those that were not revoked. There are few, and hardly any phone has one, so a look is a look into an empty map.
type exceptions struct {
	byID     map[string]trust.Exception
	byOwner  map[string]set[string]         // ids of those for every device of an owner
	byDevice map[trust.DeviceID]set[string] // ids of those for one device
}

func newExceptions() exceptions {
	return exceptions{byID: map[string]trust.Exception{}, byOwner: map[string]set[string]{}, byDevice: map[trust.DeviceID]set[string]{}}
}

func (x *exceptions) put(e trust.Exception) {
	x.drop(e.ID)
	if !e.Revoked.IsZero() {
		return
	}
	x.byID[e.ID] = e
	if e.Device != "" {
		insert(x.byDevice, e.Device, e.ID)
	} else {
		insert(x.byOwner, e.Owner, e.ID)
	}
}

func (x *exceptions) drop(id string) {
	old, ok := x.byID[id]
	if !ok {
		return
	}
	delete(x.byID, id)
	if old.Device != "" {
		remove(x.byDevice, old.Device, id)
	} else {
		remove(x.byOwner, old.Owner, id)
	}
}

func (x *exceptions) load(ctx context.Context, s Store) error {
	return scanPages(ctx, s, tableExceptions, "", "", func(_ string, raw []byte) (bool, error) {
		var e trust.Exception
		err := decode(raw, &e)
		if err == nil {
			x.put(e)
		}
		return err == nil, err
	})
}

// fetchException reads a changed exception, as it is now.
func (x *Index) fetchException(rd Reader, id string) (func(), error) {
	e, err := get[trust.Exception](rd, tableExceptions, id)
	if errors.Is(err, trust.ErrNotFound) {
		return func() { x.touchException(id); x.exceptions.drop(id) }, nil
	}
	return func() { x.touchException(id); x.exceptions.put(e); x.touchException(id) }, err
}

// touchException marks the owner of an exception, one for a device too, as it is known at the moment.
func (x *Index) touchException(id string) {
	if e, ok := x.exceptions.byID[id]; ok {
		x.topics.touch(topicOwner, e.Owner)
	}
}

// ExceptionsFor returns the exceptions of a device and of its owner that were not revoked, sorted by id; nil, nearly always. They may be over: Until says so.
func (x *Index) ExceptionsFor(d *trust.Device) []trust.Exception {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.exceptionsOf(d)
}

// exceptionsOf is ExceptionsFor. The caller holds the lock.
func (x *Index) exceptionsOf(d *trust.Device) (out []trust.Exception) {
	if len(x.exceptions.byID) == 0 {
		return nil
	}
	for id := range x.exceptions.byDevice[d.ID].all {
		if e := x.exceptions.byID[id]; e.Owner == d.Owner {
			out = append(out, e)
		}
	}
	for id := range x.exceptions.byOwner[d.Owner].all {
		out = append(out, x.exceptions.byID[id])
	}
	slices.SortFunc(out, func(a, b trust.Exception) int { return strings.Compare(a.ID, b.ID) })
	return out
}
