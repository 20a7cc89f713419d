package api

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// RecordedType is the content type of GET /decisions/recorded: frames of binary.AppendUvarint(length) and AppendRecorded, because a million of them in JSON
// take longer to read than to decide. A last frame of length 0 says that all is there.
const RecordedType = "application/x-postern-recorded"

// maxFrame is the size limit of a frame in bytes.
const maxFrame = 1 << 20

// Recorded is one decision with the facts it was made on, to decide it again.
type Recorded struct {
	Door      string
	Reference string // empty for a plain allow, which stands for all requests with its facts
	At        time.Time
	Action    string
	Codes     []string
	Policy    string
	User      string
	Device    string
	Command   string
	Input     []byte
}

// AppendRecorded appends a frame.
func AppendRecorded(b []byte, r Recorded) []byte {
	body := binary.AppendVarint(nil, r.At.Unix())
	for _, s := range []string{r.Door, r.Reference, r.Action, strings.Join(r.Codes, ","), r.Policy, r.User, r.Device, r.Command, string(r.Input)} {
		body = append(binary.AppendUvarint(body, uint64(len(s))), s...)
	}
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

// errTruncated: the stream ended before its last frame.
var errTruncated = errors.New("the server stopped before all recorded decisions were sent")

// ReadRecorded reads a frame; io.EOF after the last one. A stream that ends in another place, or a frame that cannot be read, is another error.
func ReadRecorded(r *bufio.Reader) (Recorded, error) {
	var out Recorded
	n, err := binary.ReadUvarint(r)
	switch {
	case err != nil:
		return out, errors.Join(errTruncated, err)
	case n == 0:
		return out, io.EOF
	case n > maxFrame:
		return out, fmt.Errorf("recorded decision of %d bytes is larger than %d", n, maxFrame)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return out, errors.Join(errTruncated, err)
	}
	at, size := binary.Varint(body)
	if size <= 0 {
		return out, errors.New("recorded decision is damaged")
	}
	rest, codes := string(body[size:]), ""
	var input string
	for _, field := range []*string{&out.Door, &out.Reference, &out.Action, &codes, &out.Policy, &out.User, &out.Device, &out.Command, &input} {
		n, size := binary.Uvarint([]byte(rest[:min(len(rest), binary.MaxVarintLen64)]))
		if size <= 0 || n > uint64(len(rest)-size) {
			return out, errors.New("recorded decision is damaged")
		}
		*field, rest = rest[size:size+int(n)], rest[size+int(n):]
	}
	if rest != "" {
		return out, errors.New("recorded decision is damaged")
	}
	out.At, out.Input = time.Unix(at, 0).UTC(), []byte(input)
	if codes != "" {
		out.Codes = strings.Split(codes, ",")
	}
	return out, nil
}

// Retained says what of the decisions is recorded, so that nobody takes a part for the whole. It answers GET /decisions/retained.
type Retained struct {
	Allowed          uint64     `json:"allowed"`          // requests plainly allowed since the journal began; a set of facts is recorded once for as many as there are
	LastAllowed      *time.Time `json:"last_allowed"`     // when
	KeptSeconds      int64      `json:"kept_seconds"`     // for how long decisions are kept
	KeptBytes        int64      `json:"kept_bytes"`       // and how much of them
	AllowedShare     float64    `json:"allowed_share"`    // of the sets of facts of plain allows that are recorded
	LeftOutAllowed   uint64     `json:"left_out_allowed"` // since the start: sets of facts that were not recorded for that, as often as they were decided anew
	Dropped          uint64     `json:"dropped"`          // since the start: lost to overload
	Sampled          uint64     `json:"sampled"`          // since the start: of strangers, only counted
	Evicted          uint64     `json:"evicted"`          // since the start: of known devices, made room before their time
	EvictedStrangers uint64     `json:"evicted_strangers"`
	EvictedAllowed   uint64     `json:"evicted_allowed"` // since the start: sets of facts that made room
	SkippedAllowed   uint64     `json:"skipped_allowed"` // since the start: sets of facts that were not written, under load
}
