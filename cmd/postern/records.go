package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/trust"
)

func (a *app) profileCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List mail profiles", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/profiles", filters(c, "device", "user", "after", "limit"), profileTable)
	}}
	list.Flags().String("device", "", "only this device's")
	list.Flags().String("user", "", "only this user's")
	listFlags(list, "after", "id of the last profile of the previous page")
	link := &cobra.Command{Use: "link ID DEVICE", Short: "Bind a mail profile to a device: its DeviceId then counts as that device's", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return call(a, c, http.MethodPost, "/profiles/"+url.PathEscape(args[0])+"/link", nil, api.Link{Device: trust.DeviceID(args[1])},
				func(w io.Writer, p trust.MailProfile) error {
					_, err := fmt.Fprintf(w, "%s is linked to %s\n", p.ID, p.Device)
					return err
				})
		}}
	forget := &cobra.Command{Use: "forget ID", Short: "Forget a mail profile: its client is a newcomer the next time", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return call(a, c, http.MethodDelete, "/profiles/"+url.PathEscape(args[0]), nil, nil, func(w io.Writer, _ struct{}) error {
				_, err := fmt.Fprintf(w, "%s is forgotten\n", args[0])
				return err
			})
		}}
	return group("profile", "Mail profiles: one account on one mail client", list, link, forget)
}

func profileTable(w io.Writer, all []trust.MailProfile) error {
	rows := make([][]string, len(all))
	for i, p := range all {
		rows[i] = []string{p.ID, p.User, p.ClientID, p.Family, dash(string(p.Device)), dash(string(p.Serial)), p.Credential, stamp(p.FirstSeen), stamp(p.LastSeen)}
	}
	return table(w, []string{"ID", "USER", "DEVICEID", "CLIENT", "DEVICE", "CERTIFICATE", "CREDENTIAL", "FIRST SEEN", "LAST SEEN"}, rows)
}

func (a *app) auditCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List audit entries, newest first", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/audit", filters(c, "object", "action", "before", "limit"), func(w io.Writer, all []api.AuditEntry) error {
			rows := make([][]string, len(all))
			for i, e := range all {
				rows[i] = []string{fmt.Sprint(e.Seq), stamp(e.At), e.Principal, e.Action, e.Object, e.Outcome, dash(e.Detail)}
			}
			return table(w, []string{"SEQ", "AT", "WHO", "ACTION", "OBJECT", "OUTCOME", "DETAIL"}, rows)
		})
	}}
	list.Flags().String("object", "", "only about this device, certificate, ...")
	list.Flags().String("action", "", "only this action, for example certificate.revoke")
	listFlags(list, "before", "seq of the last entry of the previous page")
	return group("audit", "Who changed what, and what was refused", list)
}

func (a *app) decisionCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List refusals and faults, newest first", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/decisions", filters(c, "action", "user", "device", "before", "limit"), func(w io.Writer, all []api.Decision) error {
			rows := make([][]string, len(all))
			for i, d := range all {
				rows[i] = []string{d.Reference, stamp(d.At), string(d.Action), codes(d.Reasons), dash(d.User), dash(d.ClientID), dash(d.Command), dash(d.Remote)}
			}
			return table(w, []string{"REFERENCE", "AT", "ACTION", "REASONS", "USER", "DEVICEID", "COMMAND", "FROM"}, rows)
		})
	}}
	list.Flags().String("action", "", "only allow, quarantine, deny or fault")
	list.Flags().String("user", "", "only this user's")
	list.Flags().String("device", "", "only this device's")
	listFlags(list, "before", "reference of the last decision of the previous page")
	show := &cobra.Command{Use: "show REFERENCE", Short: "Explain a decision: who, which device, which rule, what would have to change", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return get(a, c, "/decisions/"+url.PathEscape(args[0]), nil, printDecision)
		}}
	return group("decision", "Why did this phone stop getting mail?", list, show)
}

func codes(reasons []trust.Reason) string {
	out := make([]string, len(reasons))
	for i, r := range reasons {
		out[i] = r.Code
	}
	return dash(strings.Join(out, ","))
}

