package decisionlog

import (
	"bytes"
	"encoding/json"
	"os"
	"time"

	"postern/internal/policy"
	"postern/internal/trust"
)

// entryOf is the entry point that a door asks.
func entryOf(door string) string {
	if door == "scep" {
		return "enroll"
	}
	return "access"
}

// event encodes a decision as OPA's decision log events are, one JSON object without line breaks. Sentences are left out: they are made from the codes, and
// name people.
func (l *Log) event(d trust.Decision) ([]byte, error) {
	entry := entryOf(d.Door)
	e := map[string]any{
		"labels": l.labels(), "decision_id": d.Reference, "path": "postern/" + entry + "/decision", "timestamp": d.At.UTC().Format(time.RFC3339Nano),
		"custom": custom(d),
	}
	if d.Reference == "" {
		e["decision_id"] = trust.NewReference(d.At)
	}
	if d.Policy != "" {
		e["bundles"] = map[string]any{"postern": map[string]any{"revision": d.Policy}}
	}
	if d.Remote != "" {
		e["requested_by"] = d.Remote
	}
	input, err := facts(entry, d.Input)
	if err != nil {
		return nil, err
	}
	if input != nil {
		e["input"] = input
	}
	if d.Action == trust.Fault {
		e["error"] = map[string]any{"code": code(d), "message": "no decision: the request was answered with try again later"}
	} else {
		e["result"] = result(d)
	}
	if erased := l.mask.erase(e); len(erased) > 0 {
		e["erased"] = erased
	}
	return json.Marshal(e)
}

func (l *Log) labels() map[string]string {
	if l.cfg.Labels != nil {
		return l.cfg.Labels
	}
	return map[string]string{}
}

// facts reads a recorded input into plain JSON values; nil where none was kept.
func facts(entry string, recorded []byte) (map[string]any, error) {
	if len(recorded) == 0 {
		return nil, nil
	}
	if entry == "access" && recorded[0] != '{' {
		in, err := policy.DecodeAccess(recorded)
		if err != nil {
			return nil, err
		}
		if recorded, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	read := json.NewDecoder(bytes.NewReader(recorded))
	read.UseNumber()
	var v map[string]any
	if err := read.Decode(&v); err != nil || v == nil {
		return nil, errNoFacts
	}
	return v, nil
}

func result(d trust.Decision) map[string]any {
	reasons := make([]any, len(d.Reasons))
	for i, r := range d.Reasons {
		one := map[string]any{"code": r.Code, "rule": r.Rule}
		if len(r.Facts) > 0 {
			facts := map[string]any{}
			for k, v := range r.Facts {
				facts[k] = v
			}
			one["facts"] = facts
		}
		reasons[i] = one
	}
	out := map[string]any{"action": string(d.Action), "reasons": reasons, "valid_until": 0}
	if !d.ValidUntil.IsZero() {
		out["valid_until"] = d.ValidUntil.Unix()
	}
	return out
}

// custom is what OPA has no field for: how to find the decision's device here.
func custom(d trust.Decision) map[string]any {
	out := map[string]any{"door": d.Door}
	for name, v := range map[string]string{"device": string(d.Device), "certificate": string(d.Serial), "profile": d.Profile, "command": d.Command} {
		if v != "" {
			out[name] = v
		}
	}
	return out
}

func code(d trust.Decision) string {
	if len(d.Reasons) > 0 {
		return d.Reasons[0].Code
	}
	return "internal_error"
}

// Labels are those of this process: what it is, which one, and of which version.
func Labels(version string, more map[string]string) map[string]string {
	out := map[string]string{"app": "postern", "version": version}
	if host, err := os.Hostname(); err == nil {
		out["id"] = host
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}
