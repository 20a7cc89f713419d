package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/server"
	"postern/internal/trust"
)

func (a *app) deviceCommand() *cobra.Command {
	return group("device", "Devices: add, look up, let enrol, retire",
		a.deviceAdd(), a.deviceUpdate(), a.deviceList(), a.deviceShow(), a.deviceChallenge(), a.deviceRetire(), a.deviceReassign(),
		a.deviceSuspend(), a.deviceReinstate(), a.deviceTicket(), a.deviceTickets(), a.deviceRevokeTicket(),
		a.deviceState("block", "Keep a device out for good, until unblocked; touches no certificate", trust.Blocked),
		a.deviceState("unblock", "Let a blocked or quarantined device in again", trust.Active))
}

func (a *app) deviceAdd() *cobra.Command {
	var in api.NewDevice
	c := &cobra.Command{Use: "add", Short: "Add a managed device and its owner; prints the device's id", Args: cobra.NoArgs,
		Example: `  postern device add --issuer contoso --owner alice@contoso.com --serial-number F2LX --model "iPhone15,4"`,
		RunE: func(c *cobra.Command, _ []string) error {
			if in.Issuer == "" {
				var err error
				if in.Issuer, err = a.onlyIssuer(); err != nil {
					return err
				}
			}
			return call(a, c, http.MethodPost, "/devices", nil, in, func(w io.Writer, d trust.Device) error {
				_, err := fmt.Fprintln(w, d.ID)
				return err
			})
		}}
	f := c.Flags()
	f.StringVar(&in.Issuer, "issuer", "", "issuer that will certify it; may be left out where there is only one")
	f.StringVar(&in.Owner, "owner", "", "mail address of the owner")
	f.StringVar(&in.UPN, "upn", "", "user principal name of the owner, where it is not the mail address")
	f.StringVar(&in.SAM, "sam", "", `the owner as DOMAIN\name`)
	f.StringVar(&in.OID, "oid", "", "the owner's object id in Entra ID")
	f.StringVar(&in.TID, "tid", "", "the owner's tenant id")
	f.StringSliceVar(&in.Aliases, "alias", nil, "further mail address of the owner (repeatable)")
	f.StringSliceVar(&in.Delegations, "delegate", nil, "shared mailbox that the owner may open (repeatable)")
	f.StringVar(&in.SerialNumber, "serial-number", "", "serial number of the hardware")
	f.StringVar(&in.UDID, "udid", "", "UDID of the hardware")
	f.StringVar(&in.Model, "model", "", "hardware identifier, for example iPhone15,4")
	f.StringVar(&in.OS, "os", "", "operating system, for example ios")
	f.StringVar(&in.OSVersion, "os-version", "", "version of the operating system")
	f.StringVar(&in.EASDeviceID, "eas-device-id", "", "EAS DeviceId, where the MDM reports it")
	f.StringToStringVar(&in.Labels, "label", nil, "label as key=value, for policies (repeatable)")
	_ = c.MarkFlagRequired("owner")
	return c
}

func (a *app) deviceUpdate() *cobra.Command {
	var in api.DeviceUpdate
	var easID, model, os, version, compliant string
	c := &cobra.Command{Use: "update ID", Short: "Change what is known of a device or add names of its owner; what is not named stays", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for name, f := range map[string]struct {
				to   **string
				from *string
			}{"eas-device-id": {&in.EASDeviceID, &easID}, "model": {&in.Model, &model}, "os": {&in.OS, &os}, "os-version": {&in.OSVersion, &version}} {
				if c.Flags().Changed(name) {
					*f.to = f.from
				}
			}
			if c.Flags().Changed("compliant") {
				said := trust.Compliance(compliant)
				in.Compliant = &said
			}
			return call(a, c, http.MethodPatch, "/devices/"+url.PathEscape(args[0]), nil, in, printState)
		}}
	f := c.Flags()
	f.StringVar(&easID, "eas-device-id", "", "EAS DeviceId as the MDM reports it; empty takes it away")
	f.StringVar(&model, "model", "", "hardware identifier")
	f.StringVar(&os, "os", "", "operating system")
	f.StringVar(&version, "os-version", "", "version of the operating system")
	f.StringVar(&compliant, "compliant", "", "what the MDM says of its compliance: yes, no or unknown")
	f.StringToStringVar(&in.Labels, "label", nil, "label as key=value; an empty value removes it (repeatable)")
	f.StringVar(&in.UPN, "upn", "", "user principal name of the owner")
	f.StringVar(&in.SAM, "sam", "", `the owner as DOMAIN\name`)
	f.StringSliceVar(&in.Aliases, "alias", nil, "further mail address of the owner (repeatable)")
	f.StringSliceVar(&in.Delegations, "delegate", nil, "shared mailbox that the owner may open (repeatable)")
	return c
}

// onlyIssuer returns the issuer of a configuration that has just one.
func (a *app) onlyIssuer() (string, error) {
	if a.admin != "" {
		return "", fmt.Errorf("name the issuer with --issuer")
	}
	cfg, err := server.ReadFile(a.config)
	if err != nil {
		return "", err
	}
	if len(cfg.Issuers) != 1 {
		return "", fmt.Errorf("the configuration has %d issuers: name one with --issuer", len(cfg.Issuers))
	}
	return cfg.Issuers[0].ID, nil
}

