package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// A rule that is said of every request stops everybody. Whether it is cannot be read off it, but tried: on every sample; on every sample as another company
// would send it, with other users, devices, clients, networks and times, and with every label, group and zone that a rule could miss; and on a managed phone of
// which every name is one that the rules or the data mention, for a rule that lets only what it knows pass.

// alwaysTime bounds the trial. What takes longer goes unnoticed: it is for a warning.
const alwaysTime = 5 * time.Second

// always warns of the rules of teams that speak whatever is asked, and of those that would make a fault of a request that the samples are not.
func (p *program) always(ctx context.Context) (warnings []Problem) {
	if p.replaced {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, alwaysTime)
	defer cancel()
	for _, entry := range entries {
		if !p.hasTeams(entry) {
			continue
		}
		all, commands := p.variedSamples(entry)
		speak, faults := p.speakingIn(ctx, entry, all)
		warnings = append(warnings, faults...)
		for _, f := range p.files {
			m := p.modules[f.name]
			if m == nil || f.builtin || f.test() || entryOf(m.Package) != entry {
				continue
			}
			for _, r := range m.Rules {
				switch n := speak[line{r.Location.File, r.Location.Row}]; {
				case n.all == len(all):
					warnings = append(warnings, alwaysSaid(r, "every sample of "+entry, stopsAll[entry]))
				case commands > 0 && n.commands == commands:
					warnings = append(warnings, alwaysSaid(r, "every sample of a command", "nobody would get mail"))
				}
			}
		}
	}
	return warnings
}

// stopsAll is what a rule does that is always said, by the entry point.
var stopsAll = map[string]string{"access": "nobody would get mail, and no phone could be set up", "enroll": "no device would get a certificate", "lifecycle": "it would be done to every device"}

func alwaysSaid(r *ast.Rule, of, stops string) Problem {
	if string(r.Head.Name) == "except" {
		return at(r.Location, "this exception is granted for "+of+", whoever and whatever it is: it lifts its reasons for everybody", "name the facts that it is for, such as input.owner.mail in data.vips")
	}
	return at(r.Location, fmt.Sprintf("%s is said of %s, whoever and whatever it is: %s", r.Head.Name, of, stops), "add a condition about the facts that it is for: policy eval --facts prints them")
}

// spokeIn counts the inputs for which a rule had an answer, and among them the commands.
type spokeIn struct{ all, commands int }

// variedSample is an input to try.
type variedSample struct {
	input   *ast.Term
	command bool
	named   string // what it has for names; empty: its own
}

// speakingIn asks all rules of teams about every input, and counts by the line of the rule. One that cannot be asked has no rule speak, and is a warning where
// the rule is written.
func (p *program) speakingIn(ctx context.Context, entry string, inputs []variedSample) (map[line]spokeIn, []Problem) {
	counts := map[line]spokeIn{}
	query, _, problems, err := p.query(ctx, entry, "data.postern."+entry+".team")
	if err != nil || len(problems) > 0 {
		return counts, nil
	}
	var faults []Problem
	seen := map[line]bool{}
	for _, in := range inputs {
		spoke := newSpeaking()
		if _, err := query.Eval(ctx, rego.EvalParsedInput(in.input.Value), rego.EvalQueryTracer(spoke)); err != nil {
			var at *topdown.Error
			if errors.As(err, &at) && at.Location != nil && at.Code != topdown.CancelErr && !seen[line{at.Location.File, at.Location.Row}] {
				seen[line{at.Location.File, at.Location.Row}] = true
				faults = append(faults, wouldFail(at, in.named))
			}
			continue
		}
		for at := range spoke.rules {
			n := counts[at]
			n.all++
			if in.command {
				n.commands++
			}
			counts[at] = n
		}
	}
	return counts, faults
}

// wouldFail warns of an error that the samples do not come to.
func wouldFail(err *topdown.Error, named string) Problem {
	of := "a request of another company"
	if named != "" {
		of = fmt.Sprintf("one in which the user, the device or another name is %q", named)
	}
	return at(err.Location, fmt.Sprintf("this would be a fault of %s: %s", of, err.Message),
		"look first whether the value has the form that is expected, as by is_number(x); in data of your own a time that is compared with input.now is a number of seconds")
}