func printDecision(w io.Writer, d api.Decision) error {
	if err := table(w, []string{"reference", d.Reference}, [][]string{{"when", stamp(d.At)}, {"answer", string(d.Action)}, {"user", dash(d.User)},
		{"device", dash(string(d.Device))}, {"certificate", dash(string(d.Certificate))}, {"mail profile", dash(d.Profile)}, {"DeviceId", dash(d.ClientID)}, {"command", dash(d.Command)},
		{"from", dash(d.Remote)}, {"policy", d.Policy}}); err != nil {
		return err
	}
	if d.Action == trust.Allow && d.Door == "edge" {
		fmt.Fprintln(w, "\nIt got what it asked for, with the notes below. Kept once for all requests with the same facts: this is the last for which the policy was asked anew.")
	}
	for _, r := range d.Reasons {
		fmt.Fprintf(w, "\n%s\n  %s\n  rule: %s\n", r.Code, printable(r.Text), dash(policy.RuleTitle(r.Code, r.Rule)))
		for _, k := range slices.Sorted(maps.Keys(r.Facts)) {
			fmt.Fprintf(w, "  fact: %s = %s\n", k, printable(policy.FactText(k, r.Facts[k])))
		}
		if r.Remedy != "" {
			fmt.Fprintf(w, "  What would change it: %s\n", printable(r.Remedy))
		}
	}
	return nil
}

func (a *app) adminCommand() *cobra.Command {
	in := api.NewToken{}
	create := &cobra.Command{Use: "create NAME", Short: "Make an access token for the admin API; the secret is shown once", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			in.Name = args[0]
			return call(a, c, http.MethodPost, "/tokens", nil, in, func(w io.Writer, t api.Token) error {
				return table(w, []string{"id", t.ID}, [][]string{{"token", t.Secret}, {"role", string(t.Role)}, {"expires", stamp(t.Expires)}})
			})
		}}
	create.Flags().StringVar((*string)(&in.Role), "role", "", "help-desk, policy-author, pki-officer or auditor")
	create.Flags().StringVar(&in.TTL, "ttl", "2160h", "how long it is valid, at most 8784h")
	_ = create.MarkFlagRequired("role")
	list := &cobra.Command{Use: "list", Short: "List access tokens, without their secrets", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/tokens", nil, func(w io.Writer, all []api.Token) error {
			rows := make([][]string, len(all))
			for i, t := range all {
				state := "valid"
				if t.Revoked != nil {
					state = "revoked"
				}
				rows[i] = []string{t.ID, t.Name, string(t.Role), state, stamp(t.Created), stamp(t.Expires)}
			}
			return table(w, []string{"ID", "NAME", "ROLE", "STATE", "CREATED", "EXPIRES"}, rows)
		})
	}}
	revoke := &cobra.Command{Use: "revoke ID", Short: "End an access token at once", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return call(a, c, http.MethodDelete, "/tokens/"+url.PathEscape(args[0]), nil, nil, func(w io.Writer, _ struct{}) error {
			_, err := fmt.Fprintf(w, "%s is revoked\n", args[0])
			return err
		})
	}}
	return group("admin", "Administration of Postern itself", group("token", "Access tokens of the admin API", create, list, revoke))
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show what runs and what is wrong", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/status", nil, func(w io.Writer, s api.Status) error {
			problems := "none"
			if len(s.Problems) > 0 {
				problems = strings.Join(s.Problems, "; ")
			}
			if err := table(w, []string{"version", s.Version}, [][]string{{"started", stamp(s.Started)}, {"revision", fmt.Sprint(s.Revision)}, {"policy", s.Policy},
				{"in shadow", dash(s.Shadow)},
				{"problems", problems}, {"gate", s.Gate.State + ": " + s.Gate.Note}}); err != nil {
				return err
			}
			for _, text := range s.Warnings {
				fmt.Fprintln(w, "\nwarning:", text)
			}
			fmt.Fprintln(w)
			return crlTable(w, s.CRLs)
		})
	}}
}
