package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/trust"
)

func (a *app) lifecycleCommand() *cobra.Command {
	var in api.RunLifecycle
	run := &cobra.Command{Use: "run", Short: "Look through all devices now, and carry out what the lifecycle policy says of each", Args: cobra.NoArgs,
		Long: `Look through all devices now, and carry out what the lifecycle policy says of each.

The built-in policy has nothing switched on: silent_after, unused_after and no_mail_after in postern.config.lifecycle say what it looks for. Where a share of the devices
(lifecycle.share, 5 per cent if left out) would be suspended or retired, nothing is done, because a rule that catches so many is wrong more often than not; --all does it.
Retiring revokes the certificates of a device for good.`,
		Example: `  postern lifecycle run --dry-run
  postern lifecycle run --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			refused := false
			err := call(a, c, http.MethodPost, "/lifecycle/run", nil, in, func(w io.Writer, r api.LifecycleRun) error {
				refused = r.Refused && !r.DryRun
				return printLifecycle(w, r)
			})
			if err == nil && refused {
				return fmt.Errorf("nothing was done: see above, and use --all if it is what you want")
			}
			return err
		}}
	run.Flags().BoolVar(&in.DryRun, "dry-run", false, "only say what would be done")
	run.Flags().BoolVar(&in.All, "all", false, "carry it out however many devices are concerned")
	return group("lifecycle", "What becomes of devices that are silent, unused or gone", run)
}

func printLifecycle(w io.Writer, r api.LifecycleRun) error {
	rows := make([][]string, len(r.Changes))
	for i, c := range r.Changes {
		rows[i] = []string{string(c.Action), string(c.Device), c.Owner, codes(c.Reasons), textOf(c.Reasons)}
	}
	if len(rows) > 0 {
		if err := table(w, []string{"ACTION", "DEVICE", "OWNER", "REASONS", ""}, rows); err != nil {
			return err
		}
	}
	for _, text := range r.Errors {
		fmt.Fprintln(w, "error:", printable(text))
	}
	would := ""
	if r.DryRun || r.Refused {
		would = "would be "
	}
	fmt.Fprintf(w, "%s: %d %ssuspended, %d %sretired, %d to be told about, %d without a decision (policy %s)\n", plural(r.Devices, "device", "devices"), r.Suspend, would, r.Retire, would, r.Notify, r.Faults, r.Policy)
	if r.Refused {
		fmt.Fprintf(w, "more than the %d that one sweep may change: without --all nothing is done\n", r.Most)
	}
	return nil
}

func textOf(reasons []trust.Reason) string {
	if len(reasons) == 0 {
		return ""
	}
	return reasons[0].Text
}
