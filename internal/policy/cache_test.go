package policy

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"postern/internal/trust"
)

// leaves calls fn with every field of a struct, however deep, and its path.
func leaves(v reflect.Value, path string, fn func(path string, field reflect.Value)) {
	for i := range v.NumField() {
		name := strings.TrimPrefix(path+"."+v.Type().Field(i).Tag.Get("json"), ".")
		if f := v.Field(i); f.Kind() == reflect.Struct {
			leaves(f, name, fn)
		} else {
			fn(name, f)
		}
	}
}

// vary gives a field another value, several ways where there are several.
func vary(f reflect.Value) []func() {
	switch f.Kind() {
	case reflect.String:
		return []func(){func() { f.SetString(f.String() + "x") }}
	case reflect.Bool:
		return []func(){func() { f.SetBool(!f.Bool()) }}
	case reflect.Int, reflect.Int64:
		return []func(){func() { f.SetInt(f.Int() + 1) }, func() { f.SetInt(-f.Int() - 7) }}
	case reflect.Slice:
		if f.Type().Elem().Kind() == reflect.Struct {
			return listsOf(f)
		}
		return []func(){func() { f.Set(reflect.ValueOf([]string{})) }, func() { f.Set(reflect.ValueOf([]string{"a", "b"})) }, func() { f.Set(reflect.ValueOf([]string{"ab"})) }}
	case reflect.Map:
		if f.Type().Elem().Kind() == reflect.Bool {
			ways := []func(){func() { f.Set(reflect.ValueOf(map[string]bool{"n": true})) }, func() { f.Set(reflect.ValueOf(map[string]bool{"n": false})) }}
			if f.Len() > 0 { // empty and nil are the same
				ways = append(ways, func() { f.Set(reflect.ValueOf(map[string]bool{})) })
			}
			return ways
		}
		return []func(){func() { f.Set(reflect.ValueOf(map[string]string{})) }, func() { f.Set(reflect.ValueOf(map[string]string{"n": "v"})) },
			func() { f.Set(reflect.ValueOf(map[string]string{"nv": ""})) }}
	}
	panic("a kind of field that the digest does not know: " + f.Kind().String())
}

// listsOf gives a list of structs other values: one entry, two, and one that differs in each of its fields.
func listsOf(f reflect.Value) []func() {
	entry := f.Type().Elem()
	list := func(entries ...reflect.Value) func() {
		return func() { f.Set(reflect.Append(reflect.MakeSlice(f.Type(), 0, len(entries)), entries...)) }
	}
	empty := reflect.New(entry).Elem()
	out := []func(){list(empty), list(empty, empty)}
	for i := range entry.NumField() {
		for n := range vary(empty.Field(i)) {
			changed := reflect.New(entry).Elem()
			before := fmt.Sprint(changed)
			if vary(changed.Field(i))[n](); fmt.Sprint(changed) != before {
				out = append(out, list(changed))
			}
		}
	}
	return out
}

// Every field of the input but the clock is in the digest.
func TestDigestCoversEveryFact(t *testing.T) {
	first := managedSample()
	plain := first.digest(true)
	seen := map[[32]byte]string{plain: "the sample"}
	leaves(reflect.ValueOf(&first).Elem(), "", func(path string, _ reflect.Value) {
		for i := 0; ; i++ {
			in := managedSample()
			var change func()
			leaves(reflect.ValueOf(&in).Elem(), "", func(p string, f reflect.Value) {
				if all := vary(f); p == path && i < len(all) {
					change = all[i]
				}
			})
			if change == nil {
				break
			}
			change()
			digest := in.digest(true)
			if other, known := seen[digest]; known != (path == "now") {
				t.Errorf("%s, way %d: has the digest of %q", path, i, other)
			}
			seen[digest] = path
		}
	})
	in := managedSample()
	in.Snapshot.Behind = 5
	if in.digest(false) != first.digest(false) {
		t.Error("the age of the snapshot is in the digest although no policy reads it")
	}
	for range 50 {
		if in := managedSample(); in.digest(true) != plain {
			t.Fatal("the digest depends on the order of a map")
		}
	}
}

