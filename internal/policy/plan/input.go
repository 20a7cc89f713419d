package plan

import "github.com/open-policy-agent/opa/v1/ast"

// Input is what a program is asked about. Making all of it into a value costs more than most evaluations, so it is asked for by its parts.
type Input struct {
	// Whole makes the input as a value. It is called once at the most, by a policy that reads it as a whole or a part that Parts do not know. Nil: there is
	// no input.
	Whole func() *ast.Term
	Parts Parts // may be nil
}

// Parts are what the input has at the paths of Program.Paths, by their numbers, as far as they are known by themselves. They have to be what Whole has there.
// Most conditions compare texts and numbers, for which no value has to be made.
type Parts interface {
	Kind(path int) Kind           // what is known of the part; KindUnknown: only Whole has it
	Term(path int) *ast.Term      // of every kind that is known
	Text(path int) string         // of KindText
	Number(path int) int64        // of KindNumber
	Set(path int) map[string]bool // of KindSet: an object of booleans
}

// Kind is what a part is.
type Kind uint8

// The kinds of parts.
const (
	KindUnknown Kind = iota
	KindTerm         // a value of any type
	KindText
	KindNumber
	KindSet
)

// Whole is an input that is a value already.
func Whole(v ast.Value) Input {
	if v == nil {
		return Input{}
	}
	return Input{Whole: func() *ast.Term { return ast.NewTerm(v) }}
}

// wholeInput is the number of the path that leads to the input itself.
const wholeInput = 1

// path is a part of the input that is read by its whole name. Each is looked up once in an evaluation.
type path struct {
	above int // 0: none
	key   *ast.Term
}

type pathKey struct {
	above int
	key   string
}

// Paths returns the names on the way to every part of the input that the program reads by its whole name, by the number of the path. The input itself, and what
// is no path, have no names.
func (p *Program) Paths() [][]string {
	all := make([][]string, len(p.paths))
	for i := wholeInput + 1; i < len(all); i++ {
		above := all[p.paths[i].above]
		all[i] = append(above[:len(above):len(above)], string(p.paths[i].key.Value.(ast.String)))
	}
	return all
}

// pathOf returns the number of a path, which a key that is text makes of the path above.
func (c *compiler) pathOf(above int, key *ast.Term) (int, bool) {
	name, ok := key.Value.(ast.String)
	if !ok {
		return 0, false
	}
	k := pathKey{above, string(name)}
	n, ok := c.pathIndex[k]
	if !ok {
		n = len(c.p.paths)
		c.p.paths = append(c.p.paths, path{above: above, key: key})
		c.pathIndex[k] = n
	}
	return n, true
}

// missing stands for a path of the input that leads nowhere.
var missing = ast.NullTerm()

// at returns what the input has at a path, nil for nothing.
func (s *state) at(n int) *ast.Term {
	t := s.paths[n]
	if t == nil {
		t = s.lookUp(n)
		s.paths[n] = t
	}
	if t == missing {
		return nil
	}
	return t
}

// kind returns what is known of a path by itself.
func (s *state) kind(n int) Kind {
	if s.in.Parts == nil || n <= wholeInput {
		return KindUnknown
	}
	return s.in.Parts.Kind(n)
}

// defined reports whether there is anything at a path.
func (s *state) defined(n int) bool {
	return s.paths[n] == nil && s.kind(n) > KindTerm || s.at(n) != nil
}

func (s *state) lookUp(n int) *ast.Term {
	var t *ast.Term
	if n == wholeInput {
		if s.in.Whole != nil {
			t = s.in.Whole()
		}
	} else {
		if s.kind(n) != KindUnknown {
			t = s.in.Parts.Term(n)
		} else {
			p := &s.p.paths[n]
			t = get(s.at(p.above), p.key)
		}
	}
	if t == nil {
		return missing
	}
	return t
}
