package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/ca"
)

func (a *app) crlForecast() *cobra.Command {
	var open bool
	c := &cobra.Command{Use: "forecast", Short: "Say when CRLs reach the size that Entra ID refuses, and open a new issuing CA well before",
		Long: `Says for each issuing CA how large its CRL is, how fast it grows, when it reaches 15 MB and 20 MB (what Entra ID takes) at the present rate, and by when a new
issuing CA has to be in force: the old one's certificates go on being revoked after that. With --open it prepares the new one where that is due within thirty
days, as "postern issuer rotate" does: it signs nothing until "postern issuer activate", so that it can be registered with relying parties first.`,
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var all []api.Forecast
			if err := client.Call(c.Context(), http.MethodGet, "/crls/forecast", nil, nil, &all); err != nil {
				return err
			}
			if a.json {
				err = printJSON(c.OutOrStdout(), all)
			} else {
				err = printForecasts(c.OutOrStdout(), all)
			}
			if err != nil || !open {
				return err
			}
			return a.openProposed(c, all)
		}}
	c.Flags().BoolVar(&open, "open", false, "prepare a new issuing CA where it is time to; on the machine that has the keys")
	return c
}

// printForecasts writes them for people.
func printForecasts(w io.Writer, all []api.Forecast) error {
	date := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.Local().Format("2006-01-02")
	}
	size := func(n int) string { return fmt.Sprintf("%.2f MB", float64(n)/1e6) }
	rows := make([][]string, len(all))
	for i, f := range all {
		rows[i] = []string{f.Issuer + "/" + f.CA, size(f.Size), fmt.Sprint(f.Entries), fmt.Sprint(math.Round(f.PerDay*10) / 10), size(f.Peak) + " on " + date(f.PeakAt),
			date(f.WarningAt), date(f.LimitAt), date(f.OpenBy)}
	}
	if err := table(w, []string{"CA", "SIZE", "ENTRIES", "REVOKED A DAY", "LARGEST", "15 MB", "20 MB", "NEW CA BY"}, rows); err != nil {
		return err
	}
	for _, f := range all {
		if f.Propose {
			if _, err := fmt.Fprintf(w, "\n%s needs a new issuing CA: `postern crl forecast --open`\n", f.Issuer); err != nil {
				return err
			}
		}
	}
	return nil
}

// openProposed prepares a new issuing CA for every issuer that needs one and has none prepared.
func (a *app) openProposed(c *cobra.Command, all []api.Forecast) error {
	done := false
	for _, f := range all {
		if !f.Propose {
			continue
		}
		done = true
		k, err := a.issuer(f.Issuer)
		if err != nil {
			return err
		}
		next, err := k.prepared()
		if err != nil {
			return err
		}
		if next == "" {
			if next, err = k.prepare(); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(c.ErrOrStderr(), "%s is prepared. Upload %s to the tenant, with %s and %s as its CRLs; then `postern issuer activate %s`.\n",
			next, k.spec.CertificateURL(next), k.spec.CRLURL(next), k.spec.DeltaURL(next), k.spec.ID)
		if err != nil {
			return err
		}
	}
	if !done {
		_, err := fmt.Fprintln(c.ErrOrStderr(), "No issuer needs a new issuing CA within thirty days.")
		return err
	}
	return nil
}

// prepared is the name of the issuing CA that is next; empty if there is none.
func (k keysOf) prepared() (string, error) {
	list, err := k.generations()
	if err != nil {
		return "", err
	}
	for _, g := range list {
		if ca.IsIssuing(g.Name) && g.State == ca.Next {
			return g.Name, nil
		}
	}
	return "", nil
}

// prepare makes the next issuing CA, as `issuer rotate` does.
func (k keysOf) prepare() (string, error) {
	pass, err := k.passphrase(false)
	if err != nil {
		return "", err
	}
	if err := ca.Rotate(k.dir, k.spec, pass, time.Now(), ca.RotateIssuing); err != nil {
		if errors.Is(err, ca.ErrOffline) {
			return "", fmt.Errorf("%w: `postern issuer csr %s`, then `postern issuer import`", err, k.spec.ID)
		}
		return "", err
	}
	return k.prepared()
}
