package policy

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// A reason or an exception that is written out and cannot be read is refused with its place; one that only a test makes is found by the check.
func TestReasonsThatAreWrittenOut(t *testing.T) {
	const head = "package postern.access.team.a\n\n"
	for name, c := range map[string]struct{ rule, at, says string }{
		"code that is a sentence": {`deny contains "No Screen Lock!" if input.now == 0`, "3:15", `"No Screen Lock!" is not the code of a reason; did you mean no_screen_lock?`},
		"code in an object":       {`deny contains {"code": "No Lock"} if input.now == 0`, "3:24", `did you mean no_lock?`},
		"fact that is a number":   {`deny contains {"code": "x", "facts": {"n": 3}} if input.now == 0`, "3:44", `the fact "n" is text, and this is 3; write it in quotes`},
		"facts that are a list":   {`deny contains {"code": "x", "facts": ["n"]} if input.now == 0`, "3:38", "the facts of a reason are texts by name"},
		"field of another name":   {`deny contains {"code": "x", "message": "no"} if input.now == 0`, "3:29", `a reason has no field "message"; did you mean text?`},
		"misspelt field":          {`deny contains {"code": "x", "remdy": "no"} if input.now == 0`, "3:29", `did you mean remedy?`},
		"no code":                 {`quarantine contains {"text": "no"} if input.now == 0`, "3:21", "this reason has no code"},
		"text that is a number":   {`deny contains {"code": "x", "text": 3} if input.now == 0`, "3:37", "text is text, and this is 3"},
		"number":                  {`deny contains 3 if input.now == 0`, "3:15", "3 is not a reason"},
		"in the body":             {"deny contains r if {\n\tinput.now == 0\n\tr := {\"code\": \"No\"}\n}", "5:16", "did you mean no?"},
		"text as an exception":    {`except contains "device_silent" if input.owner.known`, "3:17", `"device_silent" is not an exception; an exception is {"id"`},
		"exception without who":   {`except contains {"id": "E", "until": 1798761599, "reasons": ["device_silent"]} if input.owner.known`, "3:17", "this exception has no granted_by"},
		"exception until a text":  {`except contains {"id": "E", "granted_by": "c", "until": "2027", "reasons": ["device_silent"]} if input.owner.known`, "3:57", `until is a time in Unix seconds, and this is "2027"`},
		"exception until a day":   {`except contains {"id": "E", "granted_by": "c", "until": "2026-12-31", "reasons": ["device_silent"]} if input.owner.known`, "3:57", `this is "2026-12-31"; for its end in UTC write 1798761599, which is 2026-12-31T23:59:59Z`},
		"exception until a date":  {`except contains {"id": "E", "granted_by": "c", "until": "2027-01-01T00:00:00Z", "reasons": ["device_silent"]} if input.owner.known`, "3:57", "write 1798761600, which is 2027-01-01T00:00:00Z"},
		"milliseconds":            {`except contains {"id": "E", "granted_by": "c", "until": 1798761600000, "reasons": ["device_silent"]} if input.owner.known`, "3:57", "and this is 1798761600000; write 1798761600, which is 2027-01-01T00:00:00Z"},
		"exception by a calendar": {`except contains {"id": "E", "granted_by": "c", "until": 20261231, "reasons": ["device_silent"]} if input.owner.known`, "3:57", "this is 20261231; for the end of that day write 1798761599"},
		"exception for no reason": {`except contains {"id": "E", "granted_by": "c", "until": 1798761599, "reasons": []} if input.owner.known`, "3:80", "reasons is a list of codes"},
		"exception for a revoked": {`except contains {"id": "E", "granted_by": "c", "until": 1798761599, "reasons": ["certificate_revoked"]} if input.owner.known`, "3:81", "no exception lifts certificate_revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := refused(t, Options{}, map[string]string{"a.rego": head + c.rule + "\n"})
			if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), "a.rego:"+c.at+": ") || !strings.Contains(problems[0].String(), c.says) {
				t.Errorf("want %s %q, have %v", c.at, c.says, problems)
			}
		})
	}
	mustLoad(t, Options{Files: Files{"a.rego": []byte(head + `deny contains {"code": "a", "text": sprintf("%s", [input.claimed.model]), "remedy": "x", "facts": {"n": sprintf("%d", [input.now])}} if input.now == 0

quarantine contains input.device.labels.code if input.device.labels.code

except contains {"id": "E", "granted_by": input.owner.mail, "until": input.now + 1, "reasons": [input.device.labels.code]} if input.owner.known
`)}})
}