// variedSamples are what is tried of an entry point, and how many of them are commands.
func (p *program) variedSamples(entry string) (all []variedSample, commands int) {
	around, texts := p.surroundings(), p.textsOfTeams()
	e := elsewhere{labels: map[string]string{}, groups: map[string]bool{}, zones: around.zones.names()}
	for _, of := range around.groups {
		maps.Copy(e.groups, of)
	}
	for _, s := range texts {
		e.labels[s] = "another"
	}
	switch entry {
	case "access":
		for _, s := range accessSamples() {
			varied(&all, s.in, s.name == "managed", texts, e.access, func(in *AccessInput) {
				in.Request.Zones, in.Owner.Groups = around.zones.of(in.Request.SourceIP), around.groupsOf(&in.Owner)
			}, s.in.Request.Class == "command")
		}
	case "enroll":
		for i, s := range enrollSamples() {
			varied(&all, s.in, i == 0, texts, e.enroll, func(in *EnrollInput) { in.Owner.Groups = around.groupsOf(&in.Owner) }, false)
		}
	case "lifecycle":
		for i, s := range lifecycleSamples() {
			varied(&all, s.in, i == 0, texts, e.lifecycle, func(in *LifecycleInput) { in.Owner.Groups = around.groupsOf(&in.Owner) }, false)
		}
	}
	for _, v := range all {
		if v.command {
			commands++
		}
	}
	return all, commands
}

// varied adds a sample as it is and from elsewhere, and where it is the first, with every text for a name.
func varied[I any, P interface {
	*I
	value() *ast.Term
}](all *[]variedSample, sample I, first bool, texts []string, elsewhere func(I) P, surround func(P), command bool) {
	here := sample
	surround(&here)
	*all = append(*all, variedSample{P(&here).value(), command, ""}, variedSample{elsewhere(sample).value(), command, ""})
	if !first {
		return
	}
	for _, s := range texts {
		in := elsewhere(sample)
		nameAll(reflect.ValueOf(in).Elem(), s)
		*all = append(*all, variedSample{in.value(), command, s})
	}
}

// maxTexts bounds how many names are tried.
const maxTexts = 200

// textsOfTeams are the texts in the rules of teams, and then those in their data.
func (p *program) textsOfTeams() (texts []string) {
	seen := map[string]bool{}
	add := func(s string) {
		if !seen[s] && len(texts) < maxTexts {
			texts, seen[s] = append(texts, s), true
		}
	}
	for _, f := range p.files {
		if m := p.modules[f.name]; m != nil && !f.builtin && !f.test() {
			ast.WalkTerms(m, func(t *ast.Term) bool {
				if s, ok := t.Value.(ast.String); ok {
					add(string(s))
				}
				return false
			})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.data)) {
		if key != "postern" {
			textsIn(p.data[key], add)
		}
	}
	return texts
}

func textsIn(v any, add func(string)) {
	switch v := v.(type) {
	case string:
		add(v)
	case []any:
		for _, x := range v[:min(len(v), maxTexts)] {
			textsIn(x, add)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			add(key)
			textsIn(v[key], add)
		}
	}
}

// nameAll gives every name in an input, but for words of which there are only some, the text s.
func nameAll(v reflect.Value, s string) {
	for i := range v.NumField() {
		f, tag := v.Field(i), v.Type().Field(i).Tag
		switch {
		case tag.Get("enum") != "", tag.Get("json") == "source_ip": // never another word, never anything but an address
		case f.Kind() == reflect.Struct:
			nameAll(f, s)
		case f.Kind() == reflect.String:
			f.SetString(s)
		case f.Type() == reflect.TypeFor[[]string]():
			f.Set(reflect.ValueOf([]string{s}))
		case f.Type() == reflect.TypeFor[map[string]bool]():
			with := map[string]bool{s: true}
			maps.Copy(with, f.Interface().(map[string]bool))
			f.Set(reflect.ValueOf(with))
		case f.Type() == reflect.TypeFor[map[string]string]():
			with := map[string]string{}
			for name := range f.Interface().(map[string]string) {
				with[name] = s
			}
			f.Set(reflect.ValueOf(with))
		}
	}
}

// elsewhere makes of a sample what another company would send.
type elsewhere struct {
	labels        map[string]string
	groups, zones map[string]bool
}

// later is five days and nine hours, from noon of a Monday to the evening of a Saturday.
const later = (5*24 + 9) * 3600

