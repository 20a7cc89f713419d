package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/api"
)

func (a *app) exceptionCommand() *cobra.Command {
	return group("exception", "Let a user or one device through for a while, although a rule speaks against it", a.exceptionGrant(), a.exceptionList(), a.exceptionRevoke())
}

func (a *app) exceptionGrant() *cobra.Command {
	var in api.NewException
	c := &cobra.Command{Use: "grant", Short: "Grant an exception: it lifts the reasons that you name, and nothing else, until it ends", Args: cobra.NoArgs,
		Long: `Grant an exception: it lifts the reasons that you name, and nothing else, until it ends.

The reasons are the codes that "postern decision show REFERENCE" prints. An exception holds for the owner of a known device who signs in; it never lifts a revoked, held,
expired or untrusted certificate, a blocked, retired or suspended device, another user, or credentials that cannot be read. It is in force when the command returns; what
it has let through ends with it, open long polls included.`,
		Example: `  postern exception grant --user alice@contoso.com --reasons device_silent --until 7d --comment "travels without a network"
  postern exception grant --device dev-0193... --reasons old_protocol,device_silent --until 2026-12-31 --comment "ticket 4711"`,
		RunE: func(c *cobra.Command, _ []string) error {
			if (in.User == "") == (in.Device == "") {
				return errors.New("name whom it is for: --user or --device")
			}
			return call(a, c, http.MethodPost, "/exceptions", nil, in, func(w io.Writer, e api.Exception) error {
				for _, text := range e.Warnings {
					fmt.Fprintln(c.ErrOrStderr(), "warning:", text)
				}
				_, err := fmt.Fprintf(w, "%s: %s may pass in spite of %s until %s\n", e.ID, whoseException(e), strings.Join(e.Reasons, ", "), stamp(e.Until))
				return err
			})
		}}
	f := c.Flags()
	f.StringVar(&in.User, "user", "", "mail address of the owner: holds for all devices of his")
	f.StringVar((*string)(&in.Device), "device", "", "holds for this device alone, as long as it is its owner's")
	f.StringSliceVar(&in.Reasons, "reasons", nil, "codes of the reasons that it lifts, with commas between them")
	f.StringVar(&in.Until, "until", "", "when it ends: 12h, 7d, 2026-12-31 (the end of that day, UTC) or 2026-12-31T18:00:00Z")
	f.StringVar(&in.Comment, "comment", "", "why, for the help desk and the audit")
	for _, name := range []string{"reasons", "until", "comment"} {
		_ = c.MarkFlagRequired(name)
	}
	return c
}

func whoseException(e api.Exception) string {
	if e.Device != "" {
		return fmt.Sprintf("device %s of %s", e.Device, e.User)
	}
	return e.User
}

func (a *app) exceptionList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List exceptions that hold now; --all: also those that were over in the last 30 days", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return get(a, c, "/exceptions", filters(c, "user", "device", "all", "after", "limit"), func(w io.Writer, all []api.Exception) error {
				rows := make([][]string, len(all))
				for i, e := range all {
					rows[i] = []string{e.ID, e.User, dash(string(e.Device)), strings.Join(e.Reasons, ","), e.Status, stamp(e.Until), e.By, e.Comment}
				}
				return table(w, []string{"ID", "USER", "DEVICE", "LIFTS", "STATUS", "UNTIL", "GRANTED BY", "WHY"}, rows)
			})
		}}
	c.Flags().String("user", "", "only this user's, also those for one of his devices")
	c.Flags().String("device", "", "only this device's own")
	c.Flags().Bool("all", false, "also those that are over")
	listFlags(c, "after", "id of the last exception of the previous page")
	return c
}

func (a *app) exceptionRevoke() *cobra.Command {
	var comment string
	c := &cobra.Command{Use: "revoke ID", Short: "End an exception at once: what it has let through is decided again", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			query := url.Values{}
			if comment != "" {
				query.Set("comment", comment)
			}
			return call(a, c, http.MethodDelete, "/exceptions/"+url.PathEscape(args[0]), query, nil, func(w io.Writer, e api.Exception) error {
				_, err := fmt.Fprintf(w, "%s for %s is %s\n", e.ID, whoseException(e), e.Status)
				return err
			})
		}}
	c.Flags().StringVar(&comment, "comment", "", "why, for the audit")
	return c
}
