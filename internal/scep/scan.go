package scep

import (
	"encoding/asn1"
)

// Limits of Scan. A PKCSReq has about 120 elements and a depth of 10; a renewal
// signed under a chain of five certificates has about 600.
const (
	maxDepth    = 16
	maxElements = 4096
)

// Scan walks a BER or DER message without parsing it and refuses what no SCEP
// client sends, before a CMS parser sees a byte: more than MaxMessage bytes,
// nesting deeper than 16, more than 4096 elements, lengths that do not fit,
// tags that CMS does not use, and trailing data. It takes linear time, does not
// recurse and allocates nothing for a message that it accepts. Indefinite lengths and
// segmented OCTET STRINGs, which BER permits and some clients send, pass. The
// error is a *Malformed.
func Scan(der []byte) error {
	return walk(der, func(element) {})
}

// element is one event of walk.
type element struct {
	kind    elementKind
	tag     byte   // identifier octet; always low-tag-number form
	content []byte // of a primitive
}

type elementKind int

const (
	primitive elementKind = iota
	segment               // a piece of a segmented OCTET STRING
	opening               // start of a constructed element
	closing               // its end
)

// frame is a constructed element that is not finished.
type frame struct {
	tag        byte
	end        int // of the content; of the enclosing content while indefinite
	indefinite bool
}

const (
	tagOctetString          = 0x04
	tagSegmentedOctetString = 0x24
	tagSequence             = 0x30
)

// walk calls visit for each element in the order of the encoding.
func walk(ber []byte, visit func(element)) error {
	if len(ber) > MaxMessage {
		return malformed("%d bytes, more than %d", len(ber), MaxMessage)
	}
	var stack [maxDepth]frame
	depth, pos := 0, 0
	for count := 0; ; count++ {
		for depth > 0 && !stack[depth-1].indefinite && pos == stack[depth-1].end {
			depth--
			visit(element{kind: closing, tag: stack[depth].tag})
		}
		if depth == 0 && count > 0 {
			break
		}
		if count == maxElements {
			return malformed("more than %d elements", maxElements)
		}
		outer := frame{end: len(ber)}
		if depth > 0 {
			outer = stack[depth-1]
		}
		if outer.indefinite && outer.end-pos >= 2 && ber[pos] == 0 && ber[pos+1] == 0 {
			pos += 2
			depth--
			visit(element{kind: closing, tag: outer.tag})
			continue
		}
		h, err := readHeader(ber[pos:outer.end], outer.tag)
		if err != nil {
			return err
		}
		if depth == 0 && h.tag != tagSequence {
			return malformed("not a SEQUENCE")
		}
		pos += h.size
		if h.tag&0x20 == 0 {
			kind := primitive
			if outer.tag == tagSegmentedOctetString {
				kind = segment
			}
			visit(element{kind: kind, tag: h.tag, content: ber[pos : pos+h.length]})
			pos += h.length
			continue
		}
		if depth == maxDepth {
			return malformed("nested deeper than %d", maxDepth)
		}
		stack[depth] = frame{tag: h.tag, end: pos + h.length, indefinite: h.indefinite}
		depth++
		visit(element{kind: opening, tag: h.tag})
	}
	if pos != len(ber) {
		return malformed("%d bytes after its end", len(ber)-pos)
	}
	return nil
}

// header is an identifier and a length (X.690, sections 8.1.2 and 8.1.3).
type header struct {
	tag        byte
	size       int // of identifier and length octets
	length     int // of the content, at most the space there is; all of it if indefinite
	indefinite bool
}

// readHeader reads the header at the start of b, which ends where the enclosing
// element ends. outer is the enclosing element's tag.
func readHeader(b []byte, outer byte) (header, error) {
	if len(b) < 2 {
		return header{}, malformed("cut off")
	}
	h := header{tag: b[0], size: 2, length: int(b[1])}
	if err := checkTag(h.tag, outer); err != nil {
		return h, err
	}
	switch {
	case b[1] == 0x80:
		if h.tag&0x20 == 0 {
			return h, malformed("a primitive of indefinite length")
		}
		h.length, h.indefinite = len(b)-h.size, true
	case b[1] > 0x80:
		n := int(b[1] & 0x7f)
		if n > 4 {
			return h, malformed("a length of %d octets", n)
		}
		if len(b) < 2+n {
			return h, malformed("cut off")
		}
		h.size, h.length = 2+n, 0
		for _, c := range b[2 : 2+n] {
			if h.length > MaxMessage {
				break // refused below; and never overflows
			}
			h.length = h.length<<8 | int(c)
		}
	}
	if h.length > len(b)-h.size {
		return h, malformed("an element longer than what it is in")
	}
	return h, nil
}

// checkTag refuses identifiers that CMS, PKCS #10 and X.509 do not use.
func checkTag(tag, outer byte) error {
	number, constructed, universal := tag&0x1f, tag&0x20 != 0, tag&0xc0 == 0
	switch {
	case number == 0x1f:
		return malformed("a tag number above 30")
	case outer == tagSegmentedOctetString && tag != tagOctetString:
		return malformed("tag %#02x inside an OCTET STRING", tag)
	case !universal:
		return nil
	case number == 0:
		return malformed("an end-of-contents out of place")
	case number == asn1.TagSequence || number == asn1.TagSet:
		if !constructed {
			return malformed("a primitive with tag %#02x", tag)
		}
	case constructed && tag != tagSegmentedOctetString:
		return malformed("a constructed element with tag %#02x", tag)
	}
	return nil
}

// normalize scans a message and writes it again with definite, shortest lengths
// and whole OCTET STRINGs. The parsers behind it then see DER of our making,
// and cannot read the message differently from the way it was checked.
// A segmented string under an implicit tag cannot be told from other
// constructed elements and stays (see encryptedContentInfo.ciphertext).
func normalize(ber []byte) ([]byte, error) {
	elements := make([]element, 0, 256)
	if err := walk(ber, func(e element) { elements = append(elements, e) }); err != nil {
		return nil, err
	}
	// From the end, each element's length is known when its header is due.
	// Shortest lengths never take more room than what was read.
	out := make([]byte, len(ber))
	var ends [maxDepth]int
	depth, at := 0, len(out)
	for i := len(elements) - 1; i >= 0; i-- {
		e := elements[i]
		switch e.kind {
		case closing:
			ends[depth] = at
			depth++
		case opening:
			depth--
			tag := e.tag
			if tag == tagSegmentedOctetString {
				tag = tagOctetString
			}
			at = putHeader(out, at, tag, ends[depth]-at)
		default:
			at -= len(e.content)
			copy(out[at:], e.content)
			if e.kind == primitive {
				at = putHeader(out, at, e.tag, len(e.content))
			}
		}
	}
	return out[at:], nil
}

// putHeader writes tag and length to the left of position at and returns where
// they start.
func putHeader(out []byte, at int, tag byte, length int) int {
	if length < 0x80 {
		at--
		out[at] = byte(length)
	} else {
		n := byte(0)
		for ; length > 0; length >>= 8 {
			at--
			out[at] = byte(length)
			n++
		}
		at--
		out[at] = 0x80 | n
	}
	at--
	out[at] = tag
	return at
}
