package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"postern/internal/policy/plan"
	"postern/internal/trust"
)

// Engine is one policy, compiled and proved on the samples. It never changes and may be used by any number of goroutines.
type Engine struct {
	queries  map[string]*rego.PreparedEvalQuery // by entry point
	plans    map[string]*plan.Program           // the same questions, for what can be planned
	parts    []accessPart                       // that the plan about access reads
	config   map[string]*ast.Term               // data.postern.config.ENTRY, for the sentences
	timeout  time.Duration
	digest   string
	codes    map[string]string // of the reasons that the rules of teams give, and where
	computes bool              // some of them are not known before
	replaced bool
	counts   bool // enrolments may depend on the number of the owner's devices
	clock    clockReads
	around   surroundings
	faults   *faults // that it has made
	left     *leftToOPA
	cache    *cache  // of decisions about access
	shadow   *Shadow // is handed what was decided anew; nil for none
}

// Load reads, checks and compiles a policy and lets it decide every sample input. A policy that is not accepted is a *CheckError with every problem
// found; any other error is about reading the files.
func Load(ctx context.Context, o Options) (*Engine, error) {
	e, problems, err := load(ctx, o)
	if err != nil {
		return nil, err
	}
	if len(problems) == 0 {
		_, problems = e.prove(ctx)
	}
	if len(problems) > 0 {
		return nil, &CheckError{Problems: problems}
	}
	return e, nil
}

func load(ctx context.Context, o Options) (*Engine, []Problem, error) {
	src, problems, err := read(o)
	if err != nil {
		return nil, nil, err
	}
	p, more := parse(src)
	if problems = append(problems, more...); len(problems) > 0 {
		problems = append(problems, p.beyond(ctx, problems)...)
		return nil, sortProblems(problems), ctx.Err()
	}
	return p.engine(ctx, o)
}

// engine compiles the program for every entry point.
func (p *program) engine(ctx context.Context, o Options) (*Engine, []Problem, error) {
	e := &Engine{queries: map[string]*rego.PreparedEvalQuery{}, plans: map[string]*plan.Program{}, config: map[string]*ast.Term{}, timeout: o.Timeout, digest: p.digest(), replaced: p.replaced,
		around: p.surroundings(), faults: &faults{}, left: &leftToOPA{log: o.Log}, cache: newCache(),
		counts: p.replaced || fmt.Sprint(settingsOf(p.data, "enroll")["max_devices"]) != "0"}
	e.codes, e.computes = p.teamCodes()
	if e.timeout <= 0 {
		e.timeout = DefaultTimeout
	}
	var problems []Problem
	for _, entry := range entries {
		query, planned, clock, found, err := p.prepare(ctx, entry)
		if err != nil {
			return nil, nil, err
		}
		problems = append(problems, found...)
		e.queries[entry], e.plans[entry] = query, planned
		e.config[entry] = configOf(p.data, entry)
		if entry == "access" {
			e.clock = clock
			if planned != nil {
				e.parts = accessParts(planned.Paths())
			}
		}
	}
	if len(problems) > 0 {
		return nil, sortProblems(append(problems, p.beyond(ctx, problems)...)), ctx.Err()
	}
	return e, nil, nil
}

func configOf(data map[string]any, entry string) *ast.Term {
	product, _ := data["postern"].(map[string]any)
	config, _ := product["config"].(map[string]any)
	v, err := ast.InterfaceToValue(config[entry])
	if err != nil {
		return ast.NullTerm()
	}
	return ast.NewTerm(v)
}

func sortProblems(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column)
	})
	return slices.Compact(problems)
}

// Digest identifies the policies and data that decide: 16 digits of lower-case hex, the same for the same files everywhere.
func (e *Engine) Digest() string { return e.digest }

// CountsDevices reports whether enrolments may depend on how many devices the owner has: enroll.max_devices is set, or the built-in policies are not in use.
func (e *Engine) CountsDevices() bool { return e.counts }

// Replaced reports whether the built-in policies are not in use.
func (e *Engine) Replaced() bool { return e.replaced }

// Access decides about one request at the edge. Every error is a *Fault. A decision about a certificate that the registry knows is remembered under all
// facts but the clock for as long as it holds, so what it returns is shared: it must not be changed.
func (e *Engine) Access(ctx context.Context, in *AccessInput) (Decision, error) {
	j, err := e.Judge(ctx, in)
	return j.Decision, err
}

// Judgement is a decision about access, and how it came about.
type Judgement struct {
	Decision
	Fresh bool  // the policy was asked, not only remembered
	Until int64 // Unix seconds: before then the same facts but the clock are decided the same, by this Engine; 0 where that cannot be said

	// Of a fresh allow about a certificate what RecordKey returns, and of one without reasons also what Record does: both cost little here.
	RecordKey string
	Record    []byte
}

