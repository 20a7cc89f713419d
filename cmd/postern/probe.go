package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/ca"
	"postern/internal/revocation/probe"
)

// probeFlags are what `crl probe` is told.
type probeFlags struct {
	url, delta, certificate, cloud string
}

func (a *app) crlProbe() *cobra.Command {
	var f probeFlags
	c := &cobra.Command{Use: "probe", Short: "Look at published CRLs from outside, as Entra ID does, and say which error a sign-in would get",
		Long: `Fetches CRLs as Entra ID does when a user signs in with a certificate: 20 MB, 10 seconds, plain HTTP. It checks signer, numbers, times, and that base and
delta can be combined, and names the AADSTS error that the user would get. Without --url it looks at every CA of the configuration; the server need not run.
Run it where Microsoft's way to the listener is the same: outside the company. The exit status is 0 if every sign-in would work, and 1 otherwise.`,
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			limits, ok := map[string]probe.Limits{"public": probe.Public(), "usgov": probe.USGovernment()}[f.cloud]
			if !ok {
				return fmt.Errorf("--cloud %q: want public or usgov", f.cloud)
			}
			targets, err := a.probeTargets(f)
			if err != nil {
				return err
			}
			p := probe.New(limits, time.Now)
			reports := make([]probe.Report, 0, len(targets))
			bad := 0
			for _, t := range targets {
				if !a.json {
					fmt.Fprintf(c.ErrOrStderr(), "looking at %s ...\n", t.URL)
				}
				r := p.Probe(c.Context(), t)
				if !r.OK {
					bad++
				}
				reports = append(reports, r)
			}
			if a.json {
				err = printJSON(c.OutOrStdout(), reports)
			} else {
				err = printProbes(c.OutOrStdout(), reports)
			}
			if bad > 0 {
				err = errors.Join(err, fmt.Errorf("sign-ins with certificates of %d of %d CAs would fail", bad, len(reports)))
			}
			return err
		}}
	c.Flags().StringVar(&f.url, "url", "", "URL of a base CRL; its CA's certificate is looked for at the same place with the extension .cer")
	c.Flags().StringVar(&f.delta, "delta-url", "", "URL of the delta CRL, with --url; if left out, the one that the base CRL names")
	c.Flags().StringVar(&f.certificate, "certificate", "", "file of the CA's certificate, DER or PEM, with --url")
	c.Flags().StringVar(&f.cloud, "cloud", "public", "whose limits: public (also GCC), or usgov (GCC High, DoD)")
	return c
}

// probeTargets returns what to look at.
func (a *app) probeTargets(f probeFlags) ([]probe.Target, error) {
	if f.url == "" {
		if f.delta != "" || f.certificate != "" {
			return nil, errors.New("--delta-url and --certificate go with --url")
		}
		return a.configuredTargets()
	}
	t := probe.Target{Name: f.url, URL: f.url, DeltaURL: f.delta, Follow: f.delta == "", From: strings.TrimSuffix(f.url, ".crl") + ".cer"}
	if f.certificate != "" {
		raw, err := readIssuerFile(f.certificate)
		if err != nil {
			return nil, err
		}
		if t.Certificate, err = probe.ParseCertificate(raw); err != nil {
			return nil, fmt.Errorf("%s: %w", f.certificate, err)
		}
	}
	return []probe.Target{t}, nil
}

// configuredTargets are the CAs of the configuration whose CRLs are published, with the certificates that are on disk.
func (a *app) configuredTargets() ([]probe.Target, error) {
	issuers, err := a.issuers("")
	if err != nil {
		return nil, err
	}
	var out []probe.Target
	for _, k := range issuers {
		list, err := k.generations()
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", k.spec.ID, err)
		}
		for _, g := range list {
			if t, ok, err := k.probeTarget(g); err != nil {
				return nil, err
			} else if ok {
				out = append(out, t)
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no CA of %s publishes CRLs: name one with --url", a.config)
	}
	return out, nil
}

// probeTarget is how a CA is to be registered in a tenant; ok is false for what is no CA, or has no CRLs any more.
func (k keysOf) probeTarget(g generation) (t probe.Target, ok bool, err error) {
	if g.Name != ca.RootCA && !ca.IsIssuing(g.Name) || g.State == ca.Withdrawn || g.State == ca.Retired && time.Now().After(g.Until) {
		return t, false, nil
	}
	t = probe.Target{Name: k.spec.ID + "/" + g.Name, URL: k.spec.CRLURL(g.Name), DeltaURL: k.spec.DeltaURL(g.Name)}
	if g.Name == ca.RootCA && g.Key == "absent" {
		t.DeltaURL = "" // a root whose key is elsewhere signs complete CRLs
		if _, err := os.Stat(filepath.Join(k.dir, "root.crl")); errors.Is(err, os.ErrNotExist) {
			return t, false, nil // another PKI's, which publishes it itself
		}
	}
	raw, err := readIssuerFile(filepath.Join(k.dir, g.Name+".crt"))
	if err != nil {
		return t, false, err
	}
	t.Certificate, err = probe.ParseCertificate(raw)
	return t, err == nil, err
}

// printProbes writes reports for people.
func printProbes(w io.Writer, all []probe.Report) error {
	rows := make([][]string, 0, 2*len(all))
	for _, r := range all {
		for _, c := range []*probe.CRL{r.Base, r.Delta} {
			if c == nil {
				continue
			}
			number := dash(c.Number)
			if c.BaseNumber != "" {
				number += " on " + c.BaseNumber
			}
			rows = append(rows, []string{c.URL, number, fmt.Sprint(c.Entries), fmt.Sprint(c.Size), fmt.Sprintf("%d ms", c.Millis), stamp(c.ThisUpdate),
				stamp(c.NextPublish), stamp(c.NextUpdate)})
		}
	}
	if err := table(w, []string{"URL", "NUMBER", "ENTRIES", "OCTETS", "TOOK", "THIS UPDATE", "NEXT PUBLISH", "NEXT UPDATE"}, rows); err != nil {
		return err
	}
	for _, r := range all {
		verdict := "sign-ins work"
		if !r.OK {
			verdict = "sign-ins FAIL"
		}
		if _, err := fmt.Fprintf(w, "\n%s: %s\n", printable(r.Name), verdict); err != nil {
			return err
		}
		for _, f := range r.Findings {
			_, err := fmt.Fprintf(w, "  %s: %s: %s\n      %s\n", strings.TrimSpace(string(f.Severity)+" "+f.Code), f.About, printable(f.Text), f.Remedy)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
