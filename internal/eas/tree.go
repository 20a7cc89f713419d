package eas

import (
	"errors"
	"fmt"
	"io"
)

// maxElements bounds the memory of one decoded tree: a document of nothing but tags would cost a hundred times its size.
const maxElements = 16 << 10

// Element is an element of a decoded document.
type Element struct {
	Page     Page
	Token    byte
	Name     string // "page:token" in hexadecimal where the name is not known
	Text     string // the strings and opaque bytes directly in the element, joined
	Children []*Element
}

// Decode reads a whole document into a tree. limit is its size in bytes, 0 for [DefaultMaxBytes]; one string may be as
// long. The error is a [*WBXMLError].
func Decode(body []byte, limit int) (*Element, error) {
	if limit <= 0 {
		limit = DefaultMaxBytes
	}
	r, err := NewReader(body, Limits{Bytes: limit, Text: limit})
	if err != nil {
		return nil, err
	}
	open := []frame{{element: &Element{}}}
	for n := 0; ; {
		t, err := r.Next()
		if errors.Is(err, io.EOF) {
			return open[0].element.Children[0], nil
		}
		if err != nil {
			return nil, err
		}
		inner := &open[len(open)-1]
		switch t.Kind {
		case TokenStart:
			if n++; n > maxElements {
				return nil, r.refuse("too_large")
			}
			child := newElement(t)
			inner.element.Children = append(inner.element.Children, child)
			open = append(open, frame{element: child})
		case TokenEnd:
			inner.element.Text = string(inner.text)
			open = open[:len(open)-1]
		default:
			inner.text = append(inner.text, t.Data...)
		}
	}
}

// frame is an element that is still open, with its text so far.
type frame struct {
	element *Element
	text    []byte
}

func newElement(t Token) *Element {
	name := t.Page.Name(t.Tag)
	if name == "" {
		name = fmt.Sprintf("%02X:%02X", byte(t.Page), t.Tag)
	}
	return &Element{Page: t.Page, Token: t.Tag, Name: name}
}

// Find follows names of children downwards, the first of each name, and gives nil where there is none. It may be called
// on nil, so that calls can be chained.
func (e *Element) Find(path ...string) *Element {
	for _, name := range path {
		if e = e.child(name); e == nil {
			return nil
		}
	}
	return e
}

// All gives the children of one name.
func (e *Element) All(name string) []*Element {
	var all []*Element
	if e != nil {
		for _, c := range e.Children {
			if c.Name == name {
				all = append(all, c)
			}
		}
	}
	return all
}

// Value gives the text of the element at the end of the path, "" where there is none.
func (e *Element) Value(path ...string) string {
	if found := e.Find(path...); found != nil {
		return found.Text
	}
	return ""
}

func (e *Element) child(name string) *Element {
	if e != nil {
		for _, c := range e.Children {
			if c.Name == name {
				return c
			}
		}
	}
	return nil
}
