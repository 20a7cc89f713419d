package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/api"
)

func (a *app) certProposal() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List revocations that wait for a second person; --all: also those of the last 30 days that are over", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return get(a, c, "/revocations/proposals", filters(c, "all", "after", "limit"), func(w io.Writer, all []api.RevokeProposal) error {
				rows := make([][]string, len(all))
				for i, p := range all {
					rows[i] = []string{p.ID, p.State, strconv.Itoa(p.Count), p.Reason, p.By, dash(p.Second), stamp(p.Until), p.Comment}
				}
				return table(w, []string{"ID", "STATE", "CERTIFICATES", "REASON", "PROPOSED BY", "SECOND", "UNTIL", "WHY"}, rows)
			})
		}}
	list.Flags().Bool("all", false, "also those that are over")
	listFlags(list, "after", "id of the last proposal of the previous page")
	show := &cobra.Command{Use: "show ID", Short: "Show a proposal with every certificate that it would revoke", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return get(a, c, proposalPath(args[0], ""), nil, func(w io.Writer, p api.RevokeProposal) error {
				fmt.Fprintf(w, "%s is %s: %s, reason %s, proposed by %s at %s; until %s\n", p.ID, p.State, plural(p.Count, "certificate", "certificates"), p.Reason, p.By, stamp(p.Created), stamp(p.Until))
				if p.Comment != "" {
					fmt.Fprintln(w, printable(p.Comment))
				}
				_, err := fmt.Fprintln(w, strings.Join(p.Certificates, "\n"))
				return err
			})
		}}
	withdraw := &cobra.Command{Use: "withdraw ID", Short: "End a proposal that waits: nobody can agree to it any more", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return call(a, c, http.MethodPost, proposalPath(args[0], "/withdraw"), nil, nil, func(w io.Writer, p api.RevokeProposal) error {
				_, err := fmt.Fprintf(w, "%s is %s; nothing was revoked\n", p.ID, p.State)
				return err
			})
		}}
	return group("proposal", "Revocations that wait for a second person (revocation.two_persons)", list, show, withdraw)
}

func proposalPath(id, verb string) string {
	return "/revocations/proposals/" + url.PathEscape(id) + verb
}

// approve carries out what another person has proposed.
func (a *app) approve(c *cobra.Command, in *revocation, args []string) error {
	if len(args)+len(in.devices)+len(in.owners) > 0 || in.file != "" || in.dry || in.Comment != "" || c.Flags().Changed("reason") {
		return errors.New("--approve stands alone: what is revoked and why is in the proposal, see `postern cert proposal show " + in.approve + "`")
	}
	return call(a, c, http.MethodPost, proposalPath(in.approve, "/approve"), nil, nil, func(w io.Writer, out api.Approved) error {
		_, err := fmt.Fprintf(w, "%s is %s: %s revoked, %s already\n", out.Proposal.ID, out.Proposal.State, plural(out.Revoked, "certificate", "certificates"), plural(out.Already, "was", "were"))
		return err
	})
}

// proposed says what the second person has to run.
func (r *revoked) proposed(w io.Writer) {
	for _, p := range r.Proposals {
		fmt.Fprintf(w, "%s for a second person, until %s: another access token has to run\n  postern cert revoke --approve %s\n", plural(p.Count, "certificate waits", "certificates wait"), stamp(p.Until), p.ID)
	}
}
