package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
)

// stock gives the registry of a site that does not run so many devices with a certificate each, by its rules, and returns their serial numbers. Nobody has
// the keys: for what is told of certificates that does not matter.
func (s *site) stock(t *testing.T, n int) []trust.Serial {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := bolt.Open(filepath.Join(s.dir, "var", "registry.db"), bolt.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	reg, serials := registry.New(store, time.Now, log), make([]trust.Serial, n)
	const workers = 250 // they share their commits
	var busy sync.WaitGroup
	for worker := range workers {
		busy.Go(func() {
			for i := worker; i < n; i += workers {
				if serials[i], err = stockOne(t.Context(), reg, i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if busy.Wait(); t.Failed() {
		t.FailNow()
	}
	return serials
}

func stockOne(ctx context.Context, reg *registry.Registry, i int) (trust.Serial, error) {
	root := trust.Principal{Kind: "cli", Name: "root", Role: trust.Root}
	mail := fmt.Sprintf("person%d@contoso.com", i)
	d, err := reg.AddDevice(ctx, root, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: fmt.Sprint("HW", i), Managed: true, Source: "admin"},
		Owner: trust.Owner{Mail: mail}})
	if err != nil {
		return "", err
	}
	secret, _, err := reg.CreateChallenge(ctx, root, d.ID, 0)
	if err != nil {
		return "", err
	}
	c := trust.Certificate{Issuer: "contoso", CA: "issuing", Serial: trust.Serial(fmt.Sprintf("7a%030x", i)), Device: d.ID, Owner: mail, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(365 * 24 * time.Hour), Fingerprint: fmt.Sprintf("%064x", i+1), Evidence: trust.Evidence{Kind: "challenge"}, DER: []byte{0x30, 0}}
	c, err = reg.CommitEnrolment(ctx, trust.Principal{Kind: "scep", Name: "contoso"}, registry.Enrolment{Certificate: c, Challenge: secret,
		Transaction: registry.Transaction{Issuer: "contoso", ID: fmt.Sprint(i), MessageType: "PKCSReq", Challenge: secret}})
	return c.Serial, err
}

// bulk is what `postern cert revoke --json` says of many.
type bulk struct {
	Targets, Done, Revoked, Already, Failed int
	Interrupted                             bool
}

// TestRevokeTenThousand revokes ten thousand certificates with one command: it is interrupted, goes on where it was, shows its progress, and makes a handful
// of deltas, of which the last has everything two seconds after the end. Then it is repeated, which changes nothing.
func TestRevokeTenThousand(t *testing.T) {
	const many = 10_000
	s := openSite(t, siteOptions{})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	serials := s.stock(t, many)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	list.WriteString("serial;name\n")
	for i, serial := range serials {
		fmt.Fprintf(&list, "%s;Person %d\n", serial, i)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "leavers.csv"), []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	first := s.deltaNumbers(t)
	before := len(first)

	dry, _ := s.revokeAll(t, nil, "--dry-run")
	if dry.Revoked != many || dry.Done != many {
		t.Fatalf("dry run: %+v", dry)
	}
	began := time.Now()
	part, progress := s.revokeAll(t, syscall.SIGINT)
	if !part.Interrupted || part.Revoked == 0 || part.Revoked != part.Done || part.Done == many {
		t.Fatalf("interrupted: %+v\n%s", part, progress)
	}
	rest, progress := s.revokeAll(t, nil)
	took := time.Since(began)
	if rest.Already != part.Revoked || rest.Revoked != many-part.Revoked || rest.Failed != 0 || rest.Interrupted {
		t.Fatalf("the rest: %+v, after %+v", rest, part)
	}
	if !strings.Contains(progress, "500 of 10000 targets: ") || !strings.Contains(progress, "10000 of 10000 targets: ") {
		t.Errorf("progress:\n%s", progress)
	}
	for end := time.Now().Add(2 * time.Second); s.inDelta(t) != many; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d are in the delta 2 s after the end", s.inDelta(t), many)
		}
	}
	time.Sleep(time.Second) // for a delta too many
	deltas := len(s.deltaNumbers(t)) - before
	if deltas > 8 {
		t.Errorf("%d deltas, want a handful", deltas)
	}
	t.Logf("%d certificates in %s, %d deltas", many, took.Round(10*time.Millisecond), deltas)
	if again, _ := s.revokeAll(t, nil); again.Already != many || again.Revoked != 0 || s.inDelta(t) != many {
		t.Errorf("again: %+v", again)
	}
}

// revokeAll runs the bulk command, and sends it the signal, if there is one, when it has begun to show its progress.
func (s *site) revokeAll(t *testing.T, signal os.Signal, args ...string) (out bulk, progress string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd, err := s.command(ctx, append([]string{"cert", "revoke", "--file", "leavers.csv", "--reason", "affiliationChanged", "--json"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	for buf := make([]byte, 4096); ; {
		n, err := stderr.Read(buf)
		said.Write(buf[:n])
		if signal != nil && n > 0 {
			if err := cmd.Process.Signal(signal); err != nil {
				t.Error(err)
			}
			signal = nil
		}
		if err != nil {
			break
		}
	}
	ended := cmd.Wait()
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		t.Fatalf("%v: %s\n%s", err, stdout.String(), said.String())
	}
	if (ended != nil) != out.Interrupted {
		t.Errorf("ended with %v, interrupted: %v\n%s", ended, out.Interrupted, said.String())
	}
	return out, said.String()
}

// inDelta is how many the published delta lists.
func (s *site) inDelta(t *testing.T) int {
	t.Helper()
	l, err := fetchCRL(t.Context(), s.crlURL("issuing-delta.crl"))
	if err != nil {
		t.Fatal(err)
	}
	return len(l.RevokedCertificateEntries)
}

// deltaNumbers are the deltas of the issuing CA that were published since the beginning, by the log.
func (s *site) deltaNumbers(t *testing.T) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(s.logPath())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "published a CRL") && strings.Contains(line, "ca=issuing") && strings.Contains(line, "kind=delta") {
			lines = append(lines, line)
		}
	}
	return lines
}
