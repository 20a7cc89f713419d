package revocation_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/registry/bolt"
	"postern/internal/revocation"
	"postern/internal/trust"
)

// victimDir is set for the process that TestKilled kills.
const victimDir = "POSTERN_TEST_VICTIM"

// labIn opens what an earlier process left in the directory.
func labIn(t *testing.T, dir string) *lab {
	t.Helper()
	l := &lab{t: t, dir: dir, config: func(*revocation.Config) {}, stop: func() {}}
	pass, err := ca.NewPassphrase("correct horse battery staple")
	l.must(err)
	keys := filepath.Join(dir, "keys")
	if _, err := os.Stat(keys); os.IsNotExist(err) {
		l.must(ca.Create(keys, catest.Spec(), pass, time.Now()))
	}
	l.issuer, err = ca.Open(keys, catest.Spec(), pass, l.now, slog.New(slog.DiscardHandler))
	l.must(err)
	t.Cleanup(func() { l.must(l.issuer.Close()) })
	store, err := bolt.Open(filepath.Join(dir, "registry.db"), bolt.Options{})
	l.must(err)
	t.Cleanup(func() { _ = store.Close() })
	l.open(store)
	l.device = l.newDevice()
	return l
}

// TestKilledVictim is the process that is killed: it revokes and says so, and tells the greatest number that it has served.
func TestKilledVictim(t *testing.T) {
	dir := os.Getenv(victimDir)
	if dir == "" {
		t.Skip("only run by TestKilled")
	}
	l := labIn(t, dir)
	l.start()
	for {
		s := l.record(time.Hour)
		if _, err := l.reg.Revoke(t.Context(), root, "contoso", s, trust.KeyCompromise, ""); err != nil {
			t.Fatal(err)
		}
		_, delta := l.fetch()
		fmt.Printf("revoked %s %d\n", s, delta.Number)
		time.Sleep(10 * time.Millisecond)
	}
}

// kill -9 at any moment: nothing acknowledged is missing, and the number never goes back.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[trust.Serial]bool{}
	var number uint64
	for range 4 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledVictim$")
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		var timer *time.Timer
		for lines.Scan() {
			var s string
			var n uint64
			if _, err := fmt.Sscanf(lines.Text(), "revoked %s %d", &s, &n); err != nil {
				continue
			}
			if n < number {
				t.Errorf("number %d after %d", n, number)
			}
			acknowledged[trust.Serial(s)], number = true, n
			if timer == nil {
				timer = time.AfterFunc(time.Duration(rand.IntN(900))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("victim: %v", err)
		}
	}
	l := labIn(t, dir)
	l.start()
	base, delta := l.fetch()
	got := combine(t, base, delta)
	for s := range acknowledged {
		if got[s] != 1 {
			t.Errorf("%s was acknowledged and is not listed", s)
		}
	}
	t.Logf("%d revocations acknowledged in 4 lives, last number %d, now %d", len(acknowledged), number, delta.Number)
	if delta.Number.Uint64() < number {
		t.Errorf("number %d after %d", delta.Number, number)
	}
	l.rising()
}
