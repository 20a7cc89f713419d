package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/internal/trust"
)

// readmeExamples are the examples of policies/README.md as the files of one policy: what an author has who copies them all.
func readmeExamples(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "policies", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for i, part := range strings.Split(string(text), "```") {
		if i%2 == 0 {
			continue
		}
		switch language, example, _ := strings.Cut(part, "\n"); {
		case language == "yaml":
			files["data.yaml"] += example
		case language == "rego" && strings.Contains(example, "\ntest_"):
			files["night_test.rego"] += example
		case language == "rego":
			files["night.rego"] += example
		}
	}
	if len(files) != 3 {
		t.Fatalf("%d kinds of examples", len(files))
	}
	return files
}

// The examples of the README pass a check as they stand, and keep no phone from being set up.
func TestReadmeExamples(t *testing.T) {
	files := readmeExamples(t)
	r, err := Check(t.Context(), Options{Path: dir(t, files), Timeout: patient})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range slices.Concat(r.Problems, r.Warnings) { // as --strict does
		t.Error(p)
	}
	ran := 0
	for _, test := range r.Tests {
		if !strings.HasPrefix(test.File, "builtin/") {
			ran++
		}
	}
	if ran == 0 {
		t.Error("no test of the README ran")
	}
	for _, s := range r.Samples {
		if (s.Name == "managed" || s.Name == "discovery" || s.Name == "sign_in") && s.Action != trust.Allow {
			t.Errorf("sample %s: %s %v", s.Name, s.Action, s.Reasons)
		}
	}
	// Without the data that the text asks for, the message says what to add.
	delete(files, "data.yaml")
	problems := refused(t, Options{}, files)
	if want := "data.exceptions; add `exceptions: []` to a .yaml beside it"; len(problems) != 1 || !strings.HasSuffix(problems[0].String(), want) {
		t.Errorf("%v", problems)
	}
}

// A policy that takes mail from everybody is accepted, for it may be meant, and says so.
func TestSamplesThatEverybodyRestsOn(t *testing.T) {
	check := func(rule string) *Report {
		r, err := Check(t.Context(), Options{Timeout: patient, Files: Files{"a.rego": []byte("package postern.access.team.a\n\n" + rule)}})
		if err != nil || !r.OK() {
			t.Fatalf("%v\n%s", err, lines(r.Problems))
		}
		return r
	}
	said := lines(check("deny contains \"old\" if input.request.version < 141\n").Warnings)
	for _, want := range []string{"access/discovery is no longer allowed: deny (old): no phone could be set up", "access/sign_in is no longer allowed: deny (old): no phone could sign in"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %s", want, said)
		}
	}
	r := check("quarantine contains \"odd\" if {\n\tinput.request.class == \"command\"\n\tinput.claimed.family == \"other\"\n}\n")
	if strings.Contains(lines(r.Warnings), "no longer allowed") || len(r.Otherwise) != 1 || r.Otherwise[0].Name != "unknown_client" || r.Otherwise[0].Before.Action != trust.Allow {
		t.Errorf("%+v\n%s", r.Otherwise, lines(r.Warnings))
	}
}

func TestPlatformOf(t *testing.T) {
	for name, want := range map[string]string{"ios": "ios", "iOS": "ios", "iPadOS": "ios", " IPADOS ": "ios", "iPhone OS": "ios", "iOS 17.5.1": "ios", "iPadOS17": "ios",
		"Android": "android", "AndroidForWork": "android", "Windows Phone": "windows_phone", "windows_phone": "windows_phone", "Windows 11": "windows", "macOS": "macos",
		"visionOS": "visionos", "BeOS": "beos", "": "", "42": "42"} {
		if have := PlatformOf(name); have != want {
			t.Errorf("%q is %q, want %q", name, have, want)
		}
	}
	// A system that the registry has in another spelling is the one that data names.
	e := mustLoad(t, Options{Files: Files{"x.yaml": []byte("postern: {config: {access: {min_os_version: {ios: \"27\"}}}}\n")}})
	for _, name := range []string{"ios", "iOS", "IOS", "iPadOS", "iPadOS 26.1"} {
		in := managedSample()
		device := FactsOfDevice(&trust.Device{OS: name, OSVersion: "26.1"})
		in.Device.OS, in.Device.OSVersion, in.Device.OSNumber = device.OS, device.OSVersion, device.OSNumber
		if d, err := e.Access(t.Context(), &in); err != nil || codes(d.Reasons) != "os_too_old" {
			t.Errorf("%s: %s %s, %v", name, d.Action, codes(d.Reasons), err)
		}
	}
}
