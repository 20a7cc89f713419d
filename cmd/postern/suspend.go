package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/trust"
)

func (a *app) ownerCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List owners", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/owners", filters(c, "suspended", "after", "limit"), func(w io.Writer, all []trust.Owner) error {
			rows := make([][]string, len(all))
			for i, o := range all {
				rows[i] = []string{o.Mail, dash(o.UPN), suspension(o.Suspended)}
			}
			return table(w, []string{"OWNER", "UPN", "SUSPENDED"}, rows)
		})
	}}
	list.Flags().Bool("suspended", false, "only who is suspended")
	listFlags(list, "after", "address of the last owner of the previous page")
	show := &cobra.Command{Use: "show MAIL", Short: "Show an owner under all names", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return get(a, c, "/owners/"+url.PathEscape(args[0]), nil, func(w io.Writer, o trust.Owner) error {
			return table(w, []string{"owner", o.Mail}, [][]string{{"names", strings.Join(o.Names(), ", ")}, {"delegations", dash(strings.Join(o.Delegations, ", "))},
				{"suspended", suspension(o.Suspended)}})
		})
	}}
	return group("owner", "Owners of devices: look up, suspend, reinstate", list, show,
		suspendCommand(a, "suspend MAIL", "Keep every device of an owner out at once, until reinstated; touches no certificate and no CRL", "/owners/", printOwner),
		reinstateCommand(a, "reinstate MAIL", "Let a suspended owner in again at once, with the same certificates", "/owners/", printOwner))
}

func (a *app) deviceSuspend() *cobra.Command {
	return suspendCommand(a, "suspend ID", "Keep a device out at once, until reinstated; touches no certificate and no CRL", "/devices/", printState)
}

func (a *app) deviceReinstate() *cobra.Command {
	return reinstateCommand(a, "reinstate ID", "Let a suspended device in again at once, with the same certificate", "/devices/", printState)
}

func suspendCommand[Out any](a *app, use, short, path string, human func(io.Writer, Out) error) *cobra.Command {
	var in api.Suspend
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return call(a, c, http.MethodPost, path+url.PathEscape(args[0])+"/suspend", nil, in, human)
	}}
	c.Flags().StringVar(&in.Reason, "reason", string(trust.SuspendOther), strings.Join(trust.SuspendReasons(), ", "))
	c.Flags().StringVar(&in.Comment, "comment", "", "why, for the help desk and the audit")
	return c
}

func reinstateCommand[Out any](a *app, use, short, path string, human func(io.Writer, Out) error) *cobra.Command {
	var in api.Comment
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return call(a, c, http.MethodPost, path+url.PathEscape(args[0])+"/reinstate", nil, in, human)
	}}
	c.Flags().StringVar(&in.Comment, "comment", "", "why, for the audit")
	return c
}

// stateOf is the state of a device for people; a suspension is none of its states, since it leaves them as they are.
func stateOf(d trust.Device) string {
	if d.Suspended != nil {
		return string(d.State) + ", suspended"
	}
	return string(d.State)
}

// suspension says why and since when something is suspended.
func suspension(s *trust.Suspension) string {
	if s == nil {
		return "no"
	}
	text := fmt.Sprintf("%s since %s by %s", s.Reason, stamp(s.At), s.By)
	if s.Comment != "" {
		text += ": " + s.Comment
	}
	return text
}

func printOwner(w io.Writer, o trust.Owner) error {
	state := "not suspended"
	if o.Suspended != nil {
		state = "suspended"
	}
	_, err := fmt.Fprintf(w, "%s is %s\n", o.Mail, state)
	return err
}
