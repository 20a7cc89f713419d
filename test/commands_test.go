package test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postern/internal/eas"
	"postern/internal/lab"
)

// polls waits until so many long polls are open at the Exchange.
func polls(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	for end := time.Now().Add(patience); on(ts).exchange.Waiting() != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("%d long polls are open, want %d", on(ts).exchange.Waiting(), want)
		}
	}
}

func bearer(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], lab.Token(args[1], time.Now(), nil))
}

// phone enrols over SCEP and writes certificate and key for other programs.
func phone(ts *testscript.TestScript, neg bool, args []string) {
	name, challenge := args[0], args[1]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p := lab.NewPhone(lab.IPhone(name, ""))
	err := p.Enrol(ctx, ts.Getenv("SCEP"), challenge)
	if neg {
		if err == nil {
			ts.Fatalf("%s got a certificate", name)
		}
		return
	}
	ts.Check(err)
	cert, key, err := p.PEM()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(name+".pem"), cert, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(name+".key"), key, 0o600))
}

// get takes a value out of JSON.
func get(ts *testscript.TestScript, _ bool, args []string) {
	file := "stdout"
	if len(args) > 2 {
		file = args[2]
	}
	text := ts.ReadFile(file)
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		ts.Fatalf("get %s: %v in %q", args[1], err, text)
	}
	for _, key := range strings.Split(args[1], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[key]
		case []any:
			if key == "length" {
				v = float64(len(x))
				continue
			}
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(x) {
				ts.Fatalf("get %s: no %s in %s", args[1], key, text)
			}
			v = x[i]
		default:
			v = nil
		}
		if v == nil {
			ts.Fatalf("get %s: no %s in %s", args[1], key, text)
		}
	}
	if f, ok := v.(float64); ok {
		v = strconv.FormatFloat(f, 'f', -1, 64)
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

// eventually runs a program until it succeeds and what it prints matches.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := ts.Exec(args[2], args[3:]...)
		out := ts.ReadFile("stdout")
		if err == nil && pattern.MatchString(out) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("after %s still no %q: %v\n%s%s", limit, args[1], err, out, ts.ReadFile("stderr"))
		}
	}
}

// stopwatch is when a script last said `clock`.
type stopwatch time.Time

func clock(ts *testscript.TestScript, _ bool, _ []string) { on(ts).clock = stopwatch(time.Now()) }

func within(ts *testscript.TestScript, _ bool, args []string) {
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	took := time.Since(time.Time(on(ts).clock))
	ts.Logf("took %s", took.Round(time.Millisecond))
	if took > limit {
		ts.Fatalf("took %s, more than %s", took, limit)
	}
}

func rises(ts *testscript.TestScript, neg bool, args []string) {
	a, err := strconv.ParseUint(args[0], 0, 63)
	ts.Check(err)
	b, err := strconv.ParseUint(args[1], 0, 63)
	ts.Check(err)
	if a < b == neg {
		ts.Fatalf("from %d to %d", a, b)
	}
}

func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		text := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
}

// hexToken is what unhex reads: a comment, a text in quotes, or a byte.
var hexToken = regexp.MustCompile(`;.*|"[^"]*"|[0-9A-Fa-f]{2}|\S+`)

func unhex(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		var out []byte
		for _, token := range hexToken.FindAllString(ts.ReadFile(file), -1) {
			switch {
			case token[0] == ';':
			case token[0] == '"':
				out = append(out, strings.Trim(token, `"`)...)
			default:
				b, err := hex.DecodeString(token)
				ts.Check(err)
				out = append(out, b...)
			}
		}
		ts.Check(os.WriteFile(ts.MkAbs(file), out, 0o600))
	}
}

// match takes the first group of a pattern out of the last output.
func match(ts *testscript.TestScript, _ bool, args []string) {
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	groups := pattern.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(groups) < 2 {
		ts.Fatalf("no %s in the output", args[1])
	}
	ts.Setenv(args[0], groups[1])
}

// wbxml prints a document as lines such as "Sync/Status 1".
func wbxml(ts *testscript.TestScript, _ bool, args []string) {
	doc, err := eas.Decode([]byte(ts.ReadFile(args[0])), 1<<20)
	ts.Check(err)
	print(ts.Stdout(), "", doc)
}

func print(out io.Writer, above string, e *eas.Element) {
	fmt.Fprintln(out, above+e.Name, e.Text)
	for _, c := range e.Children {
		print(out, above+e.Name+"/", c)
	}
}

// TestCommandsCanFail makes sure that a script's complaint ends it: a check that cannot fail proves nothing.
func TestCommandsCanFail(t *testing.T) {
	for name, script := range map[string]string{
		"rises": "rises 2 2", "get": "exec echo '{}'\nget A b", "within": "clock\nexec sleep 0.01\nwithin 1ms",
		"eventually": "eventually 50ms b echo a", "unhex": "unhex x\n-- x --\n0g", "wbxml": "wbxml x\n-- x --\nplain", "match": "exec echo a\nmatch A (b)", "serve": "serve",
	} {
		file := filepath.Join(t.TempDir(), name+".txtar")
		if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		p := params("")
		p.Dir, p.Files = "", []string{file}
		r := &recorder{T: t}
		testscript.RunT(r, p)
		if !r.failed {
			t.Errorf("%s: a script that must fail does not", name)
		}
	}
}

// recorder plays a script and remembers whether it failed.
type recorder struct {
	*testing.T
	failed bool
}

func (r *recorder) Run(_ string, script func(testscript.T)) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		script(r)
	}()
	<-ended
}

func (r *recorder) FailNow() {
	r.failed = true
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) {
	r.Log(args...)
	r.FailNow()
}

func (*recorder) Log(...any)    {}
func (*recorder) Parallel()     {}
func (*recorder) Verbose() bool { return false }
