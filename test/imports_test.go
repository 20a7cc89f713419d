// Package test looks at Postern as a whole: its architecture, and what its binary does among real third-party programs.
//
// The scripts are in testdata, one to a promise. POSTERN_BINARY names the binary to test; without it, it is built first. Programs that are not installed skip
// their script by name, unless POSTERN_REQUIRE_PEERS=1 makes that a failure.
package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "postern"

// tags leave out what smallstep would otherwise link and nobody here uses.
const tags = "nobadger,nomysql,nopgx"

// pkg is what the rules look at, as `go list` says it. Imports are those of the package itself, not of its tests.
type pkg struct {
	ImportPath, Dir, Name, Doc string
	GoFiles, TestGoFiles       []string
	XTestGoFiles, Imports      []string
	Standard                   bool
	Module                     *struct{ Main bool }
}

func (p *pkg) own() bool { return p.Module != nil && p.Module.Main }

// floors are the storeys of the house: imports go down only, so that what is below can be understood, tested and changed without what stands on it.
var floors = map[string]int{
	"internal/trust": 0, "policies": 0, "certs": 0,
	"internal/registry": 1, "internal/api": 1, "internal/policy/plan": 1,
	"internal/ca": 2, "internal/policy": 2, "internal/eas": 2, "internal/oauth": 2, "internal/registry/bolt": 2, "internal/registry/postgres": 2,
	"internal/scep": doors, "internal/revocation": doors, "internal/revocation/probe": doors, "internal/edge": doors, "internal/mail": doors, "internal/mdm": doors,
	"internal/microsoft": doors, "internal/decisionlog": doors, "internal/admin": doors, "internal/lab": doors,
	"internal/server": 4,
	"cmd/postern":     5,
}

// doors is the floor whose packages never import each other: they work together through the registry, so that each can run on a node of its own.
const doors = 3

// fixture reports whether a package only gives tests real parts. Only tests may import it, or a test's shortcut would end up in the product.
func fixture(name string) bool {
	return name == "internal/registry/registrytest" || name == "internal/ca/catest" || name == "internal/peertest" || in(name, "test")
}

// owners says which packages may import a library. A library has one owner, so that it can be replaced, and its dangers be known, in one place.
var owners = []struct {
	library string
	owners  []string
	reason  string
}{
	{"github.com/smallstep/certificates", []string{"internal/ca"}, "whoever holds it can sign"},
	{"go.step.sm/crypto", []string{"internal/ca"}, "whoever holds it can read keys"},
	{"github.com/golang-fips/openssl", []string{"internal/ca"}, "whoever holds it holds keys; behind a build tag, because it needs cgo"},
	{"github.com/smallstep/pkcs7", []string{"internal/ca", "internal/scep", "internal/lab"}, "a parser of hostile CMS: size and nesting are checked before it by those who know how"},
	{"github.com/zmap", []string{"internal/ca"}, "lints what was signed"},
	{"github.com/open-policy-agent/opa", []string{"internal/policy", "internal/policy/plan"}, "team files are confined there, and nowhere else"},
	{"github.com/gin-gonic/gin", []string{"internal/admin"}, "its router cleans and redirects paths, which SCEP and ActiveSync clients do not survive"},
	{"github.com/prometheus", []string{"internal/admin"}, "metrics are read from the parts; the parts do not know who counts them"},
	{"go.etcd.io/bbolt", []string{"internal/registry/bolt"}, "the store is an interface with two implementations"},
	{"github.com/jackc/pgx", []string{"internal/registry/postgres"}, "the store is an interface with two implementations"},
	{"github.com/goccy/go-yaml", []string{"internal/server", "internal/policy"}, "it recurses: nesting is checked before it by those who know how"},
	{"github.com/spf13", []string{"cmd/postern"}, "the command line is not the product"},
	{"github.com/rogpeppe/go-internal", []string{"test", "internal/policy"}, "for scripts over the binary; and its diff of texts"},
	{"golang.org/x/crypto", []string{"internal/ca", "internal/scep"}, "cryptography belongs to those who hold keys"},
}

