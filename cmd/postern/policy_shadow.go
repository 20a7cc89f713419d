package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/policy"
)

const shadowPath = "/policies/shadow"

// policyShadow is a candidate that decides beside the policy in force, on what phones really send.
func (a *app) policyShadow() *cobra.Command {
	show := func(c *cobra.Command, _ []string) error {
		return get(a, c, shadowPath, nil, printShadow)
	}
	status := &cobra.Command{Use: "status", Aliases: []string{"show"}, Short: "Say what the candidate would have decided otherwise so far", Args: cobra.NoArgs, RunE: show}
	stop := &cobra.Command{Use: "stop", Short: "End the shadow, and print its last report", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return call(a, c, http.MethodDelete, shadowPath, nil, nil, func(w io.Writer, s api.PolicyShadow) error {
			if err := printShadowReport(w, s); err != nil {
				return err
			}
			_, err := fmt.Fprintf(w, "%s no longer decides in shadow\n", s.Digest)
			return err
		})
	}}
	return group("shadow", "Have a candidate decide beside the policy in force, without changing an answer", a.startShadow(), status, a.promoteShadow(), stop)
}

func (a *app) startShadow() *cobra.Command {
	var comment string
	c := &cobra.Command{Use: "start DIR|DIGEST", Short: "Have a policy decide in shadow on every node; a directory is checked and stored as a version first", Args: cobra.ExactArgs(1),
		Example: "  postern policy shadow start policies --comment \"phones without a screen lock\"",
		RunE: func(c *cobra.Command, args []string) error {
			digest, err := a.policyToUse(c, args[0], comment)
			if err != nil {
				return err
			}
			return call(a, c, http.MethodPost, shadowPath, nil, api.StartShadow{Digest: digest, Comment: comment}, func(w io.Writer, s api.PolicyShadow) error {
				if !s.Running {
					return fmt.Errorf("%s should decide in shadow, but this node has not begun: see the warnings of `postern status`", s.Digest)
				}
				force := "bring it into force with `postern policy shadow promote`"
				if s.Source != "" {
					force = "promote will be refused here, for the policies come from " + s.Source + ": bring the candidate into force by putting its files there"
				}
				_, err := fmt.Fprintf(w, "%s decides in shadow: see `postern policy shadow status`; %s\n", s.Digest, force)
				return err
			})
		}}
	c.Flags().StringVar(&comment, "comment", "", "why, for the audit log")
	return c
}

// promoteShadow activates what is in shadow, by the same call and so by the same rules as any other version.
func (a *app) promoteShadow() *cobra.Command {
	var comment string
	c := &cobra.Command{Use: "promote", Short: "Bring the candidate into force on every node; its shadow ends with that", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		var s api.PolicyShadow
		if err := client.Call(c.Context(), http.MethodGet, shadowPath, nil, nil, &s); err != nil {
			return err
		}
		if comment == "" {
			comment = s.Comment
		}
		return a.activate(c, s.Digest, comment)
	}}
	c.Flags().StringVar(&comment, "comment", "", "why, for the history; otherwise what was said when the shadow began")
	return c
}

func printShadow(w io.Writer, s api.PolicyShadow) error {
	fmt.Fprintf(w, "%s decides in shadow since %s, begun by %s: %s\n", s.Digest, stamp(s.At), s.By, dash(printable(s.Comment)))
	return printShadowReport(w, s)
}

func printShadowReport(w io.Writer, s api.PolicyShadow) error {
	var r *policy.ShadowReport
	if err := json.Unmarshal(s.Report, &r); err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	if r == nil {
		_, err := fmt.Fprintln(w, "it does not run on this node: see the warnings of `postern status`")
		return err
	}
	printGroups(w, r.ReplayReport)
	fmt.Fprintf(w, "\n%d of %d compared decisions would change (policy %s, beside %s since %s on this node)\n", r.Changed, r.Decisions, r.Policy, r.Against, stamp(r.Since))
	fmt.Fprintf(w, "evaluated %d of %d decisions that were made anew; the others had the same facts as one of these, wait (%d) or were dropped (%d)\n", r.Evaluated, r.Offered, r.Waiting, r.Dropped)
	for _, x := range []struct {
		n    uint64
		text string
	}{
		{r.Dropped, "were dropped, because a shadow takes little time from the gate; what comes again after a minute is tried again"},
		{uint64(r.WithoutFacts + r.Unreadable), "could not be decided again"}, {uint64(r.Faults), "were faults, so there was no decision to compare with"},
		{uint64(r.MoreGroups), "would change in more ways than the report has room for"},
	} {
		if x.n > 0 {
			fmt.Fprintln(w, "not in it:", missing(x.n, x.text))
		}
	}
	_, err := fmt.Fprintf(w, "a decision that is remembered counts once, for all requests with its facts; the report covers %s and ends with the process\n", time.Since(r.Since).Round(time.Second))
	return err
}
