package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"postern/internal/trust"
)

// Difference is what changes from one policy to another: in its files, and for the sample requests. What would have changed for real ones Replay tells.
type Difference struct {
	Before  string             `json:"before"` // digests
	After   string             `json:"after"`
	Files   []FileDifference   `json:"files"`
	Samples []SampleDifference `json:"samples"`
}

// FileDifference is one file that is not the same. Text is a unified diff.
type FileDifference struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // added, removed or changed
	Text string `json:"text"`
}

// SampleDifference is one sample request that is decided in another way.
type SampleDifference struct {
	Entry  string       `json:"entry"`
	Name   string       `json:"name"`
	Before SampleResult `json:"before"`
	After  SampleResult `json:"after"`
}

// Diff compares two policies made of a team's files beside the built-in ones. A policy that is not accepted is a *CheckError.
func Diff(ctx context.Context, before, after Files) (*Difference, error) {
	d := &Difference{Files: []FileDifference{}, Samples: []SampleDifference{}}
	var results [2][]SampleResult
	for i, side := range []struct {
		files  Files
		digest *string
	}{{before, &d.Before}, {after, &d.After}} {
		e, problems, err := load(ctx, Options{Files: side.files})
		if err != nil {
			return nil, err
		}
		if len(problems) == 0 {
			results[i], problems = e.prove(ctx)
		}
		if len(problems) > 0 {
			return nil, fmt.Errorf("compare policies: %w", &CheckError{Problems: problems})
		}
		*side.digest = e.Digest()
	}
	names := maps.Clone(before)
	if names == nil {
		names = Files{}
	}
	maps.Copy(names, after)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		d.file(name, before, after)
	}
	d.Samples = differing(results[0], results[1])
	return d, nil
}

// differing returns the samples that are decided in another way.
func differing(before, after []SampleResult) []SampleDifference {
	all := []SampleDifference{}
	for _, b := range before {
		for _, a := range after {
			if a.Entry == b.Entry && a.Name == b.Name && (a.Action != b.Action || !slices.Equal(a.Reasons, b.Reasons)) {
				all = append(all, SampleDifference{a.Entry, a.Name, b, a})
			}
		}
	}
	return all
}

// everybody are the samples that nearly everybody's mail rests on, and what stops where one is not allowed.
var everybody = map[string]string{
	"managed":   "every managed phone would lose its mail",
	"discovery": "no phone could be set up",
	"sign_in":   "no phone could sign in",
}

// otherwise returns the samples that a policy decides in another way than the built-in policies alone, and a warning for each of them that everybody's mail rests on.
func otherwise(ctx context.Context, samples []SampleResult) (differ []SampleDifference, warnings []Problem, err error) {
	builtin, problems, err := load(ctx, Options{})
	if err != nil || len(problems) > 0 {
		return nil, nil, errors.Join(err, errorOf(problems))
	}
	before, problems := builtin.prove(ctx)
	if len(problems) > 0 {
		return nil, nil, errorOf(problems)
	}
	differ = differing(before, samples)
	for _, s := range differ {
		if stops, is := everybody[s.Name]; is && s.Entry == "access" && s.Before.Action == trust.Allow && s.After.Action != trust.Allow {
			warnings = append(warnings, Problem{Message: fmt.Sprintf("the sample access/%s is no longer allowed: %s (%s): %s", s.Name, s.After.Action, strings.Join(s.After.Reasons, ", "), stops),
				Advice: "a rule that is about commands alone says input.request.class == \"command\""})
		}
	}
	return differ, warnings, nil
}

func errorOf(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &CheckError{Problems: problems}
}

func (d *Difference) file(name string, before, after Files) {
	old, had := before[name]
	now, has := after[name]
	if had && has && bytes.Equal(old, now) {
		return
	}
	kind := "changed"
	switch {
	case !had:
		kind = "added"
	case !has:
		kind = "removed"
	}
	d.Files = append(d.Files, FileDifference{name, kind, string(diff.Diff("before/"+name, old, "after/"+name, now))})
}
