package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/trust"
)

// printTimeline says who has learnt when of the last change of a certificate, and until when others may believe what was before.
func printTimeline(w io.Writer, t *api.Timeline) error {
	if t == nil {
		return nil
	}
	what := "revoked (" + string(t.Change) + ")"
	switch t.Change {
	case trust.CertificateHold:
		what = "held"
	case trust.RemoveFromCRL:
		what = "released"
	}
	rows := [][]string{{stamp(t.At), what}}
	for _, e := range t.Edges {
		rows = append(rows, []string{stamp(e.At), "edge " + e.Node + " decides by it"})
	}
	for _, p := range t.Published {
		rows = append(rows, []string{stamp(p.At), fmt.Sprintf("%s %d published", p.Kind, p.Number)})
	}
	if len(t.Published) == 0 {
		rows = append(rows, []string{"-", "not published yet: see `postern crl show`"})
	}
	if f := t.Fetched; f != nil && (t.Microsoft == nil || *f != *t.Microsoft) {
		rows = append(rows, []string{stamp(f.At), "first fetched: " + fetched(*f)})
	}
	if f := t.Microsoft; f != nil {
		rows = append(rows, []string{stamp(f.At), "first fetched from a Microsoft address: " + fetched(*f)})
	}
	switch {
	case t.Old != nil:
		rows = append(rows, []string{stamp(t.Old.Until), fmt.Sprintf("the last fetch from a Microsoft address that did not have it expires (%s, at %s): Entra ID may believe the old state until then",
			fetched(t.Old.Fetch), stamp(t.Old.At))})
	case t.Microsoft == nil:
		rows = append(rows, []string{"-", "no fetch from a Microsoft address is known since"})
	default:
		rows = append(rows, []string{"-", "no fetch from a Microsoft address without it is still valid: Entra ID should know"})
	}
	if t.Latest != nil {
		rows = append(rows, []string{stamp(*t.Latest), "nobody who follows nextUpdate believes the old state after this"})
	}
	fmt.Fprintln(w)
	if err := table(w, []string{"timeline", ""}, rows); err != nil {
		return err
	}
	if t.Networks != "" {
		fmt.Fprintf(w, "(Microsoft's addresses as of %s)\n", printable(t.Networks))
	}
	return nil
}

func fetched(f api.Fetch) string {
	text := fmt.Sprintf("%s %d, from %s", f.Kind, f.Number, dash(f.Network))
	if f.Service != "" {
		text += " of " + f.Service
	}
	return text
}

func (a *app) crlReceipts() *cobra.Command {
	c := &cobra.Command{Use: "receipts", Short: "List who fetched which CRL, the newest first: counted by number, network and user agent", Args: cobra.NoArgs,
		Example: `  postern crl receipts --microsoft --kind delta
  postern crl receipts --number 1795592280 --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			return get(a, c, "/receipts", filters(c, "issuer", "ca", "kind", "number", "network", "microsoft", "limit"), func(w io.Writer, all []api.Receipt) error {
				rows := make([][]string, len(all))
				for i, r := range all {
					rows[i] = []string{r.Object, r.Number, dash(r.Network), dash(r.Service), dash(r.UserAgent), fmt.Sprint(r.Count), stamp(r.First), stamp(r.Last)}
				}
				return table(w, []string{"CRL", "NUMBER", "NETWORK", "MICROSOFT", "USER AGENT", "COUNT", "FIRST", "LAST"}, rows)
			})
		}}
	f := c.Flags()
	f.String("issuer", "", "only this issuer's")
	f.String("ca", "", "only this CA's")
	f.String("kind", "", "only base or delta")
	f.String("number", "", "only the CRL with this number")
	f.String("network", "", "only from this network, as it is listed")
	f.Bool("microsoft", false, "only from Microsoft's networks; --microsoft=false: only from others")
	f.Int("limit", 100, "entries, 1 to 1000")
	return c
}
