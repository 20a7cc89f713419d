package test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The limits of the house's style, in lines. A file or function that outgrows them is two things.
const (
	maxFile     = 400
	maxFunction = 60
)

// kinds of code that are no thing of the domain, and so no name for a package.
var vague = []string{"util", "utils", "common", "helpers", "helper", "models", "model", "manager", "misc", "base", "shared", "types", "internal", "pkg"}

// topLevel is all that the repository has at its root.
var topLevel = []string{"cmd", "internal", "policies", "certs", "deploy", "test", "go.mod", "go.sum", "Makefile", "README.md", ".ci", "STANDARDS.md", "CHANGELOG.md",
	".gitignore", ".golangci.yml"}

// shape returns what is wrong with the form of one file of Go.
func shape(name string, src []byte) []string {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	test := strings.HasSuffix(name, "_test.go")
	if n := set.File(f.Pos()).LineCount(); n > maxFile+1 && !test { // a final line break counts as the beginning of a line
		out = append(out, fmt.Sprintf("%s: %d lines, more than %d", name, n-1, maxFile))
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		from, to := set.Position(fn.Pos()).Line, set.Position(fn.End()).Line
		if to-from+1 >= maxFunction && !test {
			out = append(out, fmt.Sprintf("%s:%d: %s has %d lines, want fewer than %d", name, from, fn.Name.Name, to-from+1, maxFunction))
		}
		if fn.Name.Name == "init" && fn.Recv == nil {
			out = append(out, fmt.Sprintf("%s:%d: init: nothing happens before main", name, from))
		}
	}
	return out
}

func TestShape(t *testing.T) {
	for _, p := range load(t) {
		if !p.own() {
			continue
		}
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s: no package comment", p.ImportPath)
		}
		if slices.Contains(vague, p.Name) {
			t.Errorf("%s: %s is a kind of code: name the thing", p.ImportPath, p.Name)
		}
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			path := filepath.Join(p.Dir, name)
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range shape(path, src) {
				t.Error(v)
			}
		}
	}
}

func TestShapeCanFail(t *testing.T) {
	long := "package x\n\nfunc f() {\n" + strings.Repeat("\tf()\n", 420) + "}\n\nfunc init() {}\n"
	if got := shape("x.go", []byte(long)); len(got) != 3 {
		t.Errorf("want a long file, a long function and an init, have %q", got)
	}
	if got := shape("x_test.go", []byte(long)); len(got) != 1 {
		t.Errorf("want an init, have %q", got)
	}
	just := "package x\n\nfunc f() {\n" + strings.Repeat("\tf()\n", maxFunction-3) + "}\n" + strings.Repeat("\n", maxFile-maxFunction-2)
	if got := shape("x.go", []byte(just)); got != nil {
		t.Errorf("at the limits: %q", got)
	}
}

// strays returns the names that have no place at the top level.
func strays(names []string) []string {
	var out []string
	for _, n := range names {
		if top, _, _ := strings.Cut(filepath.ToSlash(n), "/"); !slices.Contains(topLevel, top) && !slices.Contains(out, top) {
			out = append(out, top)
		}
	}
	return out
}

// TestTopLevel looks at what git tracks, or would track. An archive without git has nothing else in it.
func TestTopLevel(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--others", "--exclude-standard")
	cmd.Dir = ".."
	var names []string
	if out, err := cmd.Output(); err == nil {
		names = strings.Fields(string(out))
	} else if names, err = entries(".."); err != nil {
		t.Fatal(err)
	}
	for _, s := range strays(names) {
		t.Errorf("%s has no place at the top of the repository", s)
	}
	for _, want := range topLevel {
		if _, err := os.Stat(filepath.Join("..", want)); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is missing at the top of the repository", want)
		}
	}
	if got := strays([]string{"cmd/postern/main.go", "pkg/x.go", "notes.txt", "pkg/y.go"}); !slices.Equal(got, []string{"pkg", "notes.txt"}) {
		t.Errorf("strays are not found: %q", got)
	}
}

// entries lists a directory, without what a build makes there.
func entries(dir string) ([]string, error) {
	all, err := os.ReadDir(dir)
	var out []string
	for _, e := range all {
		if n := e.Name(); n != ".git" && n != "bin" {
			out = append(out, n)
		}
	}
	return out, err
}
