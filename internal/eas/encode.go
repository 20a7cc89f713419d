package eas

import (
	"errors"
	"fmt"
	"strings"
)

// Encoder writes a WBXML document. Its methods may be chained; the first mistake is kept and comes out of [Encoder.Bytes].
type Encoder struct {
	buf   []byte
	page  Page
	depth int
	err   error
}

// NewEncoder starts a document with its header.
func NewEncoder() *Encoder { return &Encoder{buf: []byte(header)} }

// Start opens an element by its name in a page and switches to the page where needed.
func (e *Encoder) Start(p Page, name string) *Encoder {
	if token, ok := e.token(p, name); ok {
		e.start(p, token)
	}
	return e
}

// Empty writes an element without content.
func (e *Encoder) Empty(p Page, name string) *Encoder {
	if token, ok := e.token(p, name); ok {
		e.switchTo(p)
		e.buf = append(e.buf, token)
	}
	return e
}

// Element writes an element that holds a text and nothing else.
func (e *Encoder) Element(p Page, name, text string) *Encoder {
	return e.Start(p, name).Text(text).End()
}

// Text writes a string, which must not hold a NUL.
func (e *Encoder) Text(s string) *Encoder {
	if strings.Contains(s, "\x00") {
		e.fail(errors.New("a string with a NUL"))
		return e
	}
	e.buf = append(append(append(e.buf, byteString), s...), 0)
	return e
}

// Opaque writes bytes as they are.
func (e *Encoder) Opaque(b []byte) *Encoder {
	e.buf = append(e.buf, byteOpaque)
	shift := 0
	for n := uint64(len(b)) >> 7; n > 0; n >>= 7 {
		shift += 7
	}
	for ; shift > 0; shift -= 7 {
		e.buf = append(e.buf, byte(len(b)>>shift)|0x80)
	}
	e.buf = append(e.buf, byte(len(b))&0x7F)
	e.buf = append(e.buf, b...)
	return e
}

// End closes the element opened last.
func (e *Encoder) End() *Encoder {
	if e.depth == 0 {
		e.fail(errors.New("an end without a start"))
		return e
	}
	e.depth--
	e.buf = append(e.buf, byteEnd)
	return e
}

// Bytes gives the document, or says what was wrong with it: an unknown name, a NUL in a string, elements left open.
func (e *Encoder) Bytes() ([]byte, error) {
	if e.depth != 0 {
		e.fail(fmt.Errorf("%d elements left open", e.depth))
	}
	if e.err != nil {
		return nil, e.err
	}
	return e.buf, nil
}

func (e *Encoder) token(p Page, name string) (byte, bool) {
	token, ok := p.Token(name)
	if !ok {
		e.fail(fmt.Errorf("page %d has no element %q", p, name))
	}
	return token, ok
}

func (e *Encoder) start(p Page, token byte) {
	e.switchTo(p)
	e.depth++
	e.buf = append(e.buf, token|bitContent)
}

func (e *Encoder) switchTo(p Page) {
	if p != e.page {
		e.buf = append(e.buf, byteSwitch, byte(p))
		e.page = p
	}
}

func (e *Encoder) fail(err error) {
	if e.err == nil {
		e.err = fmt.Errorf("write WBXML: %w", err)
	}
}
