package eas

import (
	"errors"
	"io"
	"strings"
	"unicode"
)

// maxDeviceText is how long Exchange lets a field of DeviceInformation be, in bytes here.
const maxDeviceText = 1024

// DeviceInformation is what a client says about itself in its first Provision (14.1 and later) or in Settings (12.0 to
// 14.0). The server checks none of it and neither does Postern: all of it is claimed. Each field is at most 1024 bytes
// without control characters, "" where the client does not give it (MS-ASCMD, section 2.2.3.45).
type DeviceInformation struct {
	Model, IMEI, FriendlyName, OS, OSLanguage, PhoneNumber, UserAgent, MobileOperator string
}

// The tokens on the way to the fields (MS-ASWBXML, section 2.1.2.1.19).
const (
	tokenRoot              = 0x05 // of both Provision and Settings
	tokenDeviceInformation = 0x16
	tokenSet               = 0x08
)

// field gives where the text of a token of page Settings belongs, nil for one that is not read.
func (d *DeviceInformation) field(token byte) *string {
	switch token {
	case 0x17:
		return &d.Model
	case 0x18:
		return &d.IMEI
	case 0x19:
		return &d.FriendlyName
	case 0x1A:
		return &d.OS
	case 0x1B:
		return &d.OSLanguage
	case 0x1C:
		return &d.PhoneNumber
	case 0x20:
		return &d.UserAgent
	case 0x22:
		return &d.MobileOperator
	}
	return nil
}

// ReadDeviceInformation reads the body of a Provision or Settings request of at most [DefaultMaxBytes]; the bool says
// whether it sets DeviceInformation, which most such requests do not. An element that comes twice is refused: two readers
// must not see two devices. The error is a [*WBXMLError].
func ReadDeviceInformation(body []byte) (DeviceInformation, bool, error) {
	var d DeviceInformation
	r, err := NewReader(body, Limits{})
	if err != nil {
		return DeviceInformation{}, false, err
	}
	w := infoWalk{info: &d}
	for {
		t, err := r.Next()
		if errors.Is(err, io.EOF) {
			return d, w.sets == 1, nil
		}
		reason := ""
		if err == nil {
			reason = w.step(t, r.Depth())
		}
		if reason != "" {
			err = r.refuse(reason)
		}
		if err != nil {
			return DeviceInformation{}, false, err
		}
	}
}

// infoWalk follows the path root, DeviceInformation, Set, field. matched counts how much of it is open, so that a field of
// the same name elsewhere in the document is not taken for one of the device.
type infoWalk struct {
	info    *DeviceInformation
	matched int
	sets    int
	seen    uint64 // the tokens of the fields that came
	into    *string
}

// step takes one token; depth is that after it. It gives the reason to refuse, or "".
func (w *infoWalk) step(t Token, depth int) string {
	switch t.Kind {
	case TokenStart:
		return w.open(t, depth)
	case TokenEnd:
		w.matched = min(w.matched, depth)
		w.into = nil
		return ""
	}
	// Text counts only directly in the field, not in something inside it.
	if w.into == nil || depth != w.matched {
		return ""
	}
	if len(*w.into)+len(t.Data) > maxDeviceText {
		return "text_too_long"
	}
	text := string(t.Data)
	if t.Kind == TokenOpaque || strings.ContainsFunc(text, unicode.IsControl) {
		return "text_encoding"
	}
	*w.into += text
	return ""
}

func (w *infoWalk) open(t Token, depth int) string {
	if depth == 1 && (t.Tag != tokenRoot || t.Page != PageProvision && t.Page != PageSettings) {
		return "root"
	}
	if depth != w.matched+1 {
		return ""
	}
	switch {
	case depth == 1:
		w.matched = depth
	case t.Page != PageSettings:
	case depth == 2 && t.Tag == tokenDeviceInformation:
		w.matched = depth
	case depth == 3 && t.Tag == tokenSet:
		w.matched = depth
		if w.sets++; w.sets > 1 {
			return "duplicate"
		}
	case depth == 4 && w.info.field(t.Tag) != nil:
		w.matched, w.into = depth, w.info.field(t.Tag)
		if w.seen&(1<<t.Tag) != 0 {
			return "duplicate"
		}
		w.seen |= 1 << t.Tag
	}
	return ""
}
