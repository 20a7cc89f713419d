package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/trust"
)

// errChanges is what the exit status of a replay with --exit-code says.
var errChanges = errors.New("decisions would change")

func (a *app) policyReplay() *cobra.Command {
	var since, path string
	var exitCode bool
	var workers int
	c := &cobra.Command{Use: "replay [POLICY]", Short: "Decide recorded decisions again, and say whose would change", Args: cobra.MaximumNArgs(1),
		Long: "POLICY is a directory, the digest of a stored version, `active` for what is in force (the default), or `built-in`.\n" +
			"The decisions are read from the running server and decided here.",
		Example: "  postern policy replay --since 7d policies",
		RunE: func(c *cobra.Command, args []string) error {
			word := "active"
			if len(args) > 0 {
				word = args[0]
			}
			if path != "" {
				word = path
			}
			age, err := span(since)
			if err != nil {
				return err
			}
			files, err := a.policyFiles(c, word)
			if err != nil {
				return err
			}
			e, err := policy.Load(c.Context(), policy.Options{Files: files})
			if err != nil {
				return err
			}
			report, kept, err := a.replay(c, e, time.Now().Add(-age), workers)
			if err != nil {
				return err
			}
			if a.json {
				err = printJSON(c.OutOrStdout(), struct {
					*policy.ReplayReport
					Since    time.Time    `json:"since"`
					Retained api.Retained `json:"retained"`
				}{report, time.Now().Add(-age).UTC(), kept})
			} else {
				printReplay(c.OutOrStdout(), report, age, kept)
			}
			if err == nil && exitCode && report.Changed > 0 {
				err = errChanges
			}
			return err
		}}
	c.Flags().StringVar(&since, "since", "7d", "how far back: 90m, 24h, 7d")
	c.Flags().StringVar(&path, "path", "", "the same as POLICY")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 1 if a decision would change, for CI")
	c.Flags().IntVar(&workers, "workers", 0, "how many processors to use; 0: all")
	return c
}

// span reads a duration, with d for days.
func span(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 12); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is no span of time: write it like 90m, 24h or 7d", s)
	}
	return d, nil
}

// replay decides what the server has recorded since a time, and returns as well what it has not recorded.
func (a *app) replay(c *cobra.Command, e *policy.Engine, since time.Time, workers int) (*policy.ReplayReport, api.Retained, error) {
	var kept api.Retained
	client, err := a.client()
	if err != nil {
		return nil, kept, err
	}
	if err := client.Call(c.Context(), http.MethodGet, "/decisions/retained", nil, nil, &kept); err != nil {
		return nil, kept, err
	}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	body, err := client.Stream(ctx, "/decisions/recorded", url.Values{"since": {since.UTC().Format(time.RFC3339)}})
	if err != nil {
		return nil, kept, err
	}
	defer body.Close()
	bar, start := newProgress(c.ErrOrStderr(), 0, "decisions"), time.Now()
	var one sync.Mutex // workers report at the same time
	report, err := e.Replay(ctx, recorded(body), policy.ReplayOptions{Workers: workers, Progress: func(n int) {
		one.Lock()
		defer one.Unlock()
		bar.at(n, fmt.Sprintf("%.0f a second", float64(n)/time.Since(start).Seconds()))
	}})
	bar.end()
	return report, kept, err
}

// recorded reads the server's stream.
func recorded(body io.Reader) iter.Seq2[policy.Recorded, error] {
	return func(yield func(policy.Recorded, error) bool) {
		r := bufio.NewReaderSize(body, 1<<20)
		for {
			d, err := api.ReadRecorded(r)
			if err == io.EOF {
				return
			}
			entry := "access"
			if d.Door == "scep" {
				entry = "enroll"
			}
			if !yield(policy.Recorded{Entry: entry, Reference: d.Reference, At: d.At, Action: trust.Action(d.Action), Codes: d.Codes, Policy: d.Policy, User: d.User,
				Device: d.Device, Command: d.Command, Input: d.Input}, err) || err != nil {
				return
			}
		}
	}
}

