package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/policy"
)

func (a *app) policyDiff() *cobra.Command {
	return &cobra.Command{Use: "diff BEFORE [AFTER]", Short: "Compare two policies: their files, and what they decide about the samples", Args: cobra.RangeArgs(1, 2),
		Long: "Each of the two is a directory, the digest of a stored version, `active` for what is in force, or `built-in` for the built-in policies alone.\n" +
			"With one only, it is compared with what is in force. What would have changed for real requests, `postern policy replay` tells.",
		Example: "  postern policy diff active policies\n  postern policy diff policies",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				args = []string{"active", args[0]}
			}
			before, err := a.policyFiles(c, args[0])
			if err != nil {
				return err
			}
			after, err := a.policyFiles(c, args[1])
			if err != nil {
				return err
			}
			d, err := policy.Diff(c.Context(), before, after)
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), d)
			}
			printDifference(c.OutOrStdout(), d)
			return nil
		}}
}

func printDifference(w io.Writer, d *policy.Difference) {
	if d.Before == d.After && len(d.Files) == 0 {
		fmt.Fprintf(w, "no difference: both are %s\n", d.Before)
		return
	}
	for _, f := range d.Files {
		fmt.Fprintf(w, "%s %s\n%s\n", f.Kind, printable(f.Name), f.Text)
	}
	for _, s := range d.Samples {
		fmt.Fprintf(w, "sample %s/%s: %s, before: %s\n", s.Entry, s.Name, outcome(s.After), outcome(s.Before))
	}
	fmt.Fprintf(w, "%s -> %s: %s, %s decided in another way\n", d.Before, d.After, plural(len(d.Files), "file differs", "files differ"), plural(len(d.Samples), "sample is", "samples are"))
}

func outcome(r policy.SampleResult) string {
	if len(r.Reasons) == 0 {
		return string(r.Action)
	}
	return string(r.Action) + " (" + strings.Join(r.Reasons, ", ") + ")"
}
