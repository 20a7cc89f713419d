package main

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/trust"
)

// policyExplain says in words why a recorded decision was made and what would change it.
func (a *app) policyExplain() *cobra.Command {
	var path string
	var all bool
	c := &cobra.Command{Use: "explain REFERENCE", Short: "Say why a request or an enrolment was refused: what held, what did not, and the smallest change that would let it through", Args: cobra.ExactArgs(1),
		Long: "The policy is the version that decided, where it is stored; --path names another one to ask instead: a directory, a digest, `active` or `built-in`.",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var d api.Decision
			if err := client.Call(c.Context(), "GET", "/decisions/"+url.PathEscape(args[0]), nil, nil, &d); err != nil {
				return err
			}
			x, note, err := a.explanation(c, d, path)
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), x)
			}
			printExplanation(c.OutOrStdout(), d, x, note, all)
			return nil
		}}
	c.Flags().StringVar(&path, "path", "", "ask this policy instead of the one that decided")
	c.Flags().BoolVar(&all, "all", false, "list the conditions that hold as well")
	return c
}

// explanation asks the policy again. What it did not decide, or decided without facts, is told as it was recorded.
func (a *app) explanation(c *cobra.Command, d api.Decision, path string) (x *policy.Explanation, note string, err error) {
	if d.Action == trust.Fault || len(d.Input) == 0 {
		return &policy.Explanation{Decision: policy.Decision{Action: d.Action, Reasons: d.Reasons, Policy: d.Policy}, Conditions: []policy.Condition{}, Changes: [][]policy.Change{}}, "", nil
	}
	files, note, err := a.policyThatDecided(c, d.Policy, path)
	if err != nil {
		return nil, "", err
	}
	o := policy.Options{Files: files}
	if d.Door == "scep" {
		in, err := policy.DecodeEnroll(d.Input)
		if err != nil {
			return nil, "", err
		}
		x, err = policy.ExplainEnroll(c.Context(), o, in)
		return x, note, err
	}
	in, err := policy.DecodeAccess(d.Input)
	if err != nil {
		return nil, "", err
	}
	x, err = policy.Explain(c.Context(), o, in)
	return x, note, err
}

// policyThatDecided returns the files of the policy with the digest, or of the one in force with a note where that one is not stored.
func (a *app) policyThatDecided(c *cobra.Command, digest, path string) (files policy.Files, note string, err error) {
	if path != "" {
		files, err = a.policyFiles(c, path)
		return files, "", err
	}
	if builtin, err := (policy.Files{}).Digest(false); err == nil && builtin == digest {
		return policy.Files{}, "", nil
	}
	if files, err := a.policyFiles(c, digest); err == nil {
		return files, "", nil
	}
	files, err = a.policyFiles(c, "active")
	return files, "The policy that decided (" + digest + ") is not stored: this is what the one in force says.", err
}

func printExplanation(w io.Writer, d api.Decision, x *policy.Explanation, note string, all bool) {
	fmt.Fprintf(w, "%s of %s (device %s, %s) was answered: %s\n", dash(printable(d.Command)), dash(printable(d.User)), dash(string(d.Device)), stamp(d.At), answerText(d.Action))
	if note != "" {
		fmt.Fprintln(w, note)
	}
	if x.Decision.Action != d.Action {
		fmt.Fprintf(w, "This policy decides otherwise: %s\n", answerText(x.Decision.Action))
	}
	switch {
	case d.Action == trust.Fault:
		fmt.Fprintln(w, "\nNot the phone's fault: nothing was decided, and it tries again by itself.")
	case len(x.Decision.Reasons) > 0:
		fmt.Fprintln(w, "\nWhy:")
	}
	for _, r := range x.Decision.Reasons {
		fmt.Fprintf(w, "  %s\n    reason %s, rule: %s\n", printable(r.Text), r.Code, dash(policy.RuleTitle(r.Code, r.Rule)))
		fmt.Fprintf(w, "    What to do: %s\n", printable(cmp.Or(r.Remedy, policy.NoRemedy)))
	}
	if strings.Contains(remedies(x), "`postern ") {
		fmt.Fprintln(w, "  Whoever is at the help desk may run these commands, but for those that are said to be a PKI officer's or a policy author's.")
	}
	if d.Action == trust.Fault || len(d.Input) == 0 {
		return // no policy was asked that could answer otherwise
	}
	printConditions(w, x.Conditions, all)
	printChanges(w, x)
}

func remedies(x *policy.Explanation) (all string) {
	for _, r := range x.Decision.Reasons {
		all += r.Remedy
	}
	return all
}

// answerText is an action in words.
func answerText(a trust.Action) string {
	switch a {
	case trust.Allow:
		return "allow (it gets what it asked for)"
	case trust.Deny:
		return "deny (refused)"
	case trust.Quarantine:
		return "quarantine (no mail until somebody lets it in, or the cause is gone)"
	case trust.Pend:
		return "pend (it waits until somebody approves it)"
	case trust.Fault:
		return "fault (try again later)"
	}
	return string(a)
}

// printConditions lists the conditions that fail, or all.
func printConditions(w io.Writer, conditions []policy.Condition, all bool) {
	if len(conditions) == 0 {
		return
	}
	hold := 0
	for _, cond := range conditions {
		if cond.Holds {
			hold++
		}
	}
	fmt.Fprintln(w, "\nIt passes when all of these hold:")
	for _, cond := range conditions {
		mark := "not met:"
		switch {
		case cond.Holds && !all:
			continue
		case cond.Holds:
			mark = "met:    "
		}
		fmt.Fprintf(w, "  %s  %s%s\n", mark, printable(cond.Text), cond.Aside())
	}
	if !all && hold > 0 {
		fmt.Fprintf(w, "  %s (--all lists them)\n", others(hold, len(conditions)))
	}
}

func others(hold, of int) string {
	switch hold {
	case of:
		return fmt.Sprintf("all %d hold", hold)
	case 1:
		return "1 other holds"
	}
	return fmt.Sprintf("%d others hold", hold)
}

func printChanges(w io.Writer, x *policy.Explanation) {
	verb := "let it through"
	if x.Decision.Action == trust.Allow {
		verb = "stop it"
	}
	if x.Beyond {
		fmt.Fprintf(w, "\nNo change of up to three facts would %s: follow the reasons above one after the other.\n", verb)
		return
	}
	fmt.Fprintf(w, "\nThe smallest change that would %s", verb)
	if len(x.Changes) > 1 {
		fmt.Fprint(w, ", any one of these")
	}
	fmt.Fprintln(w, ":")
	for n, set := range x.Changes {
		for i, change := range set {
			lead := fmt.Sprintf("  %d. ", n+1)
			if i > 0 {
				lead = "     and "
			}
			if change.Reason != "" {
				fmt.Fprintf(w, "%sAgainst %s: %s\n", lead, change.Reason, printable(change.Do))
				continue
			}
			fmt.Fprintf(w, "%s%s Instead: %s\n", lead, printable(change.Fact), printable(change.Do))
		}
	}
}
