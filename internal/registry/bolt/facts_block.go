package bolt

import (
	"encoding/binary"
	"time"

	"postern/internal/trust"
)

// The facts of plain allows come by the thousand a second when a policy is new, and are read only to be decided again, in the order in which they came. They
// are kept in blocks: first the decisions, then a head for each, by which it is known whether a later one has taken its place, and how long all that is.
const (
	blockVersion  = 1
	blockTail     = 8 + 8 + 4 + 1 // first and last time, how many, version
	factsHeadSize = factsSize + 4 + 4
	factsSize     = 16
	smallBlock    = 32 << 10 // bytes; what comes next is put into the last block on disk as long as that is smaller
	fullBlock     = 64 << 10 // bytes, from which on a further decision begins another
)

// factsKey is the digest of the facts of a plain allow.
type factsKey [factsSize]byte

// factsHead stands for one decision of a block.
type factsHead struct {
	key     factsKey
	ordinal uint32 // rises within a block, and stays when others are taken out
	size    uint32
}

// factsBlock is what one value on disk holds, or is going to.
type factsBlock struct {
	first, last int64 // nanoseconds since 1970, of the decisions
	heads       []factsHead
	frames      []byte // one for each head
}

// add appends a decision.
func (b *factsBlock) add(d *trust.Decision) {
	at, before := d.At.UnixNano(), len(b.frames)
	b.frames = appendFrame(b.frames, d, at)
	b.extend(factsHead{key: factsKey([]byte(d.Facts)), size: uint32(len(b.frames) - before)}, at, at)
}

// extend appends a head, with the ordinal that comes next.
func (b *factsBlock) extend(h factsHead, first, last int64) {
	h.ordinal = 0
	if n := len(b.heads); n > 0 {
		h.ordinal, first, last = b.heads[n-1].ordinal+1, min(b.first, first), max(b.last, last)
	}
	b.first, b.last = first, last
	b.heads = append(b.heads, h)
}

// append takes over all of another block.
func (b *factsBlock) append(other *factsBlock) {
	b.frames = append(b.frames, other.frames...)
	for _, h := range other.heads {
		b.extend(h, other.first, other.last)
	}
}

// clear makes room for other decisions.
func (b *factsBlock) clear() {
	*b = factsBlock{heads: b.heads[:0], frames: b.frames[:0]}
}

// size is that of the value on disk, in bytes.
func (b *factsBlock) size() int { return len(b.frames) + factsHeadSize*len(b.heads) + blockTail }

// encode returns the value on disk, which shares its memory with the block.
func (b *factsBlock) encode() []byte {
	raw := b.frames
	for i := range b.heads {
		h := &b.heads[i]
		raw = append(raw, h.key[:]...)
		raw = binary.BigEndian.AppendUint32(raw, h.ordinal)
		raw = binary.BigEndian.AppendUint32(raw, h.size)
	}
	b.frames = raw[:len(b.frames)]
	raw = binary.BigEndian.AppendUint64(raw, uint64(b.first))
	raw = binary.BigEndian.AppendUint64(raw, uint64(b.last))
	raw = binary.BigEndian.AppendUint32(raw, uint32(len(b.heads)))
	return append(raw, blockVersion)
}

// decodeBlock reads a value. The frames are those of raw, and not copied.
func decodeBlock(raw []byte) (b factsBlock, err error) {
	if len(raw) < blockTail || raw[len(raw)-1] != blockVersion {
		return b, errEntry
	}
	tail, rest := raw[len(raw)-blockTail:], raw[:len(raw)-blockTail]
	n := int(binary.BigEndian.Uint32(tail[16:]))
	if n > len(rest)/factsHeadSize {
		return b, errEntry
	}
	frames, heads := rest[:len(rest)-n*factsHeadSize], rest[len(rest)-n*factsHeadSize:]
	out := make([]factsHead, n)
	total := 0
	for i := range out {
		h := heads[i*factsHeadSize:]
		out[i] = factsHead{factsKey(h[:factsSize]), binary.BigEndian.Uint32(h[factsSize:]), binary.BigEndian.Uint32(h[factsSize+4:])}
		total += int(out[i].size)
	}
	if total != len(frames) {
		return b, errEntry
	}
	return factsBlock{int64(binary.BigEndian.Uint64(tail)), int64(binary.BigEndian.Uint64(tail[8:])), out, frames}, nil
}

// only returns a block with the decisions for which keep says so; of those on the same facts, the last counts. It shares nothing with b.
func (b *factsBlock) only(keep func(factsKey) bool) factsBlock {
	last := make(map[factsKey]int, len(b.heads))
	for i := range b.heads {
		last[b.heads[i].key] = i
	}
	out := factsBlock{first: b.first, last: b.last}
	at := 0
	for i, h := range b.heads {
		frame := b.frames[at : at+int(h.size)]
		at += int(h.size)
		if last[h.key] == i && keep(h.key) {
			out.heads, out.frames = append(out.heads, h), append(out.frames, frame...)
		}
	}
	return out
}

// appendFrame appends a decision without its reasons and its reference, which a plain allow has not, and without its facts, which are in its head.
func appendFrame(b []byte, d *trust.Decision, at int64) []byte {
	b = binary.AppendVarint(b, at)
	until := int64(0)
	if !d.ValidUntil.IsZero() {
		until = d.ValidUntil.Unix()
	}
	b = binary.AppendVarint(b, until)
	for _, s := range [...]string{d.Door, d.Policy, d.User, string(d.Device), string(d.Serial), d.ClientID, d.Profile, d.Command, d.Remote} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return append(b, d.Input...)
}

// decodeFrame reads what appendFrame has written.
func decodeFrame(key factsKey, frame []byte) (trust.Decision, error) {
	d := trust.Decision{Action: trust.Allow, Facts: string(key[:])}
	at, n := binary.Varint(frame)
	if n <= 0 {
		return d, errEntry
	}
	until, m := binary.Varint(frame[n:])
	if m <= 0 {
		return d, errEntry
	}
	d.At, frame = time.Unix(0, at).UTC(), frame[n+m:]
	if until != 0 {
		d.ValidUntil = time.Unix(until, 0).UTC()
	}
	var device, serial string
	for _, field := range [...]*string{&d.Door, &d.Policy, &d.User, &device, &serial, &d.ClientID, &d.Profile, &d.Command, &d.Remote} {
		var ok bool
		if *field, frame, ok = cutText(frame); !ok {
			return d, errEntry
		}
	}
	d.Device, d.Serial, d.Input = trust.DeviceID(device), trust.Serial(serial), append([]byte(nil), frame...)
	return d, nil
}
