package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/policy"
)

// digestForm is a digest, or as much of its beginning as may be enough.
var digestForm = regexp.MustCompile(`^[0-9a-f]{4,16}$`)

const digestLength = 16

// policyActivate brings a directory, or a version stored before, into force.
func (a *app) policyActivate() *cobra.Command {
	var comment string
	c := &cobra.Command{Use: "activate DIR|DIGEST|built-in", Short: "Bring a policy into force on every node; a directory is checked and stored as a version first", Args: cobra.ExactArgs(1),
		Long: "A policy comes into force on every node: a directory, which is checked and stored as a version first, a version that is stored, or `built-in` for the built-in policies\n" +
			"alone. Of a digest the first digits are enough. What is decided otherwise than by the built-in policies is printed, with a warning where everybody's mail rests on it.",
		Example: "  postern policy activate policies --comment \"deny phones without a screen lock\"",
		RunE: func(c *cobra.Command, args []string) error {
			digest, err := a.policyToUse(c, args[0], comment)
			if err != nil {
				return err
			}
			return a.activate(c, digest, comment)
		}}
	c.Flags().StringVar(&comment, "comment", "", "why, for the history")
	return c
}

// policyToUse returns the digest of a stored version: of a directory, or of the built-in policies, after it was stored. It says whose mail is decided about otherwise.
func (a *app) policyToUse(c *cobra.Command, word, comment string) (string, error) {
	if _, err := os.Stat(word); err == nil || !digestForm.MatchString(word) {
		v, err := a.storePolicy(c, word, comment)
		return v.Digest, err
	}
	digest, err := a.fullDigest(c, word)
	if err != nil {
		return "", err
	}
	files, err := a.policyFiles(c, digest)
	if err != nil {
		return "", err
	}
	r, err := policy.Check(c.Context(), policy.Options{Files: files})
	if err == nil {
		printOtherwise(c.ErrOrStderr(), r)
	}
	return digest, err
}

// fullDigest returns the digest of the one stored version that begins so.
func (a *app) fullDigest(c *cobra.Command, begins string) (string, error) {
	if len(begins) == digestLength {
		return begins, nil
	}
	client, err := a.client()
	if err != nil {
		return "", err
	}
	var all []api.PolicyVersion
	if err := client.Call(c.Context(), http.MethodGet, "/policies", nil, nil, &all); err != nil {
		return "", err
	}
	found := ""
	for _, v := range all {
		switch {
		case !strings.HasPrefix(v.Digest, begins):
		case found != "":
			return "", fmt.Errorf("more than one version begins with %s: give more digits, see `postern policy versions`", begins)
		default:
			found = v.Digest
		}
	}
	if found == "" {
		return "", fmt.Errorf("there is no directory %s, and no version begins so: see `postern policy versions`", begins)
	}
	return found, nil
}

// storePolicy checks a directory here, where the files are, and has the server keep it. "built-in" is a version without files.
func (a *app) storePolicy(c *cobra.Command, word, comment string) (v api.PolicyVersion, err error) {
	files, err := a.policyFiles(c, word)
	if err != nil {
		return v, err
	}
	r, err := policy.Check(c.Context(), policy.Options{Files: files})
	if err != nil {
		return v, err
	}
	if !r.OK() {
		printCheck(c.ErrOrStderr(), r)
		return v, fmt.Errorf("the policy has %s, see above: nothing was stored", plural(len(r.Problems), "problem", "problems"))
	}
	printOtherwise(c.ErrOrStderr(), r)
	packed, err := files.Pack()
	if err != nil {
		return v, err
	}
	client, err := a.client()
	if err != nil {
		return v, err
	}
	return v, client.Call(c.Context(), http.MethodPost, "/policies", nil, api.NewPolicy{Packed: packed, Comment: comment}, &v)
}

func (a *app) activate(c *cobra.Command, digest, comment string) error {
	return call(a, c, http.MethodPost, "/policies/version/"+url.PathEscape(digest)+"/activate", nil, api.Activate{Comment: comment},
		func(w io.Writer, x api.PolicyActivation) error {
			switch {
			case x.Proposed:
				fmt.Fprintf(w, "%s is proposed: it comes into force when somebody else says `postern policy activate %s` within seven days\n", namedPolicy(x.Digest, x.BuiltIn), x.Digest)
			case x.InForce:
				fmt.Fprintf(w, "%s is in force\n", namedPolicy(x.Digest, x.BuiltIn))
			default:
				return fmt.Errorf("%s was activated, but this node has not taken it up: see `postern status`", x.Digest)
			}
			return nil
		})
}

// namedPolicy is a digest, and of the built-in policies alone also their name: each release has a digest of its own.
func namedPolicy(digest string, builtIn bool) string {
	if !builtIn {
		return digest
	}
	if own, err := (policy.Files{}).Digest(false); err == nil && own == digest {
		return digest + " (built-in, postern " + version + ")"
	}
	return digest + " (built-in of another release)"
}

