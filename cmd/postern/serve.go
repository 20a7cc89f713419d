package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/server"
)

func (a *app) serveCommand() *cobra.Command {
	var level, format string
	c := &cobra.Command{Use: "serve", Short: "Run every section of the configuration until SIGTERM", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		cfg, err := server.ReadFile(a.config)
		if err != nil {
			return err
		}
		log, err := newLogger(c.ErrOrStderr(), level, format)
		if err != nil {
			return err
		}
		s, err := server.Open(c.Context(), server.Options{Config: cfg, Version: version, Getenv: os.Getenv, Now: time.Now, Log: log})
		if err != nil {
			return err
		}
		go collectLess(c.Context())
		return s.Run(c.Context())
	}}
	c.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	c.Flags().StringVar(&format, "log-format", "text", "text or json")
	return c
}

// newLogger logs to w.
func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", format)
}

func (a *app) initCommand() *cobra.Command {
	var issuer, domain, organization, url, offlineRoot string
	c := &cobra.Command{Use: "init DIR", Short: "Write a configuration and generate the keys of an issuer", Args: cobra.ExactArgs(1),
		Example: "  postern init /etc/postern --issuer contoso --domain contoso.com --url http://pki.contoso.com",
		RunE: func(c *cobra.Command, args []string) error {
			if organization == "" {
				organization = strings.ToUpper(issuer[:min(1, len(issuer))]) + issuer[min(1, len(issuer)):]
			}
			file := server.Example(issuer, organization, strings.ToLower(domain))
			file.Issuers[0].URL = url
			path, err := server.Init(server.InitOptions{Dir: args[0], File: file,
				Getenv: os.Getenv, Now: time.Now, Progress: c.ErrOrStderr(), OfflineRoot: offlineRoot})
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), map[string]string{"config": path})
			}
			if _, err = fmt.Fprintf(c.OutOrStdout(), afterInit, path); err == nil && offlineRoot != "" {
				_, err = fmt.Fprintf(c.OutOrStdout(), afterOfflineRoot, offlineRoot)
			}
			return err
		}}
	c.Flags().StringVar(&issuer, "issuer", "", "short name of the issuer, for example contoso")
	c.Flags().StringVar(&domain, "domain", "", "mail domain that it may certify, for example contoso.com")
	c.Flags().StringVar(&url, "url", server.LocalURL, "where the world will find SCEP, CRLs and OCSP; it goes into the CA's certificate and cannot be changed there")
	c.Flags().StringVar(&organization, "organization", "", "name of the company; the issuer's name if left out")
	c.Flags().StringVar(&offlineRoot, "offline-root", "", "directory, not there yet, that gets the root's key, to be taken away from this machine")
	_ = c.MarkFlagRequired("issuer")
	_ = c.MarkFlagRequired("domain")
	return c
}

const afterInit = `Wrote %[1]s with a root, an issuing CA and a SCEP decryption key.

The keys are encrypted with the passphrase in var/passphrase (or POSTERN_PASSPHRASE, or the file named by POSTERN_PASSPHRASE_FILE,
if one of them was set). Keep a copy of var/issuers and of the passphrase in two different safe places: without both there is no restore.

Next:
  1. Edit %[1]s: the edge's host name and certificate, the addresses to listen on.
  2. postern config check -c %[1]s
  3. postern serve -c %[1]s
  4. postern device add -c %[1]s --owner you@your.domain --serial-number SERIAL
  5. postern device challenge -c %[1]s ID      then give URL and challenge to the phone's SCEP profile
`

const afterOfflineRoot = `
The root's key is in %[1]s, encrypted with the same passphrase. Take the directory away from this machine, to one without a network, and keep a copy.
Its CRL is good for a year: make the next one there with "postern issuer root-crl", and bring it here with "postern issuer import-crl".
`

func (a *app) configCommand() *cobra.Command {
	check := &cobra.Command{Use: "check", Short: "Check the configuration file, without starting anything", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		cfg, err := server.ReadFile(a.config)
		if err != nil {
			return err
		}
		missing := cfg.CheckFiles()
		if a.json {
			out := map[string]any{"ok": true, "data": cfg.Data, "ready": missing == nil}
			if missing != nil {
				out["missing"] = strings.Split(missing.Error(), "\n")
			}
			return printJSON(c.OutOrStdout(), out)
		}
		if missing != nil {
			// A file is often checked before it is where it will run.
			fmt.Fprintf(c.ErrOrStderr(), "`postern serve` cannot start from it here yet:\n%v\n", missing)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is valid\n", a.config)
		return err
	}}
	example := &cobra.Command{Use: "example", Short: "Print a complete, commented configuration", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		file := server.Complete()
		write := file.Write
		if a.json {
			write = file.JSON
		}
		b, err := write()
		if err != nil {
			return err
		}
		_, err = c.OutOrStdout().Write(b)
		return err
	}}
	return group("config", "The configuration file", check, example)
}
