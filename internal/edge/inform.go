package edge

import (
	"bytes"
	"io"
	"net/http"
	"strings"

	"postern/internal/eas"
)

// inform reads what a phone says of itself in a Provision or Settings (MS-ASCMD, section 2.2.3.45), and puts the body back as it was. A body that is too long,
// or that is no such document, is Exchange's affair: nothing is claimed then. Only phones with a certificate are read, because a body may be long in coming.
func (q *request) inform(r *http.Request) {
	if c := q.eas.Command; c != eas.Provision && c != eas.Settings || q.conn.leaf == nil || r.ContentLength == 0 || r.ContentLength > eas.DefaultMaxBytes {
		return
	}
	body := r.Body
	head, err := io.ReadAll(io.LimitReader(body, eas.DefaultMaxBytes+1))
	r.Body = &replayed{Reader: io.MultiReader(bytes.NewReader(head), body), Closer: body}
	if err != nil || len(head) > eas.DefaultMaxBytes {
		return
	}
	if info, sets, err := eas.ReadDeviceInformation(head); err == nil && sets {
		q.model, q.os = clip(modelName(info.Model), maxInformation), clip(strings.TrimSpace(info.OS), maxInformation)
	}
}

// maxInformation is how much of a text that a phone says of itself becomes a fact, in bytes; Exchange takes 1024.
const maxInformation = 128

// replayed is a body of which the beginning was read already.
type replayed struct {
	io.Reader
	io.Closer
}

// modelName gives a model as an MDM reports it: Apple's clients write the comma of iPhone15,4 as C.
func modelName(s string) string {
	s = strings.TrimSpace(s)
	for _, kind := range []string{"iPhone", "iPad", "iPod"} {
		rest, ok := strings.CutPrefix(s, kind)
		major, minor, parted := strings.Cut(rest, "C")
		if ok && parted && number(major) && number(minor) {
			return kind + major + "," + minor
		}
	}
	return s
}

func number(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
