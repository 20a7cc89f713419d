package policy

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
)

// everySetting turns on all policies of the library.
const everySetting = `networks: {guests: 198.51.100.0/24, office: 203.0.113.0/24}
groups: {pilot: [alice@contoso.com]}
postern:
  config:
    access:
      noncompliant: deny
      noncompliant_grace: 60
      unknown_compliance: quarantine
      min_os_version: {ios: "17.5.1"}
      unknown_os_version: deny
      min_eas_version: 141
      max_devices: 2
      allowed_clients: [apple_mail, gmail, other]
      denied_platforms: [windows]
      quarantined_zones: [guests]
      same_user_model: deny
      sign_on: [{clients: [gmail], zones: [guests], action: deny}, {platforms: [android], action: quarantine}, {action: allow}]
      rollout: {device_not_compliant: [{stage: observe}], os_too_old: [{stage: observe, percent: 50}]}
`

// oddTeam says what teams may, in as many forms of Rego as there are.
const oddTeam = `package postern.access.team.odd

deny contains "every_audience" if {
	count(input.credential.audience) > 0
	every a in input.credential.audience { startswith(a, "https://") }
}

deny contains {"code": "names", "facts": {"names": concat(",", [n | some n, true in input.owner.names])}} if {
	count({n | input.owner.names[n]; not input.credential.names[n]}) > 1
}

quarantine contains "labels" if {
	labels := {lower(k): v | some k, v in input.device.labels}
	some k, v in labels
	k != v
	not data.odd.known[v]
}

deny contains reason if {
	some [command, reason] in [["sync", "first"], ["ping", "second"], ["folder_sync", "third"]]
	input.request.command == command
	object.get(data.odd.limits, command, 0) < input.device.silent_for
}

except contains {"id": "odd", "granted_by": "a team", "until": input.now + 60, "reasons": reasons} if {
	reasons := {r | some r in data.odd.lifted[input.device.model]}
	count(reasons) > 0
	min([input.now, input.certificate.not_after]) == input.now
	sprintf("%s-%d", [input.device.os, count(input.exceptions)]) in data.odd.forms
}

quarantine contains "long" if {
	total := sum([count(s) | some s in [input.device.id, input.device.model, input.claimed.user_agent]])
	total % 7 in {1, 2}
	regex.match("^[a-z0-9-]+$", input.device.id)
}
`

const oddData = `odd:
  known: {blue: true, red: false}
  limits: {sync: 60, ping: 1}
  lifted: {"iPhone 15": [labels, first], "iPhone14,5": [second]}
  forms: ["ios-0", "ios-1", "android-0"]
`

// ownPolicy replaces the built-in one, with rules, functions and documents of every kind.
const ownPolicy = `package postern.access

import data.postern.access.lib

default grade(_) := "none"

grade(n) := "low" if n < 60
else := "middle" if n < 3600
else := "high" if n < 604800

grades[k] := grade(n) if some k, n in {"silent": input.device.silent_for, "first": input.profile.first_seen}

by.grade[g] contains k if some k, g in grades

by.count := count(by.grade)

double(x) := y if y := x * 2

default trusted := false

trusted if input.certificate.status in {"good", "superseded"}

trusted if {
	input.assurance == "token"
	lib.kinds[input.credential.kind].trusted
}

page := data.postern.access.lib[input.request.class]

reasons contains "not_trusted" if not trusted

reasons contains "silent" if grades.silent != "low"

reasons contains reason if some reason in by.grade[_]

reasons contains "page" if not page

decision := {"action": "allow", "rule": "own", "reasons": set(), "valid_until": double(input.now)} if count(reasons) == 0
else := {"action": "quarantine", "reasons": reasons, "valid_until": lib.until} if by.count == 1
else := {"action": "deny", "reasons": reasons | {"base"}, "valid_until": 0}
`

const ownLib = `package postern.access.lib

kinds[k] := {"trusted": v} if some k, v in {"basic": false, "bearer": true}

command := true

options if input.request.version > 120

until := max({input.now, input.certificate.not_after, count(data.shelf)})
`