// Judge is Access, and says more.
func (e *Engine) Judge(ctx context.Context, in *AccessInput) (Judgement, error) {
	if in == nil || e.cache == nil || in.Certificate.Status == "" || in.Certificate.Status == "none" {
		d, err := e.decideAccess(ctx, in)
		if e.shadow != nil {
			e.shadow.offerAccess(in, e.digest, &d, err)
		}
		return Judgement{Decision: d, Fresh: true}, err
	}
	in = e.surrounded(in)
	var room [factsRoom]byte
	facts := in.append(room[:0])
	key := certificateKey{in.Certificate.Issuer, in.Certificate.Serial}
	sum, digest := in.sums(facts, e.clock.snapshot)
	if d, until, ok := e.cache.get(key, &digest, in.Now); ok {
		if e.clock.snapshot {
			until = 0 // the age of what the registry said is a fact that goes by
		}
		return Judgement{Decision: d, Until: until}, nil
	}
	d, err := e.ask(ctx, in)
	shadowed := e.shadow == nil || e.shadow.offerAccess(in, e.digest, &d, err)
	if err == nil {
		until := e.holdsUntil(&d, in.Now)
		if !shadowed {
			until = min(until, in.Now+shadowAgain)
		}
		if until > in.Now {
			e.cache.put(key, remembered{digest: digest, from: in.Now, until: until, decision: d})
		}
	}
	out := Judgement{Decision: d, Fresh: true}
	if err == nil && d.Action == trust.Allow {
		if out.RecordKey = string(sum[:recordKeySize]); len(d.Reasons) == 0 {
			out.Record = in.record(facts)
		}
	}
	return out, err
}

// UsedAgain counts a decision that was used again before the Until of its Judgement without asking.
func (e *Engine) UsedAgain() { e.cache.again.Add(1) }

// decideAccess asks the policy, whatever is remembered.
func (e *Engine) decideAccess(ctx context.Context, in *AccessInput) (Decision, error) {
	return e.ask(ctx, e.surrounded(in))
}

// ask decides about an input that has the facts of this policy's data.
func (e *Engine) ask(ctx context.Context, in *AccessInput) (Decision, error) {
	return e.decide(ctx, e.aboutAccess(in))
}

// CacheStats returns how often a decision was remembered.
func (e *Engine) CacheStats() CacheStats { return e.cache.stats() }

// Restless reports whether the clock may change a decision before its ValidUntil: the policy reads input.now in a rule for which nothing says how long it
// holds, such as one about the time of day.
func (e *Engine) Restless(d Decision) bool {
	return e.clock.untold || e.clock.told && d.ValidUntil == 0
}

// Enroll decides about one SCEP request. Every error is a *Fault.
func (e *Engine) Enroll(ctx context.Context, in *EnrollInput) (Decision, error) {
	d, err := e.decide(ctx, &question{entry: "enroll", whole: func() *ast.Term { return e.surroundedEnrol(in).value() }})
	if e.shadow != nil {
		e.shadow.offerEnroll(in, e.digest, &d, err)
	}
	return d, err
}

// Eval decides about an input in JSON, for "access", "enroll" or "lifecycle". A field that the contract does not have, or that is said twice, is an error; one that is missing is empty. An
// error of the policy is a *Fault, any other is about the input.
func (e *Engine) Eval(ctx context.Context, entry string, inputJSON []byte) (Decision, error) {
	switch entry {
	case "access":
		var in AccessInput
		if err := decodeInput(inputJSON, &in); err != nil {
			return Decision{}, fmt.Errorf("read input: %w", err)
		}
		return e.Access(ctx, &in)
	case "enroll":
		var in EnrollInput
		if err := decodeInput(inputJSON, &in); err != nil {
			return Decision{}, fmt.Errorf("read input: %w", err)
		}
		return e.Enroll(ctx, &in)
	case "lifecycle":
		var in LifecycleInput
		if err := decodeInput(inputJSON, &in); err != nil {
			return Decision{}, fmt.Errorf("read input: %w", err)
		}
		return e.Lifecycle(ctx, &in)
	}
	return Decision{}, fmt.Errorf("no entry point %q: use access, enroll or lifecycle", entry)
}

// decide is the barrier: whatever goes wrong behind it, panics included, is a fault.
func (e *Engine) decide(ctx context.Context, q *question) (d Decision, err error) {
	digest := ""
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
		if err != nil {
			d, err = Decision{}, &Fault{Entry: q.entry, Policy: digest, Err: err}
			e.faults.add(err)
		}
	}()
	digest = e.digest
	if err := ctx.Err(); err != nil {
		return d, err
	}
	answer, err := e.evaluate(ctx, q)
	if err != nil {
		return d, err
	}
	d, err = e.decision(q, answer)
	d.Policy = digest
	return d, err
}
