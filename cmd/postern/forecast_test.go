package main

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/api"
	"postern/internal/server"
)

// Where it is time, --open prepares a new issuing CA, once; elsewhere it touches nothing.
func TestOpenProposed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, err := server.Init(server.InitOptions{Dir: dir, File: server.Example("contoso", "Contoso", "contoso.com"), Getenv: func(string) string { return "" }, Now: time.Now, Progress: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	a := &app{config: path}
	run := func(all ...api.Forecast) string {
		var out bytes.Buffer
		c := &cobra.Command{}
		c.SetErr(&out)
		if err := a.openProposed(c, all); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	k, err := a.issuer("contoso")
	if err != nil {
		t.Fatal(err)
	}
	if text := run(api.Forecast{Issuer: "contoso", CA: "issuing"}); !strings.Contains(text, "No issuer needs") {
		t.Error(text)
	}
	if next, err := k.prepared(); err != nil || next != "" {
		t.Errorf("%q was prepared: %v", next, err)
	}
	for range 2 {
		text := run(api.Forecast{Issuer: "contoso", CA: "issuing", Propose: true})
		if !strings.Contains(text, "issuing-2 is prepared") || !strings.Contains(text, "/contoso/issuing-2-delta.crl") || !strings.Contains(text, "issuer activate contoso") {
			t.Error(text)
		}
		if next, err := k.prepared(); err != nil || next != "issuing-2" {
			t.Errorf("%q is prepared: %v", next, err)
		}
	}
	if all, err := filepath.Glob(filepath.Join(k.dir, "issuing-3*")); err != nil || len(all) > 0 {
		t.Errorf("%v: %v", all, err)
	}
}
