package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"postern/internal/api"
)

func (a *app) pendingCommand() *cobra.Command {
	return group("pending", "SCEP requests that wait for an administrator: look up, approve, reject",
		a.pendingList(), a.pendingShow(),
		a.pendingSettle("approve", "Let a request lead to a certificate: the device gets it when it polls next, unless the policy denies it by then"),
		a.pendingSettle("reject", "Refuse a request for good; its challenge is void"))
}

func (a *app) pendingList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List requests, the oldest first", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/pending", filters(c, "issuer", "device", "state", "after", "limit"), func(w io.Writer, all []api.Pending) error {
			rows := make([][]string, len(all))
			for i, p := range all {
				rows[i] = []string{p.ID, p.State, p.Owner, string(p.Device), pendingReasons(p), stamp(p.Created), stamp(p.Expires)}
			}
			return table(w, []string{"ID", "STATE", "OWNER", "DEVICE", "REASONS", "CAME", "EXPIRES"}, rows)
		})
	}}
	c.Flags().String("issuer", "", "only this issuer's")
	c.Flags().String("device", "", "only this device's")
	c.Flags().String("state", "", "only in this state: waiting, approved, rejected, issued, expired")
	listFlags(c, "after", "id of the last request of the previous page")
	return c
}

func pendingReasons(p api.Pending) string {
	text := ""
	for i, r := range p.Reasons {
		if i > 0 {
			text += ", "
		}
		text += r.Code
	}
	return dash(text)
}

func (a *app) pendingShow() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show a request, why it waits, and its CSR", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return get(a, c, "/pending/"+url.PathEscape(args[0]), nil, func(w io.Writer, p api.Pending) error {
				decided := "-"
				if p.Decided != nil {
					decided = stamp(*p.Decided) + " by " + p.By
				}
				evidence := p.Evidence.Kind + " " + p.Evidence.Challenge + string(p.Evidence.Renews) + p.Evidence.Validator
				rows := [][]string{{"state", p.State}, {"owner", p.Owner}, {"device", string(p.Device)}, {"issuer", p.Issuer}, {"came", stamp(p.Created)},
					{"expires", stamp(p.Expires)}, {"from", dash(p.Evidence.Remote)}, {"proved by", evidence}, {"message", p.MessageType + " " + p.TransactionID},
					{"settled", decided}, {"comment", dash(p.Comment)}, {"certificate", dash(string(p.Certificate))}}
				for _, r := range p.Reasons {
					rows = append(rows, []string{r.Code, r.Text})
				}
				if err := table(w, []string{"request", p.ID}, rows); err != nil {
					return err
				}
				_, err := fmt.Fprint(w, "\n", p.CSR)
				return err
			})
		}}
}

func (a *app) pendingSettle(use, short string) *cobra.Command {
	var in api.Comment
	c := &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return call(a, c, http.MethodPost, "/pending/"+url.PathEscape(args[0])+"/"+use, nil, in, func(w io.Writer, p api.Pending) error {
			_, err := fmt.Fprintf(w, "%s of %s, device %s, is %s\n", p.ID, p.Owner, p.Device, p.State)
			return err
		})
	}}
	c.Flags().StringVar(&in.Comment, "comment", "", "why, for the audit")
	return c
}
