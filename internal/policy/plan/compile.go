package plan

import (
	"fmt"
	"maps"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// step is one statement. It returns next to go on, the number of blocks to leave, or stop or returned.
type step func(s *state, l []*ast.Term) int

const (
	next     = 0
	leave    = 1  // the block that the statement is in: it is undefined
	stop     = -1 // the evaluation has failed, or its time is over
	returned = -2 // the function has returned: its value is in the state
)

// function is a rule, or all rules of a name.
type function struct {
	index  int
	params []ir.Local
	size   int  // locals
	once   bool // depends on nothing but input and data
	blocks [][]step
}

// fact is what is known at load about a local: its value, the path of the input that it is, or that it is a base document, in which OPA looks otherwise.
type fact struct {
	value *ast.Term
	path  int // 0: none
	base  bool
}

// compiler makes the steps of one function after the other.
type compiler struct {
	p         *Program
	static    *ir.Static
	funcs     map[string]*function
	tree      *tree // of the functions that are documents, for calls by a path that is known only in the evaluation
	builtins  map[string]*ir.BuiltinFunc
	strings   []*ast.Term
	pathIndex map[pathKey]int

	facts    map[ir.Local]fact
	needed   map[ir.Local]bool // locals that are read as such
	building map[ir.Local]bool // arrays of comprehensions
	grows    map[ir.Local]bool // collections that get elements
	first    bool              // pass, which finds out what is needed
	locals   int
	depth    int       // blocks that may be left
	result   ir.Local  // of the rules of a function that all say the same
	same     *ast.Term // which they say; nil if they differ
}

func compile(p *Program, policy *ir.Policy) error {
	c := &compiler{p: p, static: policy.Static, funcs: map[string]*function{}, builtins: map[string]*ir.BuiltinFunc{}, tree: &tree{}, pathIndex: map[pathKey]int{}}
	for _, s := range policy.Static.Strings {
		c.strings = append(c.strings, ast.InternedTerm(s.Value))
	}
	for _, b := range policy.Static.BuiltinFuncs {
		c.builtins[b.Name] = b
	}
	p.replaces = replaces(policy)
	p.paths = make([]path, wholeInput+1)
	for _, f := range policy.Funcs.Funcs {
		fn := &function{index: len(p.funcs), params: f.Params, once: len(f.Params) == 2}
		p.funcs = append(p.funcs, fn)
		c.funcs[f.Name] = fn
		if len(f.Path) > 0 && fn.once {
			c.tree.add(f.Path, fn)
		}
	}
	for _, f := range policy.Funcs.Funcs {
		fn := c.funcs[f.Name]
		if len(f.Params) < 2 || f.Params[0] != ir.Input || f.Params[1] != ir.Data {
			return fmt.Errorf("%s: not a function of input and data", f.Name)
		}
		c.result, c.same = c.agreed(f)
		var err error
		if fn.blocks, fn.size, err = c.function(f.Params, f.Blocks); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		c.same = nil
	}
	var err error
	p.steps, p.size, err = c.function([]ir.Local{ir.Input, ir.Data}, policy.Plans.Plans[0].Blocks)
	return err
}

// function compiles blocks twice: what the first time finds out about locals, the second makes use of.
func (c *compiler) function(params []ir.Local, blocks []*ir.Block) (out [][]step, size int, err error) {
	c.needed, c.grows = map[ir.Local]bool{}, growing(blocks)
	for _, c.first = range []bool{true, false} {
		c.facts, c.building, c.locals, c.depth = map[ir.Local]fact{}, map[ir.Local]bool{}, 2, 0
		for _, l := range params {
			c.local(l)
		}
		c.facts[ir.Data] = fact{base: true}
		if !c.p.replaces {
			c.facts[ir.Input], c.facts[ir.Data] = fact{path: wholeInput}, fact{base: true, value: c.p.data}
		}
		if out, err = c.blocks(blocks); err != nil {
			return nil, 0, err
		}
	}
	return out, c.locals, nil
}

// local notes that a function has a local.
func (c *compiler) local(l ir.Local) int {
	c.locals = max(c.locals, int(l)+1)
	return int(l)
}

// write notes that a local gets a value of which nothing is known.
func (c *compiler) write(l ir.Local) int {
	delete(c.facts, l)
	return c.local(l)
}

// blocks compiles blocks that are run one after the other, each from what is known before all of them. What is known of a local that any of them writes is
// forgotten behind them.
func (c *compiler) blocks(list []*ir.Block) ([][]step, error) {
	before := c.facts
	after := maps.Clone(before)
	var out [][]step
	c.depth++
	for _, b := range list {
		c.facts = maps.Clone(before)
		steps, err := c.block(b)
		if err != nil {
			return nil, err
		}
		out = append(out, steps)
		for l := range before {
			if c.facts[l] != before[l] {
				delete(after, l)
			}
		}
		before = maps.Clone(after)
	}
	c.depth--
	c.facts = after
	return out, nil
}

func (c *compiler) block(b *ir.Block) ([]step, error) {
	var out []step
	for i := 0; i < len(b.Stmts); {
		steps, n, err := c.several(b.Stmts[i:])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			n = 1
			one, err := c.statement(b.Stmts[i])
			if err != nil {
				return nil, err
			}
			if one != nil {
				steps = []step{one}
			}
		}
		out = append(out, steps...)
		i += n
	}
	return out, nil
}

// nested compiles a block within a statement.
func (c *compiler) nested(b *ir.Block) ([]step, error) {
	out, err := c.blocks([]*ir.Block{b})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// run runs the statements of a block.
func (s *state) run(steps []step, l []*ast.Term) int {
	for _, f := range steps {
		if r := f(s, l); r != next {
			return r
		}
	}
	return next
}

// runBlocks runs blocks one after the other. Each may be undefined; leaving more than one leaves those around them.
func (s *state) runBlocks(blocks [][]step, l []*ast.Term) int {
	for _, b := range blocks {
		if r := s.run(b, l); r < 0 {
			return r
		} else if r > leave {
			return r - 1
		}
	}
	return next
}
