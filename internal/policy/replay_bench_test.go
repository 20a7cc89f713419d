package policy

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"

	"postern/internal/trust"
)

// phoneInput is what one of many phones sends: distinct facts for each n.
func phoneInput(n int) AccessInput {
	in := managedSample()
	name := fmt.Sprintf("user%d@contoso.com", n/3)
	in.Credential.User, in.Credential.Names, in.Credential.OID = name, map[string]bool{name: true}, ""
	in.Owner = OwnerFacts{Known: true, Mail: name, Names: map[string]bool{name: true}, Delegations: map[string]bool{}}
	in.Device.ID = fmt.Sprint("dev-", n/3)
	in.Certificate.Device, in.Certificate.Serial = in.Device.ID, fmt.Sprintf("%032x", n/3)
	in.Duplicate = DuplicateFacts{}
	in.Request.Command = []string{"sync", "ping", "foldersync"}[n%3]
	return in
}

// BenchmarkReplay decides recorded decisions of distinct facts again, beside the bare prepared query over inputs that are in memory as terms. Both use every
// processor; rounds are taken in turn, and the ratio is that of the medians.
func BenchmarkReplay(b *testing.B) {
	const rounds, total = 5, 60_000
	e := engineOf(b, Files{})
	terms, recorded := make([]*ast.Term, 3000), make([]Recorded, total)
	for i := range recorded {
		in := phoneInput(i)
		recorded[i] = Recorded{Entry: "access", Action: trust.Allow, Input: in.Record()}
		if i < len(terms) {
			terms[i] = in.value()
		}
	}
	var bare, replay []float64
	for b.Loop() {
		for range rounds {
			bare = append(bare, bareRate(b, e, terms, total))
			start := time.Now()
			r, err := e.Replay(b.Context(), sequence(recorded), ReplayOptions{})
			if err != nil || r.Unchanged != total || r.Evaluated != total {
				b.Fatalf("%+v, %v", r, err)
			}
			replay = append(replay, total/time.Since(start).Seconds())
		}
	}
	slices.Sort(bare)
	slices.Sort(replay)
	b.ReportMetric(bare[len(bare)/2], "bare/s")
	b.ReportMetric(replay[len(replay)/2], "replayed/s")
	b.ReportMetric(replay[len(replay)/2]/bare[len(bare)/2], "ratio")
}

// BenchmarkReplayMillion replays a million recorded decisions, of which two thirds repeat facts, and reports the most memory that was in use: of the heap, and
// of the whole process as the system counts it.
func BenchmarkReplayMillion(b *testing.B) {
	const total, distinct = 999_999, 333_333
	e := engineOf(b, Files{})
	for b.Loop() {
		var most, told atomic.Uint64
		all := func(yield func(Recorded, error) bool) {
			for i := range total {
				in := phoneInput(i % distinct)
				if !yield(Recorded{Entry: "access", Action: trust.Allow, User: in.Owner.Mail, Input: in.Record()}, nil) {
					return
				}
			}
		}
		start := time.Now()
		r, err := e.Replay(b.Context(), all, ReplayOptions{Progress: func(n int) {
			told.Add(1)
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			for was := most.Load(); m.HeapAlloc > was && !most.CompareAndSwap(was, m.HeapAlloc); was = most.Load() {
			}
		}})
		if err != nil || r.Unchanged != total || told.Load() < total/progressEvery {
			b.Fatalf("%+v, %v, progress %d times", r, err, told.Load())
		}
		if r.Evaluated != distinct {
			b.Errorf("%d evaluations of %d sets of facts", r.Evaluated, distinct)
		}
		b.ReportMetric(float64(most.Load())/1e6, "heap-MB")
		b.ReportMetric(highWater(b), "rss-MB")
		b.ReportMetric(float64(r.Evaluated), "evaluated")
		b.ReportMetric(total/time.Since(start).Seconds(), "decisions/s")
	}
}

// highWater is the most memory that the process has had, in MB.
func highWater(b *testing.B) float64 {
	b.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(raw), "VmHWM:")
	var kb float64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		b.Skip(err)
	}
	return kb / 1e3
}

func bareRate(b *testing.B, e *Engine, terms []*ast.Term, total int) float64 {
	b.Helper()
	start := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(total); n = next.Add(1) {
				rs, err := e.queries["access"].Eval(b.Context(), rego.EvalParsedInput(terms[n%int64(len(terms))].Value), rego.EvalMetrics(metrics.NoOp()))
				if err != nil || len(rs) != 1 {
					b.Error(rs, err)
				}
			}
		})
	}
	wg.Wait()
	return float64(total) / time.Since(start).Seconds()
}
