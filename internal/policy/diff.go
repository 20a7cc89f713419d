package policy

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/rogpeppe/go-internal/diff"
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
	for _, b := range results[0] {
		for _, a := range results[1] {
			if a.Entry == b.Entry && a.Name == b.Name && (a.Action != b.Action || !slices.Equal(a.Reasons, b.Reasons)) {
				d.Samples = append(d.Samples, SampleDifference{a.Entry, a.Name, b, a})
			}
		}
	}
	return d, nil
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
