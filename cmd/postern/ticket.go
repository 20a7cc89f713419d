package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/trust"
)

func (a *app) deviceTicket() *cobra.Command {
	var in api.NewTicket
	c := &cobra.Command{Use: "ticket ID", Short: "Make an address of the OAuth front that belongs to a device; it is shown once", Args: cobra.ExactArgs(1),
		Long: `Make an address of the OAuth front that belongs to a device; it is shown once.

The two addresses go into the mail profile of this device, and of no other, in place of those that all devices share. Whoever signs in there comes with the
device, also where the mail client presents no certificate. The address dies with the device, with a change of its owner, and by "postern device revoke-ticket".`,
		Example: `  postern device ticket dev-0193... --json`,
		RunE: func(c *cobra.Command, args []string) error {
			in.Device = trust.DeviceID(args[0])
			return call(a, c, http.MethodPost, "/tickets", nil, in, func(w io.Writer, k api.TicketAddresses) error {
				return table(w, []string{"ticket", k.ID}, [][]string{{"OAuthSignInURL", k.SignInURL}, {"OAuthTokenRequestURL", k.TokenURL}})
			})
		}}
	c.Flags().StringVar(&in.Host, "host", "", "host name of the gate; may be left out where the server that is asked is the gate")
	return c
}

func (a *app) deviceTickets() *cobra.Command {
	c := &cobra.Command{Use: "tickets", Short: "List the tickets of devices", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/tickets", filters(c, "device", "after", "limit"), func(w io.Writer, all []api.Ticket) error {
			rows := make([][]string, len(all))
			for i, k := range all {
				rows[i] = []string{k.ID, string(k.Device), k.Owner, k.Status, stamp(k.Created), k.By}
			}
			return table(w, []string{"TICKET", "DEVICE", "OWNER", "STATUS", "MADE", "BY"}, rows)
		})
	}}
	c.Flags().String("device", "", "only this device's")
	listFlags(c, "after", "the last ticket of the previous page")
	return c
}

func (a *app) deviceRevokeTicket() *cobra.Command {
	return &cobra.Command{Use: "revoke-ticket TICKET", Short: "End a ticket: sign-ins at its address are refused from now on, and its tokens prove nothing", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return call(a, c, http.MethodPost, "/tickets/"+url.PathEscape(args[0])+"/revoke", nil, struct{}{}, func(w io.Writer, k api.Ticket) error {
				_, err := fmt.Fprintf(w, "ticket %s of %s is %s\n", k.ID, k.Device, k.Status)
				return err
			})
		}}
}