// planCases are policies whose every decision has to be the same by plan and by OPA.
func planCases(t testing.TB) map[string]*Engine {
	return map[string]*Engine{
		"built-in": mustLoad(t, Options{}),
		"library":  mustLoad(t, Options{Files: Files{"a.yaml": []byte(everySetting)}}),
		"team":     mustLoad(t, Options{Files: Files{"a.rego": []byte(oddTeam), "a.yaml": []byte(everySetting + oddData)}}),
		"lean":     mustLoad(t, Options{Files: Files{"access.rego": []byte(leanPolicy), "enroll.rego": []byte(leanEnroll)}, Replace: true}),
		"own": mustLoad(t, Options{Files: Files{"access.rego": []byte(ownPolicy), "enroll.rego": []byte(leanEnroll), "lib.rego": []byte(ownLib),
			"shelf.yaml": []byte("shelf: [1, 2, 3]\n")}, Replace: true}),
	}
}

// sameByOPA asks the plan and OPA about an input. It returns whether the plan had the answer.
func sameByOPA(t *testing.T, name string, e *Engine, q *question) bool {
	t.Helper()
	p := e.plans[q.entry]
	if p == nil {
		if e.queries[q.entry] != nil {
			t.Errorf("%s: no plan of %s", name, q.entry)
		}
		return true
	}
	answers, err := p.Values(t.Context(), q.input(), topdown.NewCancel())
	if err != nil {
		return false // OPA is asked
	}
	want, wrong := e.evaluateByOPA(t.Context(), q.entry, q.term().Value, time.Minute)
	switch {
	case len(answers) == 0 && wrong == ErrUndefined: //nolint:errorlint // the very one
	case wrong != nil:
		t.Errorf("%s: %v has an answer, and for OPA the error %v", name, q.term(), wrong)
	case len(answers) != 1 || answers[0].Value.Compare(want) != 0:
		t.Errorf("%s: %v\nby plan %v\nby OPA  %v", name, q.term(), answers, want)
	}
	return true
}

// TestPlanIsOPA asks about every sample, and about samples with several facts changed at random.
func TestPlanIsOPA(t *testing.T) {
	for name, e := range planCases(t) {
		t.Run(name, func(t *testing.T) {
			asked, left := 0, 0
			for seed := range uint64(1500) {
				for _, q := range oddQuestions(e, seed) {
					asked++
					if !sameByOPA(t, name, e, q) {
						left++
					}
				}
			}
			if left > asked/20 {
				t.Errorf("of %d decisions %d are left to OPA", asked, left)
			}
		})
	}
}

func FuzzPlanIsOPA(f *testing.F) {
	engines := planCases(f)
	f.Add(uint64(0))
	f.Fuzz(func(t *testing.T, seed uint64) {
		for name, e := range engines {
			for _, q := range oddQuestions(e, seed) {
				sameByOPA(t, name, e, q)
			}
		}
	})
}

// oddQuestions asks about every entry point: about a sample with up to five changes.
func oddQuestions(of *Engine, seed uint64) []*question {
	rng := rand.New(rand.NewPCG(seed, 0))
	access, enroll, lifecycle := accessSamples(), enrollSamples(), lifecycleSamples()
	a, e, l := access[rng.IntN(len(access))].in, enroll[rng.IntN(len(enroll))].in, lifecycle[rng.IntN(len(lifecycle))].in
	for range rng.IntN(6) {
		oddField(rng, reflect.ValueOf(&a).Elem())
		oddField(rng, reflect.ValueOf(&e).Elem())
		oddField(rng, reflect.ValueOf(&l).Elem())
	}
	return []*question{of.aboutAccess(&a), {entry: "enroll", whole: e.value}, {entry: "lifecycle", whole: l.value}}
}

// oddTexts are values of one field or another.
var oddTexts = strings.Fields(`good revoked superseded held none active blocked retired quarantined command options sync ping basic bearer token certificate
	claimed ios android windows apple_mail gmail other deny yes no unknown alice@contoso.com bob@contoso.com dev-1 ABC123 203.0.113.9 198.51.100.1 office guests pilot
	https://outlook.office365.com not_owner device_not_compliant 17.5 x`)

