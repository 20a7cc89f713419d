package policy

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// What a rule says in so many words is checked before it decides. A reason that cannot be read makes a fault of the decision, and that would show itself with the
// first phone that the rule is about.

// said checks the reason or exception that a rule of a team writes out, in its head or in its body.
func (c *confinement) said(r *ast.Rule) {
	for _, t := range spelledIn(r) {
		if string(r.Head.Name) == "except" {
			c.saidException(t)
		} else {
			c.saidReason(t)
		}
	}
}

// spelledIn returns what the rule puts into its set, as far as that is written in it: the key of the head, or what the body assigns to it.
func spelledIn(r *ast.Rule) (all []*ast.Term) {
	key := r.Head.Key
	if key == nil {
		return nil
	}
	if _, is := key.Value.(ast.Var); !is {
		return []*ast.Term{key}
	}
	for _, e := range r.Body {
		terms, ok := e.Terms.([]*ast.Term)
		if ok && len(terms) == 3 && slices.Contains([]string{"assign", "eq"}, terms[0].String()) && terms[1].Equal(key) {
			all = append(all, terms[2])
		}
	}
	return all
}

const reasonForm = "a reason is a code (lower-case letters, digits, underscores), or {\"code\", \"text\", \"remedy\", \"facts\"}, of which code is needed"

func (c *confinement) saidReason(t *ast.Term) {
	switch v := t.Value.(type) {
	case ast.String:
		if !codeForm.MatchString(string(v)) {
			c.add(t.Location, "did you mean "+codeLike(string(v))+"? "+reasonForm, "%s is not the code of a reason", v)
		}
	case ast.Object:
		v.Foreach(func(k, x *ast.Term) { c.reasonField(k, x) })
		if v.Get(ast.StringTerm("code")) == nil && !slices.ContainsFunc(v.Keys(), func(k *ast.Term) bool { return !isText(k) }) {
			c.add(t.Location, reasonForm, "this reason has no code")
		}
	case ast.Number, ast.Boolean, ast.Null, *ast.Array, ast.Set:
		c.add(t.Location, reasonForm, "%s is not a reason", t)
	}
}

// reasonField checks one field of a reason, as far as it is written out.
func (c *confinement) reasonField(k, x *ast.Term) {
	name, ok := k.Value.(ast.String)
	if !ok {
		return
	}
	switch string(name) {
	case "code":
		if s, text := x.Value.(ast.String); text && !codeForm.MatchString(string(s)) {
			c.add(x.Location, "did you mean "+codeLike(string(s))+"? "+reasonForm, "%s is not the code of a reason", s)
		}
		c.mustBeText("code", x)
	case "text", "remedy", "rule":
		c.mustBeText(string(name), x)
	case "facts":
		facts, is := x.Value.(ast.Object)
		if !is {
			if spelledOut(x) {
				c.add(x.Location, "write them by name: {\"name\": \"value\"}", "the facts of a reason are texts by name, and this is %s", x)
			}
			return
		}
		facts.Foreach(func(k, x *ast.Term) {
			c.mustBeText("the name of a fact", k)
			c.mustBeText("the fact "+k.String(), x)
		})
	default:
		advice := didYouMean(string(name), []string{"code", "text", "remedy", "facts"})
		if string(name) == "message" || string(name) == "msg" {
			advice = "did you mean text?"
		}
		c.add(k.Location, advice, "a reason has no field %s", name)
	}
}

const exceptionForm = "an exception is {\"id\", \"granted_by\", \"until\", \"reasons\"}: who granted it, until when in Unix seconds, and which reasons it lifts"

func (c *confinement) saidException(t *ast.Term) {
	o, ok := t.Value.(ast.Object)
	if !ok {
		if spelledOut(t) {
			c.add(t.Location, exceptionForm, "%s is not an exception", t)
		}
		return
	}
	if slices.ContainsFunc(o.Keys(), func(k *ast.Term) bool { return !isText(k) }) {
		return // a field whose name is computed may be any
	}
	for _, name := range []string{"id", "granted_by", "until", "reasons"} {
		x := o.Get(ast.StringTerm(name))
		switch {
		case x == nil:
			c.add(t.Location, exceptionForm, "this exception has no %s", name)
		case !spelledOut(x):
		case name == "until":
			c.mustBeSeconds(x)
		case name == "reasons":
			c.exceptionReasons(x)
		case x.Equal(ast.StringTerm("")):
			c.add(x.Location, exceptionForm, "%s is empty", name)
		default:
			c.mustBeText(name, x)
		}
	}
}

