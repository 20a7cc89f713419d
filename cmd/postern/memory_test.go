package main

import (
	"runtime"
	"testing"
)

// A small server may waste 64 MiB, a large one as much as it uses; nothing in use is no division by zero.
func TestGCPercent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 1600}, {4 << 20, 1600}, {8 << 20, 800}, {16 << 20, 400}, {64 << 20, 100}, {1 << 30, 100}} {
		if got := gcPercent(c.live); got != c.want {
			t.Errorf("%d bytes in use: %d", c.live, got)
		}
	}
	runtime.GC()
	if n := inUse(); n == 0 || n >= garbage {
		t.Errorf("a test uses %d bytes", n)
	}
}