// oddField gives one field, however deep, another value.
func oddField(rng *rand.Rand, v reflect.Value) {
	text := func() string {
		if rng.IntN(6) == 0 {
			return ""
		}
		return oddTexts[rng.IntN(len(oddTexts))]
	}
	switch v.Kind() {
	case reflect.Struct:
		oddField(rng, v.Field(rng.IntN(v.NumField())))
	case reflect.String:
		v.SetString(text())
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{0, 1, 3, 60, 160, 700000, sampleNow, sampleNow - 1, sampleNow + 100, v.Int() + 1}[rng.IntN(10)])
	case reflect.Slice:
		list := reflect.MakeSlice(v.Type(), rng.IntN(3), 3)
		for i := range list.Len() {
			oddField(rng, list.Index(i))
		}
		v.Set(list)
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		for range rng.IntN(4) {
			x := reflect.New(v.Type().Elem()).Elem()
			oddField(rng, x)
			m.SetMapIndex(reflect.ValueOf(text()), x)
		}
		v.Set(m)
	}
}

// TestPlanIsShared lets many decisions run at once, each of which has to be that of OPA.
func TestPlanIsShared(t *testing.T) {
	e := mustLoad(t, Options{Files: Files{"a.rego": []byte(oddTeam), "a.yaml": []byte(everySetting + oddData)}})
	var all sync.WaitGroup
	for worker := range uint64(8) {
		all.Go(func() {
			for seed := range uint64(50) {
				for _, q := range oddQuestions(e, seed*8+worker) {
					sameByOPA(t, "team", e, q)
				}
			}
		})
	}
	all.Wait()
}

// TestNoPlan loads a policy that OPA's planner does not take, and one that asks the planned form for what only OPA does: both decide all the same.
func TestNoPlan(t *testing.T) {
	const refused = "package lib\n\nnames[x].kind := \"a\" if some x in {\"q\"}\n\nnames.z.kind := names.q.kind\n"
	own := func(condition string) string {
		return "package postern.access\n\ndecision := {\"action\": \"deny\", \"reasons\": {\"odd\"}, \"valid_until\": 0} if " + condition +
			"\nelse := {\"action\": \"deny\", \"reasons\": {\"even\"}, \"valid_until\": 0}\n"
	}
	in := managedSample()
	in.Claimed.DeviceID = "many"
	for name, c := range map[string]struct {
		condition, lib, data string
		planned              bool
	}{
		"planner":      {"data.lib.names.z.kind == \"a\"", refused, "", false},
		"number":       {"data.shelf[input.device.place] == 7", "package lib\n", fmt.Sprintf("shelf: {\"%d\": 7}\n", in.Device.Place), true},
		"many":         {"{ input.claimed.device_id == \"many\"; count([1 | some i in numbers.range(1, 300000); i > 0]) == 300000 }", "package lib\n", "", true},
		"passed over":  {"{ input.claimed.device_id == \"many\"; some i in numbers.range(1, 30000); some j in numbers.range(1, 30000); i + j == 0; input.device.state == \"retired\" }", "package lib\n", "", true},
		"plain enough": {"{ input.claimed.device_id == \"many\"; count([1 | some i in numbers.range(1, 3000); i > 0]) == 3000 }", "package lib\n", "", true},
	} {
		files := Files{"access.rego": []byte(own(c.condition)), "enroll.rego": []byte(leanEnroll), "lib.rego": []byte(c.lib), "lib.yaml": []byte(c.data)}
		limit, want := 10*time.Second, "odd"
		if name == "passed over" { // by OPA's index of rules
			limit, want = time.Second, "even"
		}
		e := mustLoad(t, Options{Files: files, Replace: true, Timeout: limit})
		d, err := e.Access(t.Context(), &in)
		if err != nil || codes(d.Reasons) != want {
			t.Errorf("%s: %v, %v", name, d, err)
		}
		if got := e.plans["access"] != nil; got != c.planned {
			t.Errorf("%s: planned %t", name, got)
		}
	}
}
