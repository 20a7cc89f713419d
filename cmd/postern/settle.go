package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/api"
)

func (a *app) settleCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List enrolments, mail profiles and devices that wait for an administrator, the oldest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return get(a, c, "/settle", nil, func(w io.Writer, all []api.Open) error {
				rows := make([][]string, len(all))
				for i, o := range all {
					rows[i] = []string{o.ID, o.Kind, o.User, dash(string(o.Device)), strings.Join(o.Reasons, ","), stamp(o.Since), o.What}
				}
				return table(w, []string{"ID", "KIND", "USER", "DEVICE", "REASONS", "SINCE", ""}, rows)
			})
		}}
	allow := a.settleOne("allow", true, "Let it in: an enrolment leads to a certificate, a mail profile counts as its device's, a device is active again")
	deny := a.settleOne("deny", false, "Keep it out: an enrolment is rejected, a mail profile stays refused, a device is blocked")
	return group("settle", "What waits for an administrator, settled by one command", list, allow, deny)
}

func (a *app) settleOne(use string, answer bool, short string) *cobra.Command {
	in := api.Settle{Allow: answer}
	c := &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return call(a, c, http.MethodPost, "/settle/"+url.PathEscape(args[0]), nil, in, func(w io.Writer, s api.Settled) error {
			_, err := fmt.Fprintf(w, "%s %s is %s\n", s.Kind, s.ID, s.State)
			return err
		})
	}}
	c.Flags().StringVar(&in.Comment, "comment", "", "why, for the audit")
	if answer {
		c.Flags().BoolVar(&in.Replace, "replace", false, "of a mail profile: in place of the others of the same mail client on the device, as after a wipe")
	}
	return c
}
