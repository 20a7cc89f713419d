package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/trust"
)

func (a *app) deviceSuspend() *cobra.Command {
	return suspendCommand(a, "suspend ID", "Keep a device out at once, until reinstated; touches no certificate and no CRL", "/devices/", printState)
}

func (a *app) deviceReinstate() *cobra.Command {
	return reinstateCommand(a, "reinstate ID", "Let a suspended device in again at once, with the same certificate", "/devices/", printState)
}

func suspendCommand[Out any](a *app, use, short, path string, human func(io.Writer, Out) error) *cobra.Command {
	var in api.Suspend
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return call(a, c, http.MethodPost, path+url.PathEscape(args[0])+"/suspend", nil, in, human)
	}}
	c.Flags().StringVar(&in.Reason, "reason", string(trust.SuspendOther), strings.Join(trust.SuspendReasons(), ", "))
	c.Flags().StringVar(&in.Comment, "comment", "", "why, for the help desk and the audit")
	return c
}

func reinstateCommand[Out any](a *app, use, short, path string, human func(io.Writer, Out) error) *cobra.Command {
	var in api.Comment
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		return call(a, c, http.MethodPost, path+url.PathEscape(args[0])+"/reinstate", nil, in, human)
	}}
	c.Flags().StringVar(&in.Comment, "comment", "", "why, for the audit")
	return c
}

// stateOf is the state of a device for people; a suspension is none of its states, since it leaves them as they are.
func stateOf(d trust.Device) string {
	if d.Suspended != nil {
		return string(d.State) + ", suspended"
	}
	return string(d.State)
}

// suspension says why and since when something is suspended.
func suspension(s *trust.Suspension) string {
	if s == nil {
		return "no"
	}
	text := fmt.Sprintf("%s since %s by %s", s.Reason, stamp(s.At), s.By)
	if s.Comment != "" {
		text += ": " + s.Comment
	}
	return text
}
