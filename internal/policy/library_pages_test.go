package policy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// libraryPages are the pages of the library by file name.
func libraryPages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", "..", "policies", "library", "*.md"))
	if err != nil || len(names) < 12 {
		t.Fatalf("%d pages, %v", len(names), err)
	}
	pages := map[string]string{}
	for _, n := range names {
		content, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		pages[filepath.Base(n)] = string(content)
	}
	return pages
}

// The examples of the pages are accepted as they stand, and the index names every page.
func TestLibraryPages(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "policies", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range libraryPages(t) {
		if !strings.Contains(string(readme), "(library/"+name+")") {
			t.Errorf("%s is not in the index", name)
		}
		for i, part := range strings.Split(text, "```") {
			example, is := strings.CutPrefix(part, "yaml\n")
			if i%2 == 0 || !is {
				continue
			}
			if _, err := Load(t.Context(), Options{Timeout: patient, Files: Files{"example.yaml": []byte(example)}}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Every setting of the built-in policies, and every reason that they give for a request, is on a page.
func TestLibraryPagesAreComplete(t *testing.T) {
	var all strings.Builder
	for _, text := range libraryPages(t) {
		all.WriteString(text)
	}
	said := all.String()
	raw, err := DataSchema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Postern struct {
				Properties struct {
					Config struct {
						Properties struct {
							Access struct {
								Properties map[string]struct {
									Description string `json:"description"`
								} `json:"properties"`
							} `json:"access"`
						} `json:"properties"`
					} `json:"config"`
				} `json:"properties"`
			} `json:"postern"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	settings := schema.Properties.Postern.Properties.Config.Properties.Access.Properties
	if len(settings) < 25 {
		t.Fatalf("%d settings", len(settings))
	}
	for name, s := range settings {
		if !strings.Contains(said, "`"+name) && !strings.Contains(said, name+":") {
			t.Errorf("the setting %s is on no page", name)
		}
		if s.Description == "" {
			t.Errorf("the setting %s has no description", name)
		}
	}
	enrolling := []string{"device_unknown", "not_managed", "owner_unknown", "names_another_user", "domain_not_allowed", "weak_key", "renewal_certificate_expired",
		"renewal_certificate_not_good", "renewal_too_early", "ndes_approval_required", "approval_required"}
	signingIn := []string{"ticket_revoked", "ticket_of_another_device", "ticket_unknown", "no_certificate_or_ticket"}
	for _, s := range sayings {
		if !strings.Contains(said, "`"+s.code+"`") && !slices.Contains(enrolling, s.code) && !slices.Contains(signingIn, s.code) && s.code != "exception" {
			t.Errorf("the reason %s is on no page", s.code)
		}
	}
}

// The table of cases in Rego holds for the policy as it is loaded with the same settings in a file of data, with everything dropped that does not matter.
func TestLibraryAsLoaded(t *testing.T) {
	src, _, err := read(Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, problems := parse(src)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p.data = withSamples(p.data)
	store := inmem.NewFromObjectWithOpts(p.data, inmem.OptReturnASTValuesOnRead(true))
	c := ast.NewCompiler().WithCapabilities(p.caps)
	if c.Compile(p.of("access", true)); c.Failed() {
		t.Fatal(c.Errors)
	}
	rs, err := rego.New(rego.Query(`x := {name: [settings, facts, action, codes] | some name, [settings, changes, action, codes] in data.postern.access.library; facts := data.postern.access.vary(changes)}`),
		rego.Compiler(c), rego.Store(store)).Eval(t.Context())
	if err != nil || len(rs) != 1 {
		t.Fatal(rs, err)
	}
	cases := rs[0].Bindings["x"].(map[string]any)
	if len(cases) < 45 {
		t.Fatalf("%d cases", len(cases))
	}
	for name, v := range cases {
		want := v.([]any)
		settings := want[0].(map[string]any)
		if least, ok := settings["min_os_version"].(map[string]any); ok {
			for platform, n := range least {
				least[platform] = show(fmt.Sprint(n), "|version")
			}
		}
		data, err := json.Marshal(map[string]any{"postern": map[string]any{"config": map[string]any{"access": settings}}})
		if err != nil {
			t.Fatal(err)
		}
		facts, err := json.Marshal(want[1])
		if err != nil {
			t.Fatal(err)
		}
		d, err := mustLoad(t, Options{Files: Files{"tuning.json": data}}).Eval(t.Context(), "access", facts)
		if err != nil || string(d.Action) != want[2] {
			t.Errorf("%s: %s, %v, want %v", name, d.Action, err, want[2])
		}
		var reasons []any
		for _, r := range d.Reasons {
			reasons = append(reasons, r.Code)
		}
		if !slices.EqualFunc(reasons, want[3].([]any), func(a, b any) bool { return a == b }) {
			t.Errorf("%s: %v, want %v", name, reasons, want[3])
		}
	}
}
