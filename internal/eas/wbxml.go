package eas

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
)

// Limits bounds what a [Reader] reads. A zero field means its default.
type Limits struct {
	Bytes int // the whole document; 64 KiB
	Depth int // elements inside each other; 32
	Text  int // one string or opaque, in bytes; 32 KiB
}

// The defaults of [Limits].
const (
	DefaultMaxBytes = 64 << 10
	DefaultMaxDepth = 32
	DefaultMaxText  = 32 << 10
)

// WBXMLError is a document that is refused. It holds nothing of the document.
type WBXMLError struct {
	Offset int    // of the byte that was refused
	Reason string // a stable code: too_large, header, token, page, depth, text_too_long, text_encoding, truncated, unbalanced, trailing, duplicate, root
}

func (e *WBXMLError) Error() string {
	return fmt.Sprintf("read WBXML: %s at byte %d", e.Reason, e.Offset)
}

// TokenKind is what a [Token] is.
type TokenKind uint8

// The kinds of token. An element without content is a TokenStart and a TokenEnd too.
const (
	TokenStart TokenKind = iota + 1
	TokenEnd
	TokenText
	TokenOpaque
)

// Token is one step of the walk through a document.
type Token struct {
	Kind TokenKind
	Page Page   // of a TokenStart
	Tag  byte   // of a TokenStart, without the content bit
	Data []byte // of a TokenText or TokenOpaque; part of the body, not a copy
}

// The bytes of WBXML that ActiveSync uses (MS-ASWBXML, section 2.1.2.2; WBXML 1.3, section 7.1).
const (
	header        = "\x03\x01\x6a\x00"
	byteSwitch    = 0x00
	byteEnd       = 0x01
	byteString    = 0x03
	byteOpaque    = 0xC3
	bitContent    = 0x40
	bitAttributes = 0x80
	firstTag      = 0x05
)

// Reader walks through a WBXML document of ActiveSync. It knows SWITCH_PAGE, END, STR_I and OPAQUE and refuses every
// other global token, attributes and string tables. It does not recurse, and keeps nothing but a position and a depth.
type Reader struct {
	body   []byte
	at     int
	limits Limits
	page   Page
	depth  int
	empty  bool // the last element had no content: its end comes next
	begun  bool
}

// NewReader checks the size and the header of a document. The error is a [*WBXMLError].
func NewReader(body []byte, limits Limits) (*Reader, error) {
	limits = limits.withDefaults()
	r := &Reader{body: body, limits: limits}
	if len(body) > limits.Bytes {
		return nil, r.refuse("too_large")
	}
	if !bytes.HasPrefix(body, []byte(header)) {
		return nil, r.refuse("header")
	}
	r.at = len(header)
	return r, nil
}

func (l Limits) withDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = DefaultMaxBytes
	}
	if l.Depth <= 0 {
		l.Depth = DefaultMaxDepth
	}
	if l.Text <= 0 {
		l.Text = DefaultMaxText
	}
	return l
}

// Depth says how many elements are open.
func (r *Reader) Depth() int { return r.depth }

// Next gives the next token, and [io.EOF] after the end of the one root element. Any other error is a [*WBXMLError].
func (r *Reader) Next() (Token, error) {
	if r.empty {
		r.empty = false
		r.depth--
		return Token{Kind: TokenEnd}, nil
	}
	if r.begun && r.depth == 0 {
		if r.at != len(r.body) {
			return Token{}, r.refuse("trailing")
		}
		return Token{}, io.EOF
	}
	for r.at < len(r.body) {
		b := r.body[r.at]
		if b != byteSwitch {
			return r.token(b)
		}
		if r.at+1 >= len(r.body) {
			break
		}
		if r.page = Page(r.body[r.at+1]); r.page > lastPage {
			return Token{}, r.refuse("page")
		}
		r.at += 2
	}
	return Token{}, r.refuse("truncated")
}

func (r *Reader) token(b byte) (Token, error) {
	switch {
	case b == byteEnd:
		if r.depth == 0 {
			return Token{}, r.refuse("unbalanced")
		}
		r.at++
		r.depth--
		return Token{Kind: TokenEnd}, nil
	case b == byteString:
		return r.text()
	case b == byteOpaque:
		return r.opaque()
	case b&bitAttributes != 0 || b&^bitContent < firstTag:
		return Token{}, r.refuse("token")
	case r.depth >= r.limits.Depth:
		return Token{}, r.refuse("depth")
	}
	r.at++
	r.depth++
	r.begun = true
	r.empty = b&bitContent == 0
	return Token{Kind: TokenStart, Page: r.page, Tag: b &^ bitContent}, nil
}

// text reads an inline string, which ends with a NUL.
func (r *Reader) text() (Token, error) {
	rest := r.body[r.at+1:]
	end := bytes.IndexByte(rest[:min(len(rest), r.limits.Text+1)], 0)
	switch {
	case r.depth == 0:
		return Token{}, r.refuse("unbalanced")
	case end < 0 && len(rest) > r.limits.Text:
		return Token{}, r.refuse("text_too_long")
	case end < 0:
		return Token{}, r.refuse("truncated")
	case !utf8.Valid(rest[:end]):
		return Token{}, r.refuse("text_encoding")
	}
	r.at += end + 2
	return Token{Kind: TokenText, Data: rest[:end:end]}, nil
}

// opaque reads bytes that are preceded by their length, a multi-byte integer of at most five bytes (WBXML 1.3, section 5.1).
func (r *Reader) opaque() (Token, error) {
	if r.depth == 0 {
		return Token{}, r.refuse("unbalanced")
	}
	length, at := uint64(0), r.at+1
	for i := 0; ; i++ {
		if at >= len(r.body) {
			return Token{}, r.refuse("truncated")
		}
		if i == 5 {
			return Token{}, r.refuse("text_too_long")
		}
		b := r.body[at]
		at++
		length = length<<7 | uint64(b&0x7F)
		if b&0x80 == 0 {
			break
		}
	}
	switch {
	case length > uint64(r.limits.Text):
		return Token{}, r.refuse("text_too_long")
	case length > uint64(len(r.body)-at):
		return Token{}, r.refuse("truncated")
	}
	end := at + int(length)
	r.at = end
	return Token{Kind: TokenOpaque, Data: r.body[at:end:end]}, nil
}

func (r *Reader) refuse(reason string) *WBXMLError { return &WBXMLError{Offset: r.at, Reason: reason} }