// mustBeSeconds objects to a time that is written out otherwise than in Unix seconds, as input.now is: in rules there is no other form.
func (c *confinement) mustBeSeconds(x *ast.Term) {
	var v any
	switch value := x.Value.(type) {
	case ast.Number:
		v = json.Number(value)
	case ast.String:
		v = string(value)
	}
	n, wrong := secondsOf(v)
	if _, text := v.(string); text && wrong.message == "" {
		wrong = wrongTime{x.String(), "write", time.Unix(n, 0)}
	}
	if wrong.message != "" {
		c.add(x.Location, wrong.adviceInRules(), "until is a time in Unix seconds, and this is %s", x)
	}
}

// exceptionReasons checks a list of codes that is written out.
func (c *confinement) exceptionReasons(x *ast.Term) {
	var codes []*ast.Term
	switch v := x.Value.(type) {
	case *ast.Array:
		v.Foreach(func(e *ast.Term) { codes = append(codes, e) })
	case ast.Set:
		codes = v.Slice()
	}
	if len(codes) == 0 {
		c.add(x.Location, exceptionForm, "reasons is a list of codes, and this is %s", x)
	}
	for _, code := range codes {
		switch s, text := code.Value.(ast.String); {
		case !text || !codeForm.MatchString(string(s)):
			c.add(code.Location, exceptionForm, "%s is not the code of a reason", code)
		case !Liftable(string(s)):
			c.add(code.Location, "", "no exception lifts %s", string(s))
		}
	}
}

// mustBeText objects to what is written out and is no text.
func (c *confinement) mustBeText(what string, x *ast.Term) {
	if spelledOut(x) && !isText(x) {
		advice := "write it in quotes"
		if _, number := x.Value.(ast.Number); number {
			advice = `write it in quotes, or make a text of a number with sprintf("%d", [x])`
		}
		c.add(x.Location, advice, "%s is text, and this is %s", what, x)
	}
}

func isText(t *ast.Term) bool {
	_, is := t.Value.(ast.String)
	return is
}

// spelledOut reports whether a term is written out: neither a variable, a fact nor what a function makes.
func spelledOut(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	case *ast.Array:
		return v.IsGround() && !calls(t)
	case ast.Set:
		return v.IsGround() && !calls(t)
	case ast.Object:
		return v.IsGround() && !calls(t)
	}
	return false
}

// calls reports whether a term holds a fact, a function or a comprehension.
func calls(t *ast.Term) (found bool) {
	ast.WalkTerms(t, func(x *ast.Term) bool {
		switch x.Value.(type) {
		case ast.Ref, ast.Call, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
			found = true
		}
		return found
	})
	return found
}

// codeLike makes a code of a sentence.
func codeLike(s string) string {
	words := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	if code := strings.Join(words, "_"); codeForm.MatchString(code) {
		return code
	}
	return "no_screen_lock"
}

// readException checks an exception as the policy made it, by the rules of well_formed.
func readException(t *ast.Term) error {
	o, ok := t.Value.(ast.Object)
	if !ok {
		return errors.New("not an object: " + exceptionForm)
	}
	field := func(name string) ast.Value {
		if x := o.Get(ast.StringTerm(name)); x != nil {
			return x.Value
		}
		return ast.Null{}
	}
	for _, name := range []string{"id", "granted_by"} {
		if s, text := field(name).(ast.String); !text || s == "" {
			return errors.New(name + " is not text: " + exceptionForm)
		}
	}
	if _, number := field("until").(ast.Number); !number {
		return errors.New("until is not a number: " + exceptionForm)
	}
	count, texts := 0, true
	each := func(e *ast.Term) { count, texts = count+1, texts && isText(e) }
	switch v := field("reasons").(type) {
	case *ast.Array:
		v.Foreach(each)
	case ast.Set:
		v.Foreach(each)
	}
	if count == 0 || !texts {
		return errors.New("reasons is not a list of codes: " + exceptionForm)
	}
	return nil
}
