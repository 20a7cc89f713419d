package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/trust"
)

// revokeAtOnce is how many targets are sent in one request: an interruption waits for so many.
const revokeAtOnce = 500

// revocation is one `postern cert revoke`.
type revocation struct {
	api.Revoke
	devices, owners []string
	file, approve   string
	dry             bool
}

func (a *app) certRevoke() *cobra.Command {
	var in revocation
	c := &cobra.Command{Use: "revoke [SERIAL...]", Short: "Revoke certificates for good, by serial number, device, owner or file: the edge refuses them at once, a delta CRL follows within a second",
		Long: `Revoke certificates for good. The edge refuses them at once, OCSP says so at once, and a delta CRL follows within a second.

What to revoke is named by serial numbers, --device, --owner or --file. A certificate takes with it those that it has superseded; a device or an owner is all of
its certificates that have not expired. A file has a serial number, a device's id or a mail address on each line, or is CSV: of one without a header the first
column counts, of one with a header the columns serial, device, owner and issuer. If a line cannot be read, nothing is revoked.

It may be interrupted at any time and repeated: what is revoked already is passed over and counted. Where the phone may come back, suspend it instead
(postern device suspend): a revocation is final.

Where the server asks for two persons (revocation.two_persons), what is too much for one is stored as a proposal: nothing is revoked, and the command fails and says
what another person has to run within a day. --approve revokes exactly what was proposed; postern cert proposal lists, shows and withdraws.`,
		Example: `  postern cert revoke 48efa06b --reason keyCompromise --comment "phone stolen"
  postern cert revoke --owner alice@contoso.com --reason affiliationChanged
  postern cert revoke --file leavers.csv --reason affiliationChanged --dry-run
  postern cert list --status held --json | jq -r '.[].serial' | postern cert revoke --file -`,
		RunE: func(c *cobra.Command, args []string) error {
			if in.approve != "" {
				return a.approve(c, &in, args)
			}
			if len(args) == 1 && len(in.devices)+len(in.owners) == 0 && in.file == "" && !in.dry {
				return call(a, c, http.MethodPost, "/certificates/"+url.PathEscape(args[0])+"/revoke", nil, in.Revoke, printCertStatus)
			}
			targets, err := in.targets(c.InOrStdin(), args)
			if err != nil {
				return err
			}
			return a.revokeMany(c, &in, targets)
		}}
	f := c.Flags()
	f.StringArrayVar(&in.devices, "device", nil, "every certificate of this device (repeatable)")
	f.StringArrayVar(&in.owners, "owner", nil, "every certificate of this owner (repeatable)")
	f.StringVar(&in.file, "file", "", "file of what to revoke; - is standard input")
	f.StringVar(&in.approve, "approve", "", "id of a proposal of another person, to be carried out")
	f.BoolVar(&in.dry, "dry-run", false, "only say what would be revoked")
	f.StringVar(&in.Reason, "reason", "unspecified", "unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn")
	f.StringVar(&in.Comment, "comment", "", "why, for the audit")
	f.StringVar(&in.Issuer, "issuer", "", "issuer, where two have the serial number")
	return c
}

// targets reads everything that is named, before anything is revoked.
func (in *revocation) targets(stdin io.Reader, args []string) (all []api.Target, err error) {
	if _, err := trust.RevocationReason(in.Reason); err != nil {
		return nil, err
	}
	for _, arg := range args {
		s, err := trust.ParseSerial(arg)
		if err != nil {
			return nil, err
		}
		all = append(all, api.Target{Serial: s})
	}
	for _, d := range in.devices {
		all = append(all, api.Target{Device: trust.DeviceID(d)})
	}
	for _, o := range in.owners {
		all = append(all, api.Target{Owner: o})
	}
	if in.file != "" {
		from, err := readTargets(stdin, in.file)
		if err != nil {
			return nil, fmt.Errorf("%s: nothing was revoked:\n  %w", in.file, err)
		}
		all = append(all, from...)
	}
	if len(all) == 0 {
		return nil, errors.New("name what to revoke: serial numbers, --device, --owner or --file")
	}
	for i := range all {
		if all[i].Issuer == "" {
			all[i].Issuer = in.Issuer
		}
	}
	return all, nil
}

