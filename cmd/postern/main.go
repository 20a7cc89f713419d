// Command postern is a device-trust certificate authority and policy engine: it issues device certificates over SCEP, publishes what it has revoked, and
// guards Exchange ActiveSync by policy. `postern help` lists its commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/server"
)

// version is stamped by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "postern:", err)
		os.Exit(1)
	}
}

// app holds the global flags.
type app struct {
	config string
	json   bool
	admin  string
}

func root() *cobra.Command {
	a := &app{}
	c := &cobra.Command{
		Use:           "postern",
		Short:         "Device-trust certificate authority and policy engine for Exchange ActiveSync",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	c.PersistentFlags().StringVarP(&a.config, "config", "c", "postern.yaml", "configuration file")
	c.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	c.PersistentFlags().StringVar(&a.admin, "admin", "", "URL of a remote admin API; the access token is read from POSTERN_TOKEN")
	c.AddCommand(a.initCommand(), a.serveCommand(), a.demoCommand(), a.deviceCommand(), a.ownerCommand(), a.issuerCommand(), a.profileCommand(), a.auditCommand(), a.adminCommand(),
		a.certCommand(), a.pendingCommand(), a.settleCommand(), a.exceptionCommand(), a.lifecycleCommand(), a.crlCommand(), a.policyCommand(), a.decisionCommand(), a.configCommand(), a.statusCommand(), a.versionCommand())
	return c
}

// group makes a command that only holds others. One that is mistyped is an error, not help with exit status 0.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q: see `%s --help`", args[0], c.CommandPath(), c.CommandPath())
		}
		return c.Help()
	}}
	c.AddCommand(subs...)
	return c
}

// client returns a client for the running server.
func (a *app) client() (*api.Client, error) {
	if a.admin != "" {
		token := os.Getenv("POSTERN_TOKEN")
		if token == "" {
			return nil, errors.New("--admin needs an access token in POSTERN_TOKEN: make one with `postern admin token create` on the server")
		}
		return api.Remote(a.admin, token), nil
	}
	cfg, err := server.ReadFile(a.config)
	if err != nil {
		return nil, err
	}
	return api.Local(cfg.Data), nil
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		if a.json {
			return printJSON(c.OutOrStdout(), map[string]string{"version": version})
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "postern", version)
		return err
	}}
}