func (a *app) deviceList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List devices", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/devices", filters(c, "issuer", "owner", "serial-number", "state", "suspended", "after", "limit"), func(w io.Writer, all []trust.Device) error {
			rows := make([][]string, len(all))
			for i, d := range all {
				rows[i] = []string{string(d.ID), stateOf(d), d.Owner, dash(d.SerialNumber), dash(d.Model), dash(d.EASDeviceID), d.Source}
			}
			return table(w, []string{"ID", "STATE", "OWNER", "SERIAL NUMBER", "MODEL", "EAS DEVICEID", "SOURCE"}, rows)
		})
	}}
	c.Flags().String("issuer", "", "only this issuer's")
	c.Flags().String("owner", "", "only this owner's")
	c.Flags().String("serial-number", "", "only this hardware")
	c.Flags().Bool("suspended", false, "only what is suspended")
	c.Flags().String("state", "", "only in this state: pending, active, quarantined, blocked, retired")
	listFlags(c, "after", "id of the last device of the previous page")
	return c
}

func (a *app) deviceShow() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show a device with its certificates and mail profiles", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return get(a, c, "/devices/"+url.PathEscape(args[0]), nil, func(w io.Writer, d api.Device) error {
				names := strings.Join(append(d.OwnerNames.Names(), d.OwnerNames.Delegations...), ", ")
				if err := table(w, []string{"device", string(d.ID)}, [][]string{{"state", string(d.State)}, {"suspended", suspension(d.Suspended)}, {"owner", names}, {"owner suspended", suspension(d.OwnerNames.Suspended)}, {"issuer", d.Issuer},
					{"serial number", dash(d.SerialNumber)}, {"model", dash(d.Model)}, {"EAS DeviceId", dash(d.EASDeviceID)},
					{"managed", fmt.Sprint(d.Managed)}, {"compliant", compliance(d)}, {"OS version", dash(strings.TrimSpace(d.OS + " " + d.OSVersion))}, {"source", d.Source}, {"added", stamp(d.Created)}}); err != nil {
					return err
				}
				fmt.Fprintln(w, "\ncertificates")
				if err := certTable(w, d.Certificates); err != nil {
					return err
				}
				fmt.Fprintln(w, "\nmail profiles")
				return profileTable(w, d.Profiles)
			})
		}}
}

// compliance says what the MDM says, and since when where that is known.
func compliance(d api.Device) string {
	if d.ComplianceSince.IsZero() {
		return string(d.Compliant)
	}
	return string(d.Compliant) + " since " + stamp(d.ComplianceSince)
}

func (a *app) deviceChallenge() *cobra.Command {
	var ttl string
	c := &cobra.Command{Use: "challenge ID", Short: "Make a one-time SCEP challenge for a device; it is shown once", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return call(a, c, http.MethodPost, "/challenges", nil, api.NewChallenge{Device: trust.DeviceID(args[0]), TTL: ttl}, func(w io.Writer, ch api.Challenge) error {
				return table(w, []string{"SCEP URL", ch.URL}, [][]string{{"challenge", ch.Challenge}, {"expires", stamp(ch.Expires)}})
			})
		}}
	c.Flags().StringVar(&ttl, "ttl", "1h", "how long it can be used")
	return c
}

func (a *app) deviceRetire() *cobra.Command {
	var in api.Comment
	c := &cobra.Command{Use: "retire ID", Short: "Take a device out of service for good and revoke its certificates", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return call(a, c, http.MethodPost, "/devices/"+url.PathEscape(args[0])+"/retire", nil, in, printState)
		}}
	c.Flags().StringVar(&in.Comment, "comment", "", "why, for the audit")
	return c
}

func (a *app) deviceReassign() *cobra.Command {
	var in api.Reassign
	c := &cobra.Command{Use: "reassign ID", Short: "Give a device to another owner; certificates with the old one's address are revoked", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return call(a, c, http.MethodPost, "/devices/"+url.PathEscape(args[0])+"/reassign", nil, in, printState)
		}}
	c.Flags().StringVar(&in.Owner, "owner", "", "mail address of the new owner")
	c.Flags().StringVar(&in.UPN, "upn", "", "the new owner's user principal name, where it is not the mail address")
	c.Flags().StringSliceVar(&in.Aliases, "alias", nil, "further mail address of the new owner (repeatable)")
	_ = c.MarkFlagRequired("owner")
	return c
}

func (a *app) deviceState(use, short string, s trust.State) *cobra.Command {
	in := api.DeviceState{State: s}
	c := &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return call(a, c, http.MethodPost, "/devices/"+url.PathEscape(args[0])+"/state", nil, in, printState)
	}}
	c.Flags().StringVar(&in.Comment, "comment", "", "why, for the audit")
	return c
}

func printState(w io.Writer, d trust.Device) error {
	_, err := fmt.Fprintf(w, "%s is %s, owner %s\n", d.ID, stateOf(d), d.Owner)
	return err
}
