package edge

import (
	"bytes"
	"crypto/tls"
	"strconv"
)

// framingHeader marks a request whose framing two readers could understand differently. It is put in by guarded; a client that sends it itself is refused
// like one that earned it.
const framingHeader = "X-Postern-Framing"

var (
	framingMark      = []byte(framingHeader + ": conflict\r\n")
	contentLength    = []byte("Content-Length")
	transferEncoding = []byte("Transfer-Encoding")
)

// guarded is an HTTP/1.1 connection whose requests are read along, because net/http passes over what RFC 9112, section 6.3 calls a possible attack:
// Content-Length beside Transfer-Encoding (it drops the first silently). Such a request gets framingHeader, and the front refuses it.
type guarded struct {
	*tls.Conn
	scan    scanner
	pending []byte // read, and not yet handed on
}

// Read implements net.Conn.
func (g *guarded) Read(p []byte) (int, error) {
	if len(g.pending) > 0 {
		n := copy(p, g.pending)
		g.pending = g.pending[n:]
		return n, nil
	}
	n, err := g.Conn.Read(p)
	at := g.scan.feed(p[:n])
	if at < 0 {
		return n, err
	}
	rest := append(bytes.Clone(framingMark), p[at:n]...)
	n = at
	if n == 0 {
		n = copy(p, rest)
		rest = rest[n:]
	}
	g.pending = rest
	return n, nil // an error comes again with the next Read
}

// The states of a scanner.
const (
	inHead = iota
	inBody
	inChunkSize
	inChunkData // with the line end after it
	inTrailer
	passing // not followed any further: the server ends the connection
)

// scanner follows the requests of a connection (RFC 9112, sections 2 to 7). It keeps the beginning of one line, and nothing else.
type scanner struct {
	state     int
	line      []byte // of the current line, at most maxScanned bytes
	first     bool   // a request line was seen
	old       bool   // HTTP/1.0
	lengths   int    // how many Content-Length lines
	length    int64  // -1: not a number
	encodings int    // how many Transfer-Encoding lines
	chunked   bool
	folded    bool // a line began with a blank (obs-fold)
	left      int64
}

const maxScanned = 256

// feed reads b along. It returns the offset at which the empty line that ends a head in conflict begins, or -1; from there on nothing is followed.
func (s *scanner) feed(b []byte) int {
	for i := 0; i < len(b) && s.state != passing; {
		if s.state == inBody || s.state == inChunkData {
			n := min(int64(len(b)-i), s.left)
			s.left -= n
			i += int(n)
			if s.left == 0 {
				s.next()
			}
			continue
		}
		end := bytes.IndexByte(b[i:], '\n')
		if end < 0 {
			s.keep(b[i:])
			break
		}
		s.keep(b[i : i+end])
		line := bytes.TrimSuffix(s.line, []byte("\r"))
		began := i
		if len(s.line) > end {
			began = 0 // the line began in an earlier read
		}
		s.line = s.line[:0] // line is read before it is written again
		i += end + 1
		if s.endOfLine(line) {
			s.state = passing
			return began
		}
	}
	return -1
}

func (s *scanner) keep(b []byte) {
	s.line = append(s.line, b[:min(len(b), maxScanned-len(s.line))]...)
}

// next goes on after a body or a chunk.
func (s *scanner) next() {
	if s.state == inChunkData {
		s.state = inChunkSize
		return
	}
	*s = scanner{line: s.line}
}

// endOfLine takes one line, and reports whether a head in conflict ends with it.
func (s *scanner) endOfLine(line []byte) (conflict bool) {
	switch s.state {
	case inHead:
		return s.headLine(line)
	case inChunkSize:
		digits, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseInt(string(bytes.TrimRight(digits, " \t")), 16, 62)
		switch {
		case err != nil || n < 0:
			s.state = passing
		case n == 0:
			s.state = inTrailer
		default:
			s.state, s.left = inChunkData, n+2
		}
	case inTrailer:
		if len(line) == 0 {
			*s = scanner{line: s.line}
		}
	}
	return false
}

func (s *scanner) headLine(line []byte) (conflict bool) {
	switch {
	case !s.first:
		// Empty lines before a request line are passed over (RFC 9112, section 2.2).
		s.first, s.old = len(line) > 0, bytes.HasSuffix(line, []byte("HTTP/1.0"))
	case len(line) == 0:
		return s.endOfHead()
	case line[0] == ' ' || line[0] == '\t':
		s.folded = true
	default:
		name, value, _ := bytes.Cut(line, []byte(":"))
		name, value = bytes.TrimRight(name, " \t"), bytes.Trim(value, " \t")
		switch {
		case bytes.EqualFold(name, contentLength):
			s.lengths++
			s.length = -1
			if n, err := strconv.ParseUint(string(value), 10, 62); err == nil {
				s.length = int64(n)
			}
		case bytes.EqualFold(name, transferEncoding):
			s.encodings++
			s.chunked = bytes.EqualFold(value, []byte("chunked"))
		}
	}
	return false
}

func (s *scanner) endOfHead() (conflict bool) {
	switch {
	case s.folded || s.lengths > 1 || s.encodings > 1 || s.encodings > 0 && (s.lengths > 0 || s.old):
		return true
	case s.encodings > 0 && !s.chunked || s.lengths > 0 && s.length < 0:
		// The server itself refuses these, and ends the connection.
		s.state = passing
	case s.chunked:
		*s = scanner{line: s.line, state: inChunkSize}
	case s.length > 0:
		*s = scanner{line: s.line, state: inBody, left: s.length}
	default:
		*s = scanner{line: s.line}
	}
	return false
}