// unreachable says what a package must not reach, however long the way.
var unreachable = []struct {
	from, to, reason string
}{
	{"internal/edge", "internal/ca", "a node in the DMZ holds no signing key, and not the code to use one"},
	{"internal/edge", "github.com/smallstep", "a node in the DMZ holds no signing key, and not the code to use one"},
	{"internal/edge", "go.step.sm", "a node in the DMZ holds no signing key, and not the code to use one"},
	{"internal/mail", "internal/ca", "a node in the DMZ holds no signing key, and not the code to use one"},
	{"internal/policy", "internal/registry", "a decision is a pure function of its input"},
	{"internal/revocation/probe", "internal/ca", "a look from outside that shares code with the signer shares its mistakes"},
	{"internal/revocation/probe", "internal/revocation", "a look from outside that shares code with the publisher shares its mistakes"},
	{"internal/lab", "internal/scep", "a phone that shares code with the server shares its mistakes, and proves nothing"},
	{"internal/lab", "internal/ca", "a phone that shares code with the server shares its mistakes, and proves nothing"},
	{"internal/lab", "internal/edge", "a phone that shares code with the server shares its mistakes, and proves nothing"},
	{"internal/lab", "internal/registry", "a phone knows nothing of what we know"},
}

// noIO are packages that only compute; these are what they would need for anything else.
var (
	noIO    = []string{"internal/trust", "internal/eas", "internal/oauth"}
	ioPaths = []string{"os", "os/exec", "net", "io/ioutil", "database/sql", "syscall", "path/filepath"}
)

// standardOnly are packages that everything else shares: they bring no library along.
var standardOnly = []string{"internal/trust", "internal/api", "internal/registry", "internal/eas", "internal/oauth", "internal/edge", "internal/revocation/probe", "policies", "certs"}

// load asks go list for every package of the module and all that they import.
func load(t *testing.T) map[string]*pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", tags,
		"-json=ImportPath,Dir,Name,Doc,GoFiles,TestGoFiles,XTestGoFiles,Imports,Standard,Module", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	all := map[string]*pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &pkg{}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all[p.ImportPath] = p
	}
}

// in reports whether the import path is the library or package, or one below it.
func in(path, library string) bool { return path == library || strings.HasPrefix(path, library+"/") }

// violations returns every broken rule of imports, sorted.
func violations(all map[string]*pkg) []string {
	var out []string
	for _, p := range all {
		if !p.own() {
			continue
		}
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		say := func(format string, args ...any) { out = append(out, name+": "+fmt.Sprintf(format, args...)) }
		if _, ok := floors[name]; !ok && !fixture(name) {
			say("has no floor: a new package needs its place in the house first")
		}
		for _, path := range p.Imports {
			if target := all[path]; target != nil && target.own() {
				checkFloor(name, strings.TrimPrefix(path, module+"/"), say)
			} else if strings.Contains(strings.Split(path, "/")[0], ".") {
				checkOwner(name, path, say)
			}
			if slices.Contains(noIO, name) && slices.Contains(ioPaths, path) {
				say("imports %s: this package only computes", path)
			}
		}
		for _, u := range unreachable {
			if u.from != name {
				continue
			}
			if way := reach(all, p, u.to); way != nil {
				say("reaches %s by %s: %s", u.to, strings.Join(way, " -> "), u.reason)
			}
		}
	}
	slices.Sort(out)
	return out
}

func checkFloor(from, to string, say func(string, ...any)) {
	if fixture(to) {
		if !fixture(from) {
			say("imports %s: that is for tests only", to)
		}
		return
	}
	if fixture(from) {
		return
	}
	switch up, down := floors[from], floors[to]; {
	case up == doors && down == doors:
		say("imports %s: doors work together through the registry and never import each other", to)
	case up <= down:
		say("imports %s: floor %d does not reach up to floor %d", to, up, down)
	}
}