func printGroups(w io.Writer, r *policy.ReplayReport) {
	for _, g := range r.Groups {
		fmt.Fprintf(w, "%d would be %s, not %s: %s (%s)\n", g.Count, said(g.After), said(g.Before), plural(len(g.Users), "user", "users"), names(g.Users))
		fmt.Fprintf(w, "  devices: %s\n", names(g.Devices))
		if len(g.Clients) > 0 {
			fmt.Fprintf(w, "  clients: %s\n", names(g.Clients))
		}
		for _, x := range g.Examples {
			fmt.Fprintf(w, "  for example %s %s %s %s %s %s\n", time.Unix(x.At, 0).Local().Format("2006-01-02 15:04"), dash(printable(x.User)), dash(printable(x.Device)),
				dash(x.Command), dash(x.Reference), printable(x.Error))
		}
	}
	for _, x := range r.Rules {
		fmt.Fprintf(w, "rule %s: %s would be said %s more and %s fewer\n", printable(x.Rule), x.Code, plural(x.More, "time", "times"), plural(x.Fewer, "time", "times"))
	}
}

func printReplay(w io.Writer, r *policy.ReplayReport, age time.Duration, kept api.Retained) {
	printGroups(w, r)
	fmt.Fprintf(w, "\n%d of %d recorded decisions would change (policy %s); %d evaluated, the others had the same facts as one of these\n", r.Changed, r.Decisions, r.Policy, r.Evaluated)
	for _, x := range []struct {
		n    uint64
		text string
	}{
		{uint64(r.WithoutFacts), "could not be decided again: their facts were not kept"}, {uint64(r.Unreadable), "could not be decided again: their facts cannot be read by this version"},
		{uint64(r.Faults), "were faults, so there was no decision to compare with"}, {kept.Dropped, "were lost to overload since the server started"},
		{kept.Sampled, "of strangers were only counted since the server started"}, {kept.Evicted + kept.EvictedStrangers, "made room before their time since the server started"},
		{kept.EvictedAllowed + kept.SkippedAllowed, "sets of facts of plain allows are missing for want of room since the server started"},
	} {
		if x.n > 0 {
			fmt.Fprintln(w, "not in it:", missing(x.n, x.text))
		}
	}
	life := time.Duration(kept.KeptSeconds) * time.Second
	fmt.Fprintf(w, "decisions are kept for %s, and at most %d MB of them (journal)\n", days(life), kept.KeptBytes>>20)
	if age > life {
		fmt.Fprintf(w, "not in it: whatever is older than %s\n", days(life))
	}
	if kept.AllowedShare < 1 {
		fmt.Fprintf(w, "THIS IS A PART: of plain allows, only %.3g %% of the sets of facts are recorded (journal.plain_allows); others were left out %s since the server started\n",
			100*kept.AllowedShare, plural(kept.LeftOutAllowed, "time", "times"))
	}
	fmt.Fprintf(w, "an allow is recorded once for each set of facts, with its notes if it has any: %s allowed since the journal began\n", plural(kept.Allowed, "request was", "requests were"))
}

// missing is so many decisions that a report does not have, and why: "were lost" is "was lost" of one.
func missing(n uint64, why string) string {
	if rest, past := strings.CutPrefix(why, "were "); past && n == 1 {
		why = "was " + rest
	}
	return fmt.Sprintf("%d %s", n, why)
}

// days writes a span of whole days as such.
func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return plural(int(d/(24*time.Hour)), "day", "days")
	}
	return d.String()
}

func said(o policy.Outcome) string {
	if o.Codes == "" {
		return string(o.Action)
	}
	return string(o.Action) + " (" + o.Codes + ")"
}

// names lists the first few.
func names(all []policy.Named) string {
	const most = 5
	words := []string{}
	for _, n := range all[:min(most, len(all))] {
		words = append(words, fmt.Sprintf("%s %d", printable(n.Name), n.Count))
	}
	if len(all) > most {
		words = append(words, fmt.Sprintf("and %d more", len(all)-most))
	}
	return dash(strings.Join(words, ", "))
}
