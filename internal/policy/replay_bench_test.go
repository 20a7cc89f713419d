package policy

import (
	"fmt"
	"runtime"
	"slices"
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

// BenchmarkReplayMillion replays a million recorded decisions, of which two thirds repeat facts, and reports the most memory that was in use.
func BenchmarkReplayMillion(b *testing.B) {
	const total = 1_000_000
	e := engineOf(b, Files{})
	for b.Loop() {
		var most uint64
		all := func(yield func(Recorded, error) bool) {
			for i := range total {
				in := phoneInput(i % (total / 3))
				if !yield(Recorded{Entry: "access", Action: trust.Allow, User: in.Owner.Mail, Input: in.Record()}, nil) {
					return
				}
			}
		}
		o := ReplayOptions{Progress: func(int) {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}, Workers: 1}
		r, err := e.Replay(b.Context(), all, o)
		if err != nil || r.Unchanged != total {
			b.Fatalf("%+v, %v", r, err)
		}
		b.ReportMetric(float64(most)/1e6, "MB")
		b.ReportMetric(float64(r.Evaluated), "evaluated")
	}
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
