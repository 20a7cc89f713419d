package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/policy"
)

// policyExplain says in words why a recorded decision was made and what would change it.
func (a *app) policyExplain() *cobra.Command {
	var path string
	c := &cobra.Command{Use: "explain REFERENCE", Short: "Say why a request was refused: what held, what did not, and the smallest change that would let it through", Args: cobra.ExactArgs(1),
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
			if d.Door != "edge" || len(d.Input) == 0 {
				return errors.New("this decision has no facts of a request at the edge: see `postern decision show`")
			}
			in, err := policy.DecodeAccess(d.Input)
			if err != nil {
				return err
			}
			files, note, err := a.policyThatDecided(c, d.Policy, path)
			if err != nil {
				return err
			}
			x, err := policy.Explain(c.Context(), policy.Options{Files: files}, in)
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), x)
			}
			printExplanation(c.OutOrStdout(), d, x, note)
			return nil
		}}
	c.Flags().StringVar(&path, "path", "", "ask this policy instead of the one that decided")
	return c
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

func printExplanation(w io.Writer, d api.Decision, x *policy.Explanation, note string) {
	fmt.Fprintf(w, "%s of %s (device %s, %s) was answered: %s\n", dash(printable(d.Command)), dash(printable(d.User)), dash(string(d.Device)), stamp(d.At), d.Action)
	if note != "" {
		fmt.Fprintln(w, note)
	}
	if x.Decision.Action != d.Action {
		fmt.Fprintf(w, "This policy decides otherwise: %s\n", x.Decision.Action)
	}
	if len(x.Decision.Reasons) > 0 {
		fmt.Fprintln(w, "\nWhy:")
	}
	for _, r := range x.Decision.Reasons {
		fmt.Fprintf(w, "  %s\n    reason %s, rule %s\n", printable(r.Text), r.Code, dash(r.Rule))
		if r.Remedy != "" {
			fmt.Fprintf(w, "    What to do: %s\n", printable(r.Remedy))
		}
	}
	if len(x.Conditions) > 0 {
		fmt.Fprintln(w, "\nMail passes when all of these hold:")
	}
	for _, cond := range x.Conditions {
		mark := "no "
		if cond.Holds {
			mark = "yes"
		}
		fmt.Fprintf(w, "  %s  %s\n", mark, cond.Text)
	}
	printChanges(w, x)
}

func printChanges(w io.Writer, x *policy.Explanation) {
	verb := "let it through"
	if x.Decision.Action == "allow" {
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
			fmt.Fprintf(w, "%s%s Instead: %s\n", lead, printable(change.Fact), printable(change.Do))
		}
	}
}