// What no literal tells, a test does: the check reads every answer that a test produces as a decision would.
func TestAnswersOfTestsAreRead(t *testing.T) {
	rule := "deny contains {\"code\": \"old\", \"facts\": {\"v\": input.request.version}} if input.request.version == 25\n\nexcept contains e if {\n\tinput.device.labels.vip == \"yes\"\n\tsome e in [input.device.labels.vip]\n}\n"
	test := "test_old if {\n\tcount(deny) == 1 with input as json.patch(data.postern.samples.access.managed, [{\"op\": \"replace\", \"path\": \"/request/version\", \"value\": 25}])\n}\n\n" +
		"test_vip if {\n\tcount(except) == 1 with input as json.patch(data.postern.samples.access.managed, [{\"op\": \"add\", \"path\": \"/device/labels/vip\", \"value\": \"yes\"}])\n}\n"
	r, err := Check(t.Context(), Options{Timeout: patient, Files: Files{"a.rego": []byte("package postern.access.team.a\n\n" + rule), "a_test.rego": []byte("package postern.access.team.a\n\n" + test)}})
	if err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprint(r.Problems)
	for _, want := range []string{"a.rego:3: in a test this rule gives the reason", `"facts": not text`, "a.rego:5: in a test this rule gives the exception \"yes\": not an object"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %s", want, said)
		}
	}
	if len(r.Problems) != 2 {
		t.Errorf("%d problems: %s", len(r.Problems), said)
	}
}

// A policy keeps count of its faults, for who looks after it.
func TestFaultsAreCounted(t *testing.T) {
	e := mustLoad(t, Options{Files: Files{"a.rego": []byte("package postern.access.team.a\n\ndeny contains input.device.id if input.claimed.model == \"x\"\n")}})
	in := managedSample()
	if _, err := e.Access(t.Context(), &in); err != nil || e.Faults().Count != 0 {
		t.Fatalf("%v, %+v", err, e.Faults())
	}
	in.Claimed.Model = "x"
	for range 2 {
		if _, err := e.Access(t.Context(), &in); err == nil {
			t.Fatal("a code with a hyphen was read")
		}
	}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Access(given, &in); err == nil {
		t.Error("a request that was given up was decided")
	}
	if f := e.beside(nil).Faults(); f.Count != 2 || !strings.Contains(f.Last, "the code is not lower-case letters") || f.At.IsZero() {
		t.Errorf("%+v", f)
	}
}

// Data that no rule reads is misspelt, or its rule is.
func TestDataThatNobodyReads(t *testing.T) {
	r, err := Check(t.Context(), Options{Timeout: patient, Files: Files{"d.yaml": []byte("groups: {}\nvips: [a]\nnetwork: {}\nconfig: {access: {max_silence: 1}}\n"),
		"a.rego": []byte("package postern.access.team.a\n\ndeny contains \"x\" if input.claimed.model in data.vips\n")}})
	if err != nil || !r.OK() {
		t.Fatalf("%v\n%s", err, lines(r.Problems))
	}
	said := lines(r.Warnings)
	for _, want := range []string{"d.yaml:3:1: data.network is read by no rule; did you mean networks?", "d.yaml:4:1: data.config is read by no rule; settings stand below postern:"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %s", want, said)
		}
	}
	if strings.Contains(said, "data.vips") || strings.Contains(said, "data.groups") {
		t.Error(said)
	}
}
