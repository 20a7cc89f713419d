package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// garbage is how much may gather, in bytes, before it is collected. The runtime's own measure is as much again as is in use, which is a dozen megabytes for a
// server with few devices: forty enrolments, so that collecting takes a quarter of their processor time.
const garbage = 64 << 20

// collectLess keeps the garbage collector to that measure until ctx ends, but for servers that use more: they have the runtime's. An operator's GOGC goes before
// it, and GOMEMLIMIT counts with it.
func collectLess(ctx context.Context) {
	if _, set := os.LookupEnv("GOGC"); set {
		return
	}
	t := time.NewTicker(30 * time.Second)
	defer t.Stop()
	for {
		debug.SetGCPercent(gcPercent(inUse()))
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// gcPercent is what debug.SetGCPercent is told where so many bytes are in use.
func gcPercent(live uint64) int {
	const most = 1600 // for a server that has just begun and uses next to nothing
	if live <= garbage*100/most {
		return most
	}
	return int(max(100, garbage*100/live))
}

// inUse is how many bytes the last collection left.
func inUse() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return garbage // unknown to another runtime: its own measure
	}
	return sample[0].Value.Uint64()
}
