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
			return printNames(w, o)
		})
	}}
	return group("owner", "Owners of devices: look up, correct, suspend, reinstate", list, show, a.ownerUpdate(),
		suspendCommand(a, "suspend MAIL", "Keep every device of an owner out at once, until reinstated; touches no certificate and no CRL", "/owners/", printOwner),
		reinstateCommand(a, "reinstate MAIL", "Let a suspended owner in again at once, with the same certificates", "/owners/", printOwner))
}

func printOwner(w io.Writer, o trust.Owner) error {
	state := "not suspended"
	if o.Suspended != nil {
		state = "suspended"
	}
	_, err := fmt.Fprintf(w, "%s is %s\n", o.Mail, state)
	return err
}

// ownerUpdate corrects what mail is matched with: names, the account in Entra ID, and shared mailboxes.
func (a *app) ownerUpdate() *cobra.Command {
	var in api.OwnerUpdate
	var upn, sam, oid, tid string
	c := &cobra.Command{Use: "update MAIL", Short: "Correct the names, the account or the tenant of an owner, and add or drop aliases and shared mailboxes; what is not named stays", Args: cobra.ExactArgs(1),
		Example: "  postern owner update alice@contoso.com --tid 7f3c0e1a-... --oid 0b9d4a52-...\n  postern owner update alice@contoso.com --delegate info@contoso.com\n  postern owner update alice@contoso.com --drop-delegate sales@contoso.com",
		RunE: func(c *cobra.Command, args []string) error {
			for name, f := range map[string]struct {
				to   **string
				from *string
			}{"upn": {&in.UPN, &upn}, "sam": {&in.SAM, &sam}, "oid": {&in.OID, &oid}, "tid": {&in.TID, &tid}} {
				if c.Flags().Changed(name) {
					*f.to = f.from
				}
			}
			if in.UPN == nil && in.SAM == nil && in.OID == nil && in.TID == nil && len(in.Aliases)+len(in.Delegations)+len(in.DropAliases)+len(in.DropDelegations) == 0 {
				return errors.New("name what to change: --upn, --sam, --oid, --tid, --alias, --delegate, --drop-alias or --drop-delegate")
			}
			return call(a, c, http.MethodPatch, "/owners/"+url.PathEscape(args[0]), nil, in, printNames)
		}}
	f := c.Flags()
	f.StringVar(&upn, "upn", "", "user principal name; empty takes it away")
	f.StringVar(&sam, "sam", "", `the owner as DOMAIN\name; empty takes it away`)
	f.StringVar(&oid, "oid", "", "object id of the owner's account in Entra ID; empty takes it away")
	f.StringVar(&tid, "tid", "", "tenant of the owner's account in Entra ID; empty takes it away")
	f.StringSliceVar(&in.Aliases, "alias", nil, "further name of the owner's own mailbox (repeatable)")
	f.StringSliceVar(&in.Delegations, "delegate", nil, "shared mailbox that the owner may open (repeatable)")
	f.StringSliceVar(&in.DropAliases, "drop-alias", nil, "name that is not the owner's any more (repeatable)")
	f.StringSliceVar(&in.DropDelegations, "drop-delegate", nil, "shared mailbox that the owner may not open any more (repeatable)")
	return c
}

func printNames(w io.Writer, o trust.Owner) error {
	return table(w, []string{"owner", o.Mail}, [][]string{{"names", strings.Join(o.Names(), ", ")}, {"object id", dash(o.OID)}, {"tenant", dash(o.TID)},
		{"delegations", dash(strings.Join(o.Delegations, ", "))}, {"suspended", suspension(o.Suspended)}})
}
