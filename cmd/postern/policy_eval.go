package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/policy"
)

// question is what `policy eval` is to decide, and from where its facts come.
type question struct {
	replace, facts           bool
	entry, input, ref, named string
	set                      []string
	suppose                  api.Suppose
}

func (a *app) policyEval() *cobra.Command {
	var q question
	c := &cobra.Command{Use: "eval [DIR]", Short: "Decide a request: a recorded one, one that is supposed, a sample, or facts from a file", Args: cobra.MaximumNArgs(1),
		Long: `Decide a request: a recorded one, one that is supposed, a sample, or facts from a file.

With --user or --device the running server says what its edge would see of a request now: certificate, device, owner, mail profiles and exceptions are the real ones, and
what is not named (mail client, DeviceId) is what the device was last seen with. Nothing is sent and nothing recorded. With --sample the facts are those of a sample of the
tests, offline. --set changes single facts of any of these.

The policy is DIR; without it the one of the configuration, or of the running server where the facts come from it.`,
		Example: `  postern policy eval --user alice@contoso.com --command Sync
  postern policy eval team --device dev-0193... --family outlook --set device.compliant=no
  postern policy eval team --sample silent --set device.silent_for=60
  postern policy eval --reference 01KB...
  postern policy eval --entry access --input facts.json`,
		RunE: func(c *cobra.Command, args []string) error {
			facts, err := a.factsOf(c, &q)
			if err != nil {
				return err
			}
			for _, s := range q.set {
				if facts, err = setFact(facts, s); err != nil {
					return err
				}
			}
			if q.facts {
				return printJSON(c.OutOrStdout(), json.RawMessage(facts))
			}
			o, err := a.evalOptions(c, args, &q)
			if err != nil {
				return err
			}
			e, err := policy.Load(c.Context(), o)
			if err != nil {
				return err
			}
			d, err := e.Eval(c.Context(), q.entry, facts)
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), d)
			}
			return printAnswer(c.OutOrStdout(), d)
		}}
	q.flags(c)
	return c
}

func (q *question) flags(c *cobra.Command) {
	f, s := c.Flags(), &q.suppose
	f.BoolVar(&q.replace, "replace", false, "DIR replaces the built-in policies instead of extending them")
	f.StringVar(&q.entry, "entry", "access", "access, enroll or lifecycle")
	f.StringVar(&q.input, "input", "-", "file with the input as JSON; - reads standard input")
	f.StringVar(&q.ref, "reference", "", "the facts of this recorded decision")
	f.StringVar(&q.named, "sample", "", "the facts of this sample, such as managed")
	f.StringArrayVar(&q.set, "set", nil, "change a fact: PATH=VALUE, such as device.compliant=no; may be repeated")
	f.BoolVar(&q.facts, "facts", false, "print the facts as JSON instead of deciding")
	f.StringVar(&s.User, "user", "", "who asks, as the running server knows him; the owner of the device if left out")
	f.StringVar((*string)(&s.Device), "device", "", "the device; may be left out where the user has one")
	f.StringVar(&s.Command, "command", "", "EAS command (Sync)")
	f.StringVar(&s.Version, "eas-version", "", "of the protocol (16.1)")
	f.StringVar(&s.DeviceID, "eas-device-id", "", "DeviceId that the client claims")
	f.StringVar(&s.DeviceType, "device-type", "", "DeviceType that the client claims")
	f.StringVar(&s.UserAgent, "user-agent", "", "of the mail client")
	f.StringVar(&s.Family, "family", "", "of the mail client, instead of a user agent: apple_mail, gmail, outlook, ...")
	f.StringVar(&s.Platform, "platform", "", "of the mail client: ios, android, windows, ...")
	f.StringVar(&s.Credential, "credential", "", "basic or bearer")
	f.StringVar(&s.SourceIP, "source-ip", "", "where the request comes from")
	f.StringVar(&s.Host, "host", "", "name of the gate")
	f.BoolVar(&s.NoCertificate, "no-certificate", false, "without the device's certificate")
	c.MarkFlagsMutuallyExclusive("input", "reference", "sample", "user")
	c.MarkFlagsMutuallyExclusive("input", "reference", "sample", "device")
}

// supposed reports whether the facts are the running server's.
func (q *question) supposed() bool { return q.suppose.User != "" || q.suppose.Device != "" }

// factsOf returns the input as JSON.
func (a *app) factsOf(c *cobra.Command, q *question) ([]byte, error) {
	switch {
	case q.supposed():
		if q.entry != "access" {
			return nil, errors.New("--user and --device suppose a request at the edge: for other entry points use --sample or --input")
		}
		return a.ask(c, http.MethodPost, "/policies/facts", q.suppose)
	case q.suppose != (api.Suppose{}):
		return nil, errors.New("a supposed request needs --user or --device")
	case q.ref != "":
		b, err := a.ask(c, http.MethodGet, "/decisions/"+url.PathEscape(q.ref), nil)
		return decided(b), err
	case q.named != "":
		return policy.Sample(q.entry, q.named)
	}
	in := c.InOrStdin()
	if q.input != "-" {
		f, err := os.Open(q.input)
		if err != nil {
			return nil, fmt.Errorf("read input: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	if len(b) > maxInput {
		return nil, fmt.Errorf("input is larger than %d bytes", maxInput)
	}
	return decided(b), nil
}

// ask calls the running server and returns its answer as it is.
func (a *app) ask(c *cobra.Command, method, path string, in any) ([]byte, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	var out json.RawMessage
	err = client.Call(c.Context(), method, path, nil, in, &out)
	return out, err
}

func (a *app) evalOptions(c *cobra.Command, args []string, q *question) (policy.Options, error) {
	if len(args) == 0 && (q.supposed() || q.ref != "") {
		files, err := a.policyFiles(c, "active")
		return policy.Options{Files: files}, err
	}
	return a.policyOptions(c, args, q.replace)
}

// setFact changes one fact of an input: PATH=VALUE, where VALUE is JSON, or text where it is none.
func setFact(facts []byte, s string) ([]byte, error) {
	path, text, ok := strings.Cut(s, "=")
	if !ok || path == "" {
		return nil, fmt.Errorf("--set %q: write PATH=VALUE, such as device.compliant=no", s)
	}
	var doc map[string]any
	if err := json.Unmarshal(facts, &doc); err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		value = text
	}
	at, names := doc, strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		next, ok := at[name].(map[string]any)
		if !ok && at[name] != nil {
			return nil, fmt.Errorf("--set %q: %s has no parts", s, name)
		}
		if !ok {
			next = map[string]any{}
			at[name] = next
		}
		at = next
	}
	at[names[len(names)-1]] = value
	return json.Marshal(doc)
}

func printAnswer(w io.Writer, d policy.Decision) error {
	if _, err := fmt.Fprintln(w, d.Action, d.Rule); err != nil {
		return err
	}
	for _, r := range d.Reasons {
		fmt.Fprintf(w, "  %s: %s\n", r.Code, printable(r.Text))
		if r.Remedy != "" {
			fmt.Fprintf(w, "    What would change it: %s\n", printable(r.Remedy))
		}
	}
	return nil
}

// decided returns the input of a recorded decision, as `decision show --json` prints it; anything else is an input already.
func decided(b []byte) []byte {
	var d struct {
		Reference string          `json:"reference"`
		Input     json.RawMessage `json:"input"`
	}
	if json.Unmarshal(b, &d) == nil && d.Reference != "" && len(d.Input) > 0 {
		return d.Input
	}
	return b
}