// policyRollback activates what was in force before.
func (a *app) policyRollback() *cobra.Command {
	var comment string
	c := &cobra.Command{Use: "rollback", Short: "Bring the version that was in force before the present one into force again", Args: cobra.NoArgs,
		Long: "What was in force before comes into force again: before the first activation, the built-in policies alone. A second rollback goes back again to what the first has\n" +
			"undone; to go further back, activate a digest of `postern policy history`.",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var all []api.PolicyActivation
			if err := client.Call(c.Context(), http.MethodGet, "/policies/history", url.Values{"limit": {"1000"}}, nil, &all); err != nil {
				return err
			}
			now := ""
			for _, x := range all {
				switch {
				case x.Proposed:
				case now == "":
					now = x.Digest
				case x.Digest != now:
					return a.activate(c, x.Digest, comment)
				}
			}
			if now == "" {
				return errors.New("no version was ever activated: there is nothing to go back from")
			}
			v, err := a.storePolicy(c, "built-in", comment)
			if err != nil {
				return err
			}
			if v.Digest == now {
				return errors.New("the built-in policies are in force, and no other version ever was: see `postern policy history`")
			}
			return a.activate(c, v.Digest, comment)
		}}
	c.Flags().StringVar(&comment, "comment", "rollback", "why, for the history")
	return c
}

func (a *app) policyHistory() *cobra.Command {
	c := &cobra.Command{Use: "history", Short: "List which versions were in force, newest first", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/policies/history", filters(c, "limit"), func(w io.Writer, all []api.PolicyActivation) error {
			rows := make([][]string, len(all))
			for i, x := range all {
				state := ""
				switch {
				case x.Proposed:
					state = "proposed"
				case x.InForce:
					state = "in force"
				}
				by := x.By
				if x.Second != "" {
					by += ", proposed by " + x.Second
				}
				rows[i] = []string{stamp(x.At), namedPolicy(x.Digest, x.BuiltIn), dash(state), by, dash(x.Comment)}
			}
			return table(w, []string{"SINCE", "DIGEST", "STATE", "BY", "COMMENT"}, rows)
		})
	}}
	c.Flags().Int("limit", 100, "entries, 1 to 1000")
	return c
}

func (a *app) policyVersions() *cobra.Command {
	return &cobra.Command{Use: "versions", Short: "List the stored versions, newest first", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/policies", nil, func(w io.Writer, all []api.PolicyVersion) error {
			rows := make([][]string, len(all))
			for i, v := range all {
				state := "-"
				if v.Active {
					state = "in force"
				}
				rows[i] = []string{namedPolicy(v.Digest, v.BuiltIn), stamp(v.Created), state, v.Source, v.Author, fmt.Sprint(len(v.Files)), dash(v.Comment)}
			}
			return table(w, []string{"DIGEST", "STORED", "STATE", "SOURCE", "AUTHOR", "FILES", "COMMENT"}, rows)
		})
	}}
}

// policyExport writes the files of a version, to look at or to begin a new one from.
func (a *app) policyExport() *cobra.Command {
	return &cobra.Command{Use: "export DIGEST DIR", Short: "Write the files of a stored version into a new directory", Args: cobra.ExactArgs(2), RunE: func(c *cobra.Command, args []string) error {
		files, err := a.policyFiles(c, args[0])
		if err != nil {
			return err
		}
		if err := os.Mkdir(args[1], 0o755); err != nil {
			return fmt.Errorf("write policy: %w", err)
		}
		for name, content := range files {
			path := filepath.Join(args[1], filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return fmt.Errorf("write policy: %w", err)
			}
			if err := os.WriteFile(path, content, 0o644); err != nil {
				return fmt.Errorf("write policy: %w", err)
			}
		}
		fmt.Fprintf(c.OutOrStdout(), "%s in %s\n", plural(len(files), "file is", "files are"), args[1])
		return nil
	}}
}

// policyFiles returns the files that a word means: a directory, a stored version, "active" for what is in force, or "built-in" for the built-in policies alone.
func (a *app) policyFiles(c *cobra.Command, word string) (policy.Files, error) {
	if _, err := os.Stat(word); err == nil {
		files, problems, err := policy.ReadFiles(word)
		if len(problems) > 0 {
			return nil, errors.Join(err, &policy.CheckError{Problems: problems})
		}
		return files, err
	}
	if word == "built-in" {
		return policy.Files{}, nil
	}
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	if word == "active" {
		var s api.Status
		if err := client.Call(c.Context(), http.MethodGet, "/status", nil, nil, &s); err != nil {
			return nil, err
		}
		if builtin, err := (policy.Files{}).Digest(false); err == nil && s.Policy == builtin {
			return policy.Files{}, nil
		}
		word = s.Policy
	}
	if !digestForm.MatchString(word) {
		return nil, fmt.Errorf("%q is neither a directory nor the digest of a version: see `postern policy versions`", word)
	}
	if word, err = a.fullDigest(c, word); err != nil {
		return nil, err
	}
	var v api.PolicyVersion
	if err := client.Call(c.Context(), http.MethodGet, "/policies/version/"+word, nil, nil, &v); err != nil {
		return nil, err
	}
	return policy.Unpack(v.Packed)
}
