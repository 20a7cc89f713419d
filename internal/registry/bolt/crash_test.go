package bolt_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
)

const crashEnv = "BOLT_CRASH_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		crashWriter(path)
	}
	os.Exit(m.Run())
}

// crashWriter commits from several goroutines until it is killed and prints each key once its commit is acknowledged.
func crashWriter(path string) {
	s, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var out sync.Mutex
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("%d-%d-%d", os.Getpid(), i, n)
				r, err := s.Update(context.Background(), func(w registry.Writer) error {
					w.Put("devices", key, []byte(strings.Repeat(key, 20)))
					w.Delete("devices", fmt.Sprintf("%d-%d-%d", os.Getpid(), i, n-1000))
					w.Touch(registry.KindDevice, key)
					return nil
				})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Println(key, uint64(r)) // one write, so that a line is there or not
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "registry.db")
	all := map[string]registry.Revision{}
	for round := range 3 {
		for key, r := range killedWriter(t, exe, path, 150*(round+1)) {
			all[key] = r
		}
		s, err := bolt.Open(path, bolt.Options{})
		if err != nil {
			t.Fatalf("open after kill: %v", err)
		}
		checkAcknowledged(t, s, all)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killedWriter runs a writer, kills it after so many acknowledged commits and returns all that it acknowledged.
func killedWriter(t *testing.T, exe, path string, commits int) map[string]registry.Revision {
	t.Helper()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), crashEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]registry.Revision{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var key string
		var r registry.Revision
		if n, _ := fmt.Sscan(lines.Text(), &key, &r); n != 2 {
			continue
		}
		acknowledged[key] = r
		if len(acknowledged) == commits {
			_ = cmd.Process.Kill() // and read on: what is in the pipe was acknowledged too
		}
	}
	_ = cmd.Wait()
	if len(acknowledged) < commits {
		t.Fatalf("the writer ended after %d commits", len(acknowledged))
	}
	return acknowledged
}

func checkAcknowledged(t *testing.T, s *bolt.Store, all map[string]registry.Revision) {
	t.Helper()
	touched, at := map[string]registry.Revision{}, registry.Revision(0)
	for {
		changes, err := s.Changes(context.Background(), at, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			touched[c.ID], at = c.Revision, c.Revision
		}
	}
	err := s.View(context.Background(), func(r registry.Reader) error {
		for key, revision := range all {
			if v, ok := r.Get("devices", key); !ok || string(v) != strings.Repeat(key, 20) {
				t.Errorf("acknowledged %q is missing", key)
			}
			if touched[key] != revision || r.Revision() < revision {
				t.Errorf("%q was acknowledged at %d, is in the history at %d, and the revision is %d", key, revision, touched[key], r.Revision())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
