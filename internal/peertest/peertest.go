// Package peertest finds the programs of others that tests talk to.
package peertest

import (
	"os"
	"os/exec"
	"testing"
)

// Find returns the path of a program. Where it is missing the test is skipped with its name, or fails if POSTERN_REQUIRE_PEERS is 1, as it is in CI.
func Find(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("POSTERN_REQUIRE_PEERS") == "1" {
			t.Fatalf("%s is required and missing", name)
		}
		t.Skipf("%s is missing", name)
	}
	return path
}

// File is Find for a file that a package of others brings, such as a library of Java.
func File(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("POSTERN_REQUIRE_PEERS") == "1" {
			t.Fatalf("%s is required and missing", path)
		}
		t.Skipf("%s is missing", path)
	}
}
