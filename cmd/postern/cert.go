package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"postern/internal/api"
)

func (a *app) certCommand() *cobra.Command {
	return group("cert", "Certificates: look up, revoke, hold, release",
		a.certList(), a.certShow(), a.certRevoke(), a.certProposal(),
		a.certChange("hold", "Put a certificate on hold and publish that; Entra ID caches holds for hours, `device suspend` acts at the edge alone",
			"The hold is published. Entra ID learns of it when it fetches the next CRL, and caches it and its release alike: `postern cert show` says until when.\n"+
				"Where only the gate has to know, `postern device suspend` acts at once and is undone at once."),
		a.certChange("release", "Release a certificate from hold and publish that (removeFromCRL)",
			"The release is published. Entra ID may go on believing the hold until it fetches the next CRL: `postern cert show` says until when."))
}

func certTable(w io.Writer, all []api.Certificate) error {
	rows := make([][]string, len(all))
	for i, c := range all {
		status := c.Status
		if c.Reason != "" {
			status += " (" + string(c.Reason) + ")"
		}
		rows[i] = []string{string(c.Serial), status, c.Owner, string(c.Device), stamp(c.NotAfter)}
	}
	return table(w, []string{"SERIAL", "STATUS", "OWNER", "DEVICE", "VALID UNTIL"}, rows)
}

func (a *app) certList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List certificates", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/certificates", filters(c, "issuer", "owner", "device", "status", "after", "limit"), certTable)
	}}
	c.Flags().String("issuer", "", "only this issuer's")
	c.Flags().String("owner", "", "only this owner's")
	c.Flags().String("device", "", "only this device's")
	c.Flags().String("status", "", "only with this status: good, held, superseded, revoked")
	listFlags(c, "after", "issuer/serial of the last certificate of the previous page")
	return c
}

func (a *app) certShow() *cobra.Command {
	c := &cobra.Command{Use: "show SERIAL", Short: "Show a certificate, with its PEM, and who has learnt when that it was revoked, held or released", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return get(a, c, "/certificates/"+url.PathEscape(args[0]), filters(c, "issuer"), printCert)
		}}
	c.Flags().String("issuer", "", "issuer, where two have the serial number")
	return c
}

func printCert(w io.Writer, d api.CertificateDetail) error {
	used := "never"
	if d.FirstUsed != nil {
		used = stamp(*d.FirstUsed)
	}
	rows := [][]string{{"status", d.Status + " since " + stamp(d.ChangedAt)}, {"reason", dash(string(d.Reason))}, {"comment", dash(d.Comment)},
		{"subject", d.Subject}, {"owner", d.Owner}, {"device", string(d.Device)}, {"valid", stamp(d.NotBefore) + " to " + stamp(d.NotAfter)},
		{"issued for", d.Evidence.Kind + " " + d.Evidence.Challenge + string(d.Evidence.Renews)}, {"first used", used}, {"SHA-256", d.Fingerprint}}
	if err := table(w, []string{"certificate", string(d.Serial)}, rows); err != nil {
		return err
	}
	if err := printTimeline(w, d.Timeline); err != nil {
		return err
	}
	_, err := fmt.Fprint(w, "\n", d.PEM)
	return err
}

func printCertStatus(w io.Writer, d api.CertificateDetail) error {
	_, err := fmt.Fprintf(w, "%s of %s is %s since %s\n", d.Serial, d.Owner, d.Status, stamp(d.ChangedAt))
	return err
}

// certChange changes the standing of a certificate; note is what people should know then.
func (a *app) certChange(use, short, note string) *cobra.Command {
	var in api.Comment
	c := &cobra.Command{Use: use + " SERIAL", Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return call(a, c, http.MethodPost, "/certificates/"+url.PathEscape(args[0])+"/"+use, nil, in, func(w io.Writer, d api.CertificateDetail) error {
			if err := printCertStatus(w, d); err != nil {
				return err
			}
			_, err := fmt.Fprintln(w, note)
			return err
		})
	}}
	c.Flags().StringVar(&in.Comment, "comment", "", "why, for the audit")
	c.Flags().StringVar(&in.Issuer, "issuer", "", "issuer, where two have the serial number")
	return c
}

func (a *app) crlCommand() *cobra.Command {
	show := &cobra.Command{Use: "show", Short: "Show the published CRLs", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/crls", filters(c, "issuer"), crlTable)
	}}
	show.Flags().String("issuer", "", "only this issuer's")
	var in api.Publish
	publish := &cobra.Command{Use: "publish", Short: "Publish a base CRL and its delta now", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		if in.Issuer == "" {
			var err error
			if in.Issuer, err = a.onlyIssuer(); err != nil {
				return err
			}
		}
		return call(a, c, http.MethodPost, "/crls/publish", nil, in, crlTable)
	}}
	publish.Flags().StringVar(&in.Issuer, "issuer", "", "issuer; may be left out where there is only one")
	publish.Flags().BoolVar(&in.Base, "base", true, "a complete CRL too; --base=false publishes a delta alone")
	return group("crl", "Certificate revocation lists", show, publish, a.crlReceipts(), a.crlProbe(), a.crlForecast())
}

func crlTable(w io.Writer, all []api.CRL) error {
	rows := make([][]string, len(all))
	for i, l := range all {
		base := "-"
		if l.BaseNumber > 0 {
			base = fmt.Sprint(l.BaseNumber)
		}
		rows[i] = []string{l.URL, l.Kind, fmt.Sprint(l.Number), base, fmt.Sprint(l.Entries), stamp(l.ThisUpdate), stamp(l.NextPublish), stamp(l.NextUpdate)}
	}
	return table(w, []string{"URL", "KIND", "NUMBER", "BASE", "ENTRIES", "THIS UPDATE", "NEXT PUBLISH", "NEXT UPDATE"}, rows)
}