func readTargets(stdin io.Reader, name string) ([]api.Target, error) {
	if name == "-" {
		return api.ParseTargets(stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return api.ParseTargets(f)
}

// revoked is what `postern cert revoke` prints of many targets.
type revoked struct {
	DryRun      bool            `json:"dry_run"`
	Targets     int             `json:"targets"`
	Done        int             `json:"done"` // fewer than Targets if it was interrupted
	Revoked     int             `json:"revoked"`
	Already     int             `json:"already"`
	Expired     int             `json:"expired"`
	Failed      int             `json:"failed"` // targets that could not be found or used
	Results     []revokedTarget `json:"results"`
	Interrupted bool            `json:"interrupted"`

	Proposals []api.RevokeProposal `json:"proposals,omitempty"` // not revoked: a second person has to agree
}

type revokedTarget struct {
	api.Target
	api.Outcome
}

// revokeMany sends targets a few hundred at a time. A request that was begun is waited for, so that what is said to be done is what was done.
func (a *app) revokeMany(c *cobra.Command, in *revocation, targets []api.Target) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	ctx, out := c.Context(), revoked{DryRun: in.dry, Targets: len(targets), Results: []revokedTarget{}}
	p := newProgress(c.ErrOrStderr(), len(targets), "targets")
	for len(targets) > out.Done && err == nil && ctx.Err() == nil {
		part := targets[out.Done:min(len(targets), out.Done+revokeAtOnce)]
		var got api.Revocations
		ask := api.RevokeMany{Reason: in.Reason, Comment: in.Comment, DryRun: in.dry, Targets: part}
		if err = client.Call(context.WithoutCancel(ctx), http.MethodPost, "/revocations", nil, ask, &got); err == nil {
			out.add(part, got.Results)
			if got.Proposal != nil {
				out.Proposals = append(out.Proposals, *got.Proposal)
			}
			p.at(out.Done, out.counts())
		}
	}
	p.end()
	out.Interrupted = out.Done < out.Targets
	if perr := out.print(a, c.OutOrStdout()); perr != nil {
		return errors.Join(err, perr)
	}
	switch {
	case err != nil:
		return fmt.Errorf("stopped after %d of %d targets, and up to %d more may be done; the same command again goes on: %w", out.Done, out.Targets, revokeAtOnce, err)
	case out.Interrupted:
		return fmt.Errorf("interrupted after %d of %d targets; the same command again goes on", out.Done, out.Targets)
	case len(out.Proposals) > 0:
		return errors.New("not everything is revoked yet: a second person has to agree")
	case out.Failed > 0:
		return fmt.Errorf("%d of %d targets could not be revoked", out.Failed, out.Targets)
	}
	return nil
}

func (r *revoked) add(part []api.Target, results []api.Outcome) {
	for i, t := range results[:min(len(results), len(part))] {
		r.Done++
		r.Revoked, r.Already, r.Expired = r.Revoked+len(t.Revoked), r.Already+t.Already, r.Expired+t.Expired
		if t.Error != "" {
			r.Failed++
		}
		r.Results = append(r.Results, revokedTarget{part[i], t})
	}
}

func (r *revoked) counts() string {
	would := ""
	if r.DryRun {
		would = "would be "
	}
	return fmt.Sprintf("%s %srevoked, %s already, %d expired and passed over, %s failed", plural(r.Revoked, "certificate", "certificates"), would, plural(r.Already, "was", "were"), r.Expired,
		plural(r.Failed, "target", "targets"))
}

func (r *revoked) print(a *app, w io.Writer) error {
	if a.json {
		return printJSON(w, r)
	}
	for _, t := range r.Results {
		where := t.Target.String()
		if t.Line > 0 {
			where = fmt.Sprintf("line %d, %s", t.Line, where)
		}
		if t.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", printable(where), printable(t.Error))
		}
		if r.DryRun {
			for _, s := range t.Revoked {
				fmt.Fprintf(w, "%s: would revoke %s\n", printable(where), s)
			}
		}
	}
	r.proposed(w)
	_, err := fmt.Fprintln(w, r.counts())
	return err
}