func checkOwner(from, path string, say func(string, ...any)) {
	if slices.Contains(standardOnly, from) {
		say("imports %s: this package has to do with the standard library", path)
	}
	for _, o := range owners {
		if in(path, o.library) {
			if !slices.Contains(o.owners, from) {
				say("imports %s, which belongs to %s: %s", path, strings.Join(o.owners, ", "), o.reason)
			}
			return
		}
	}
	say("imports %s, which has no owner: a new library needs one, and a reason", path)
}

// reach returns the shortest way of imports from p to a package at or below target, or nil.
func reach(all map[string]*pkg, p *pkg, target string) []string {
	if !strings.Contains(strings.Split(target, "/")[0], ".") {
		target = module + "/" + target
	}
	before := map[string]string{p.ImportPath: ""}
	for queue := []string{p.ImportPath}; len(queue) > 0; queue = queue[1:] {
		at := all[queue[0]]
		if at == nil {
			continue
		}
		if in(at.ImportPath, target) && at != p {
			var way []string
			for s := at.ImportPath; s != ""; s = before[s] {
				way = append([]string{s}, way...)
			}
			return way
		}
		for _, next := range at.Imports {
			if _, seen := before[next]; !seen {
				before[next] = at.ImportPath
				queue = append(queue, next)
			}
		}
	}
	return nil
}

func TestImports(t *testing.T) {
	for _, v := range violations(load(t)) {
		t.Error(v)
	}
}

// TestImportRulesCanFail breaks each rule in a made-up program and looks for the complaint: a checker that cannot fail proves nothing.
func TestImportRulesCanFail(t *testing.T) {
	for says, imports := range map[string][]string{
		"floor 2 does not reach up to floor 3":                                       {"postern/internal/eas", "postern/internal/edge"},
		"floor 2 does not reach up to floor 2":                                       {"postern/internal/policy", "postern/internal/eas"},
		"floor 4 does not reach up to floor 5":                                       {"postern/internal/server", "postern/cmd/postern"},
		"doors work together through the registry":                                   {"postern/internal/admin", "postern/internal/scep"},
		"that is for tests only":                                                     {"postern/internal/edge", "postern/internal/ca/catest"},
		"internal/edge: reaches internal/ca by postern/internal/edge -> x.org/a -> ": {"postern/internal/edge", "x.org/a", "postern/internal/ca"},
		"internal/policy: reaches internal/registry":                                 {"postern/internal/policy", "postern/internal/registry"},
		"which belongs to internal/ca: whoever holds it can sign":                    {"postern/internal/scep", "github.com/smallstep/certificates/authority"},
		"which belongs to internal/policy":                                           {"postern/internal/edge", "github.com/open-policy-agent/opa/v1/rego"},
		"which belongs to internal/registry/postgres":                                {"postern/internal/registry/bolt", "github.com/jackc/pgx/v5"},
		"which has no owner":                                                         {"postern/internal/server", "example.com/left/pad"},
		"this package only computes":                                                 {"postern/internal/eas", "net"},
		"has to do with the standard library":                                        {"postern/internal/api", "github.com/spf13/cobra"},
		"internal/common: has no floor":                                              {"postern/internal/common", "fmt"},
	} {
		all := map[string]*pkg{}
		for i, path := range imports {
			p := &pkg{ImportPath: path}
			if in(path, module) {
				p.Module = &struct{ Main bool }{true}
			}
			if i+1 < len(imports) {
				p.Imports = []string{imports[i+1]}
			}
			all[path] = p
		}
		found := violations(all)
		if !slices.ContainsFunc(found, func(v string) bool { return strings.Contains(v, says) }) {
			t.Errorf("%v: want %q, have %q", imports, says, found)
		}
	}
}
