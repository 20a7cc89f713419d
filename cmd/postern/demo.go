package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/lab"
	"postern/internal/server"
)

func (a *app) demoCommand() *cobra.Command {
	var dir string
	var once bool
	c := &cobra.Command{Use: "demo", Short: "Play the journey of a phone on loopback, with a laboratory Exchange, and stay up", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runDemo(c.Context(), c.OutOrStdout(), dir, once)
		}}
	c.Flags().StringVar(&dir, "dir", "", "where to keep configuration and state; a temporary directory, removed at the end, if left out")
	c.Flags().BoolVar(&once, "once", false, "end after the journey instead of staying up")
	return c
}

// runDemo sets everything up below dir, plays the journey and waits for ctx.
func runDemo(ctx context.Context, out io.Writer, dir string, once bool) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "postern-demo-"); err != nil {
			return fmt.Errorf("make demo directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make demo directory: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	exchange, address, err := startExchange(ctx)
	if err != nil {
		return err
	}
	path, err := demoConfig(out, dir, "http://"+address)
	if err != nil {
		return err
	}
	cfg, err := server.ReadFile(path)
	if err != nil {
		return err
	}
	// The journey tells what happens; the log keeps the details.
	logFile, err := os.OpenFile(filepath.Join(dir, "postern.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open demo log: %w", err)
	}
	defer logFile.Close()
	ready := make(chan server.Addresses, 1)
	s, err := server.Open(ctx, server.Options{Config: cfg, Version: version, Getenv: os.Getenv, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(logFile, nil)), Ready: func(at server.Addresses) { ready <- at }})
	if err != nil {
		return err
	}
	played := make(chan error, 1)
	go func() {
		at := <-ready
		fmt.Fprintf(out, "\nready\n\n")
		j := &journey{out: out, dir: dir, config: path, at: at, exchange: exchange, data: cfg.Data}
		err := j.play(ctx)
		if err != nil || once {
			stop()
		}
		played <- err
	}()
	if err := s.Run(ctx); err != nil {
		return err
	}
	select {
	case err := <-played:
		return err
	default:
		return nil // interrupted in the middle of the journey
	}
}

// startExchange runs the laboratory's Exchange on a loopback port.
func startExchange(ctx context.Context) (*lab.Exchange, string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("start the laboratory's Exchange: %w", err)
	}
	e := lab.NewExchange(lab.ExchangeOptions{Personality: lab.Online})
	go func() { _ = e.Serve(ctx, ln) }() // ends with ctx
	return e, ln.Addr().String(), nil
}

// demoConfig makes a configuration like `postern init` does, on ports that are free. A directory that has one is used as it is, with the new Exchange.
func demoConfig(out io.Writer, dir, upstream string) (string, error) {
	file := server.Example("contoso", "Contoso", "contoso.com")
	for _, where := range []*string{&file.Public.Listen, &file.Edge.Listen, &file.Admin.Listen} {
		free, err := freeAddress(*where)
		if err != nil {
			return "", err
		}
		*where = free
	}
	file.Issuers[0].URL = "http://" + file.Public.Listen
	file.Edge.Upstream = upstream
	path := filepath.Join(dir, server.ConfigName)
	if _, err := os.Stat(path); err == nil {
		return "", fmt.Errorf("%s is there already: give --dir a new directory", path)
	}
	return server.Init(server.InitOptions{Dir: dir, File: file, Getenv: os.Getenv, Now: time.Now, Progress: out})
}

// freeAddress returns the address if nobody listens there, or another loopback port.
func freeAddress(wanted string) (string, error) {
	for _, where := range []string{wanted, "127.0.0.1:0"} {
		ln, err := net.Listen("tcp", where)
		if err != nil {
			continue
		}
		where = ln.Addr().String()
		if err := ln.Close(); err != nil {
			return "", fmt.Errorf("find a free port: %w", err)
		}
		return where, nil
	}
	return "", errors.New("find a free port: no loopback port can be opened")
}
