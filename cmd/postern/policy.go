package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/policy"
	"postern/internal/server"
)

// maxInput is the size limit of an input file in bytes.
const maxInput = 1 << 20

func (a *app) policyCommand() *cobra.Command {
	return group("policy", "Policies in Rego: check, test and evaluate them without a server; bring them into force on one", a.policyCheck(), a.policyTest(), a.policyEval(),
		a.policyExplain(), a.policyDiff(), a.policyReplay(), a.policyShadow(), a.policyActivate(), a.policyRollback(), a.policyHistory(), a.policyVersions(), a.policyExport())
}

// policyOptions takes the directory from the argument, else from the configuration where there is one, else the built-in policies.
func (a *app) policyOptions(c *cobra.Command, args []string, replace bool) (policy.Options, error) {
	if len(args) > 0 {
		return policy.Options{Path: args[0], Replace: replace}, nil
	}
	if _, err := os.Stat(a.config); errors.Is(err, os.ErrNotExist) && !c.Flags().Changed("config") {
		fmt.Fprintf(c.ErrOrStderr(), "no %s here: the built-in policies alone; name a directory, or a configuration with -c\n", a.config)
		return policy.Options{}, nil
	}
	cfg, err := server.ReadFile(a.config)
	if err != nil {
		return policy.Options{}, err
	}
	return policy.Options{Path: cfg.Policy.Path, Replace: cfg.Policy.Replace}, nil
}

func (a *app) policyCheck() *cobra.Command {
	var replace, strict bool
	c := &cobra.Command{Use: "check [DIR]", Short: "Format, compile against the input schema, lint, run the tests, decide the samples, measure", Args: cobra.MaximumNArgs(1),
		Long: `Format, compile against the input schema, lint, run the tests, decide the samples, measure.

A problem makes the check fail, and the policy could not be activated. A warning is for reading: a rule that no test makes speak, a condition that is computed
for every request where a comparison would do, an exception that rests on what is not there. What a decision costs is measured on this machine, in turn with the
built-in policies alone; it is never a failure.`,
		RunE: func(c *cobra.Command, args []string) error {
			o, err := a.policyOptions(c, args, replace)
			if err != nil {
				return err
			}
			r, err := policy.Check(c.Context(), o)
			if err != nil {
				return err
			}
			if r.OK() {
				if r.Cost, err = policy.Measure(c.Context(), o); err != nil {
					return err
				}
			}
			if a.json {
				if err := printJSON(c.OutOrStdout(), r); err != nil {
					return err
				}
			} else {
				printCheck(c.OutOrStdout(), r)
			}
			switch {
			case !r.OK():
				return fmt.Errorf("the policy has %s, see above", plural(len(r.Problems), "problem", "problems"))
			case strict && len(r.Warnings) > 0:
				return fmt.Errorf("the policy has %s, see above", plural(len(r.Warnings), "warning", "warnings"))
			}
			return nil
		}}
	c.Flags().BoolVar(&strict, "strict", false, "warnings fail too, for CI")
	c.Flags().BoolVar(&replace, "replace", false, "DIR replaces the built-in policies instead of extending them")
	return c
}

func printCheck(w io.Writer, r *policy.Report) {
	for _, p := range r.Problems {
		fmt.Fprintln(w, p)
	}
	printOtherwise(w, r)
	passed := 0
	for _, t := range r.Tests {
		if t.Pass {
			passed++
		}
	}
	tests := "tests not run"
	if len(r.Tests) > 0 {
		tests = fmt.Sprintf("%d of %d tests passed", passed, len(r.Tests))
	}
	fmt.Fprintf(w, "%s, %s, %s decided, digest %s\n", plural(len(r.Files), "file", "files"), tests, plural(len(r.Samples), "sample", "samples"), r.Digest)
	if c := r.Cost; c != nil {
		fmt.Fprintf(w, "a decision takes %s here (median of the samples; %s at most, for %s), with the built-in policies alone %s\n", rounded(c.Decision), rounded(c.Most), c.Slowest, rounded(c.BuiltIn))
	}
}

// printOtherwise prints the warnings, and whose mail a policy decides about in another way than the built-in policies alone.
func printOtherwise(w io.Writer, r *policy.Report) {
	for _, s := range r.Otherwise {
		fmt.Fprintf(w, "sample %s/%s: %s, by the built-in policies alone: %s\n", s.Entry, s.Name, outcome(s.After), outcome(s.Before))
	}
	for _, p := range r.Warnings {
		fmt.Fprintln(w, "warning:", p)
	}
}

func rounded(d time.Duration) time.Duration { return d.Round(time.Microsecond) }

func (a *app) policyTest() *cobra.Command {
	var replace bool
	var t policy.TestOptions
	c := &cobra.Command{Use: "test [DIR]", Short: "Run the Rego tests", Args: cobra.MaximumNArgs(1), RunE: func(c *cobra.Command, args []string) error {
		o, err := a.policyOptions(c, args, replace)
		if err != nil {
			return err
		}
		r, err := policy.Test(c.Context(), o, t)
		if err != nil {
			return err
		}
		if a.json {
			if err := printJSON(c.OutOrStdout(), r); err != nil {
				return err
			}
		} else {
			printTests(c.OutOrStdout(), r, t)
		}
		if !r.OK() {
			return errors.New("tests failed")
		}
		return nil
	}}
	c.Flags().BoolVar(&replace, "replace", false, "DIR replaces the built-in policies instead of extending them")
	c.Flags().StringVar(&t.Run, "run", "", "only tests whose package and name match this regular expression")
	c.Flags().BoolVar(&t.Coverage, "coverage", false, "say which rules no test has reached")
	return c
}

// printTests prints the team's tests one by one, and of the built-in ones how many passed, unless they were asked for.
func printTests(w io.Writer, r *policy.TestReport, o policy.TestOptions) {
	builtin := 0
	for _, t := range r.Results {
		if t.Pass && o.Run == "" && strings.HasPrefix(t.File, "builtin/") {
			builtin++
			continue
		}
		state := "ok  "
		switch {
		case t.Skipped:
			state = "skip"
		case !t.Pass:
			state = "FAIL"
		}
		fmt.Fprintf(w, "%s  %s.%s\n", state, t.Package, t.Name)
		if !t.Pass && !t.Skipped {
			fmt.Fprintf(w, "      %s:%d %s%s\n", t.File, t.Line, t.Error, t.Output)
		}
	}
	if builtin > 0 {
		fmt.Fprintf(w, "ok    %s (--run . lists them)\n", plural(builtin, "built-in test", "built-in tests"))
	}
	if o.Coverage {
		fmt.Fprintf(w, "%.1f %% of the lines of rules were reached\n", r.Coverage)
		for _, p := range r.Uncovered {
			fmt.Fprintln(w, "  ", p)
		}
	}
}