// asked counts how often the policy was really asked.
func asked(t *testing.T, e *Engine, in AccessInput) (d Decision, hit bool) {
	t.Helper()
	before := e.CacheStats()
	d, err := e.Access(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := e.decideAccess(t.Context(), &in)
	if err != nil || !reflect.DeepEqual(d, fresh) {
		t.Errorf("remembered %+v, decided %+v, %v", d, fresh, err)
	}
	return d, e.CacheStats().Hits > before.Hits
}

// A decision is remembered until one of its facts changes or its end comes, and not before it was made.
func TestRemembered(t *testing.T) {
	e := mustLoad(t, Options{})
	in := managedSample()
	want := func(what string, in AccessInput, hit bool) Decision {
		t.Helper()
		d, got := asked(t, e, in)
		if got != hit {
			t.Errorf("%s: remembered: %v, want %v", what, got, hit)
		}
		return d
	}
	want("first", in, false)
	want("again", in, true)
	later := in
	later.Now += 86400
	want("a day later", later, true)
	later.Snapshot.Behind = 30
	want("while the registry is silent", later, true)
	before := in
	before.Now--
	want("by a clock that was put back", before, false)
	held := in
	held.Certificate.Status, held.Certificate.Reason = "held", "certificateHold"
	if d := want("held", held, false); d.Action != trust.Deny {
		t.Errorf("held: %s", d.Action)
	}
	want("released", in, true)
	want("of another certificate", func() AccessInput { in := managedSample(); in.Certificate.Serial = "ff"; return in }(), false)
	end := in
	end.Now = in.Certificate.NotAfter
	if d := want("at the end of the certificate", end, false); d.Action != trust.Deny {
		t.Errorf("expired: %s", d.Action)
	}
	bare := in
	bare.Certificate = CertFacts{Status: "none"}
	want("without certificate", bare, false)
	want("without certificate again", bare, false)
}

// Every way in which the built-in rules read the clock ends a decision: one that is remembered is always what would be decided now.
func TestRememberedIsSound(t *testing.T) {
	for _, files := range []map[string]string{nil,
		{"read.rego": "package postern.access.team.x\n\nquarantine contains \"late\" if not data.postern.access.first_device_id\n\ndeny contains \"turned\" if not data.postern.access.certificate_current\n"},
		{"except.rego": "package postern.access.team.x\n\ndeny contains \"closed\" if input.request.version > 0\n\nexcept contains {\"id\": \"e\", \"granted_by\": \"g\", \"until\": 1780315260, \"reasons\": [\"closed\"]} if input.device.known\n\nquarantine contains \"meant\" if count(data.postern.access.exceptions) > 0\n"},
		{"night.rego": "package postern.access.team.x\n\ndeny contains \"odd\" if input.now % 2 == 1\n"},
		{"whole.rego": "package postern.access.team.x\n\ndeny contains \"odd\" if {\n\tfacts := input\n\tfacts.now % 2 == 1\n}\n"},
		{"tuned.yaml": "postern: {config: {access: {noncompliant: deny, noncompliant_grace: 60, rollout: {device_silent: [{stage: observe, percent: 90}]}}}}\n",
			"read.rego": "package postern.access.team.x\n\nquarantine contains \"late\" if not data.postern.access.compliance_accepted\n"},
		{"glass.yaml": "postern: {config: {access: {break_glass: [{user: alice@contoso.com, until: 1780315265}]}}}\n",
			"read.rego": "package postern.access.team.x\n\nquarantine contains \"open\" if count(data.postern.access.glass) > 0\n"},
		{"stale.rego": "package postern.access.team.x\n\ndeny contains \"stale\" if input.snapshot.behind > 3\n"},
	} {
		o := Options{}
		if files != nil {
			o.Path = dir(t, files)
		}
		e := mustLoad(t, o)
		for _, s := range accessSamples() {
			for _, change := range []func(*AccessInput){func(*AccessInput) {}, func(in *AccessInput) {
				in.Certificate.Status, in.Certificate.SuccessorFirstUse = "superseded", sampleNow-259200+5
			},
				func(in *AccessInput) { in.Certificate.NotAfter = sampleNow + 5 }, func(in *AccessInput) {
					in.Duplicate.OtherDeviceID, in.Duplicate.OtherLastSeen = "other", sampleNow-1209600+5
				},
				func(in *AccessInput) { in.Device.State = "blocked"; in.Certificate.NotAfter = sampleNow + 5 },
				func(in *AccessInput) { in.Device.Compliant, in.Device.ComplianceSince = "no", sampleNow-55 }} {
				in := s.in
				change(&in)
				for _, step := range []int64{0, 1, 3, 1, 1, 1, 50, 2, 1, 100_000_000} {
					in.Now += step
					in.Snapshot.Behind = step
					asked(t, e, in)
				}
			}
		}
	}
}

// What a policy reads of the clock is found however it is written.
func TestClockReads(t *testing.T) {
	team := func(rule string) Options {
		return Options{Path: dir(t, map[string]string{"x.rego": "package postern.access.team.x\n\n" + rule + "\n"})}
	}
	for _, tt := range []struct {
		name string
		o    Options
		want clockReads
	}{
		{"built-in", Options{}, clockReads{}},
		{"facts", team(`deny contains "x" if input.claimed.family == "gmail"`), clockReads{}},
		{"built-in rules", team(`deny contains "x" if not data.postern.access.certificate_good`), clockReads{}},
		{"exceptions", team(`deny contains "x" if count(data.postern.access.lifted) > 3`), clockReads{untold: true}},
		{"now", team(`deny contains "x" if input.now > 5`), clockReads{untold: true}},
		{"in brackets", team(`deny contains "x" if input["now"] > 5`), clockReads{untold: true}},
		{"snapshot", team(`deny contains "x" if input.snapshot.behind > 5`), clockReads{snapshot: true}},
		{"a field of the policy's choice", team("deny contains \"x\" if {\n\tsome field in [\"now\"]\n\tinput[field] == 5\n}"), clockReads{untold: true, snapshot: true}},
		{"the whole", team("deny contains \"x\" if {\n\tall := input\n\tall.now > 5\n}"), clockReads{untold: true, snapshot: true}},
		{"replaced", Options{Path: dir(t, map[string]string{"a.rego": leanPolicy, "e.rego": leanEnroll}), Replace: true}, clockReads{told: true}},
	} {
		if got := mustLoad(t, tt.o).clock; got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// Many goroutines, one engine: what is remembered is what was decided, and the bounds hold.
func TestCacheBounds(t *testing.T) {
	c := newCache()
	long := Decision{Reasons: []trust.Reason{{Code: "x", Text: strings.Repeat("x", 10_000)}}}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 8000 {
				k := certificateKey{"contoso", fmt.Sprint(g, "-", i/20)}
				r := remembered{digest: [32]byte{byte(i), byte(i >> 8), byte(g)}, until: 10, decision: long}
				r.decision.Rule = fmt.Sprint(g, i)
				c.put(k, r)
				// It may be gone: the others put a shard full of decisions where this goroutine is kept waiting.
				if d, _, ok := c.get(k, &r.digest, 5); ok && d.Rule != r.decision.Rule {
					t.Errorf("%d, %d: %q", g, i, d.Rule)
				}
			}
		})
	}
	wg.Wait()
	s := c.stats()
	if s.Bytes > cacheBytes || s.Bytes < cacheBytes/2 || s.Certificates < 300 || s.Hits+s.Misses != 32000 || s.Hits < 28_000 {
		t.Errorf("%+v", s)
	}
	for i := range c.shards {
		sum := 0
		for at := c.shards[i].order.Front(); at != nil; at = at.Next() {
			p := at.Value.(*place)
			if sum += p.bytes; len(p.decisions) > perCertificate {
				t.Fatalf("%d decisions about one certificate", len(p.decisions))
			}
		}
		if sum != c.shards[i].bytes {
			t.Errorf("shard %d: counted %d bytes, has %d", i, c.shards[i].bytes, sum)
		}
	}
}

// A phone that varies what it says pushes out its own decisions, and nobody else's.
func TestCacheIsFair(t *testing.T) {
	e := mustLoad(t, Options{})
	quiet := managedSample()
	asked(t, e, quiet)
	loud := managedSample()
	loud.Certificate.Serial = "0b"
	for i := range 200 {
		loud.Claimed.DeviceID = fmt.Sprint("invented", i)
		asked(t, e, loud)
	}
	stranger := managedSample()
	stranger.Certificate = CertFacts{Status: "none"}
	for i := range 200 {
		stranger.Claimed.DeviceID = fmt.Sprint("invented", i)
		asked(t, e, stranger)
	}
	if _, hit := asked(t, e, quiet); !hit {
		t.Error("the quiet phone was forgotten")
	}
	if s := e.CacheStats(); s.Certificates != 2 || s.Bytes > 20_000+perCertificate*4000 {
		t.Errorf("%+v", s)
	}
}