func (e elsewhere) access(in AccessInput) *AccessInput {
	r, c, k := &in.Request, &in.Claimed, &in.Credential
	in.Now += later
	r.Tenant, r.Host, r.SourceIP, r.Zones = "fabrikam", "mail.fabrikam.com", "2001:db8:9::7", e.zones
	if r.Class == "command" {
		r.Command, r.Version, r.Protocol = "ping", 140, "eas"
	}
	*c = ClaimedFacts{DeviceID: "sec1234", DeviceType: "SamsungDevice", UserAgent: "SAMSUNG-SM-S911B/101.13", Family: either(c.Family, "samsung", "nine"), Platform: either(c.Platform, "android", "windows"),
		Model: "sm-s911b", OSNumber: 0}
	k.User, k.Names = "bob@fabrikam.com", map[string]bool{"bob@fabrikam.com": true}
	k.Kind, k.OID, k.TID, k.AppID, k.Audience, k.Expires = either(k.Kind, "basic", "bearer"), "o-bob", "t-fabrikam", "app-other", nil, in.Now+60
	in.Certificate.Issuer, in.Certificate.Serial, in.Certificate.NotAfter = "fabrikam", "77", in.Now+20*86400
	in.Device, in.Owner = e.device(in.Device), e.owner(in.Owner)
	in.Certificate.Device, in.Ticket.Device = in.Device.ID, in.Device.ID
	in.Profile = ProfileFacts{Known: !in.Profile.Known, ID: "mp-7", FirstSeen: in.Now - 60, Linked: true}
	in.Snapshot.Behind = 30
	return &in
}

func (e elsewhere) device(d DeviceFacts) DeviceFacts {
	d.ID, d.EASDeviceID, d.SerialNumber, d.Model, d.Source = "dev-bob", "sec1234", "R5CW", "SM-S911B", "intune"
	d.OS, d.OSVersion, d.OSNumber = either(d.OS, "android", "windows"), "14", VersionNumber("14")
	d.Compliant, d.ComplianceSince, d.SilentFor = either(d.Compliant, "no", "unknown"), sampleNow, d.SilentFor+7200
	d.Bucket, d.Place, d.Labels, d.Known, d.Managed = 7, 2, e.labels, true, !d.Managed
	return d
}

func (e elsewhere) owner(o OwnerFacts) OwnerFacts {
	o.Known, o.Mail, o.Names = true, "bob@fabrikam.com", map[string]bool{"bob@fabrikam.com": true, `fabrikam\bob`: true}
	o.OID, o.TID, o.Delegations, o.Devices, o.Groups = "o-bob", "t-fabrikam", map[string]bool{}, 2, e.groups
	return o
}

func (e elsewhere) enroll(in EnrollInput) *EnrollInput {
	in.Now += later
	in.Issuer, in.Domain, in.Domains, in.SourceIP = "fabrikam", "fabrikam.com", []string{"fabrikam.com", "fabrikam.org"}, "2001:db8:9::7"
	in.Evidence, in.Approved, in.Key, in.Requested.Mails = either(in.Evidence, "validated", "challenge"), true, KeyFacts{Algorithm: "ecdsa", Bits: 384, Attested: true}, []string{"bob@fabrikam.com"}
	in.Device, in.Owner = e.device(in.Device), e.owner(in.Owner)
	in.Renews.Serial, in.Renews.NotBefore, in.Renews.NotAfter, in.Renews.SameKey = "77", in.Now-86400, in.Now+300*86400, !in.Renews.SameKey
	return &in
}

func (e elsewhere) lifecycle(in LifecycleInput) *LifecycleInput {
	in.Now += later
	in.Device, in.Owner = e.device(in.Device), e.owner(in.Owner)
	in.Added, in.Certificate, in.Mail = in.Now-60, HeldFacts{Status: "none"}, MailFacts{Profiles: 3 - in.Mail.Profiles, LastSeen: in.Now - 60}
	return &in
}

// either is a, or b where a is what there is.
func either(have, a, b string) string {
	if have == a {
		return b
	}
	return a
}

// names are those of all zones.
func (z *zones) names() map[string]bool {
	all := map[string]bool{}
	for _, in := range z.in {
		maps.Copy(all, in)
	}
	return all
}
