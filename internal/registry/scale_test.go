package registry_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
)

// A company: so many devices, each with one good certificate and two that it had before.
const (
	manyDevices = 100_000
	perDevice   = 3
	rounds      = 7
)

// ground is a registry for benchmarks.
type ground struct {
	*testing.B
	path  string
	store registry.Store
	reg   *registry.Registry
	last  atomic.Uint64
}

func newGround(b *testing.B, devices int) *ground {
	b.Helper()
	g := &ground{B: b, path: filepath.Join(b.TempDir(), "registry.db")}
	g.open()
	b.Cleanup(func() { _ = g.store.Close() })
	for _, id := range []string{"root", "issuing"} {
		g.must(g.reg.PutCA(b.Context(), system, registry.CA{Issuer: "contoso", ID: id, Domains: []string{"contoso.com"}, DER: []byte(id)}))
	}
	_, err := g.reg.Fill(b.Context(), devices, perDevice)
	g.must(err)
	return g
}

func (g *ground) open() {
	store, err := bolt.Open(g.path, bolt.Options{})
	g.must(err)
	g.store, g.reg = store, registry.New(store, time.Now, slog.New(slog.DiscardHandler))
}

func (g *ground) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkIndexLoad measures what a start takes: opening the file and reading the index.
func BenchmarkIndexLoad(b *testing.B) {
	g := newGround(b, manyDevices)
	var open, load []time.Duration
	var before, after runtime.MemStats
	for range rounds {
		g.must(g.store.Close())
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := time.Now()
		g.open()
		open = append(open, time.Since(start))
		start = time.Now()
		x, err := registry.NewIndex(b.Context(), g.store, time.Now, slog.New(slog.DiscardHandler))
		g.must(err)
		load = append(load, time.Since(start))
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(x)
	}
	b.ReportMetric(float64(median(open).Milliseconds()), "open-ms")
	b.ReportMetric(float64(median(load).Milliseconds()), "load-ms")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MB")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkEnrolAtScale compares enrolments in a full registry with those in an empty one, in turns, by 16 clients at once: the commits alone, and with the two
// operations on private keys that the least of enrolments needs beside them, one of RSA to open the request and one on P-256 to sign the certificate.
func BenchmarkEnrolAtScale(b *testing.B) {
	const batch = 2000
	decryption, err := rsa.GenerateKey(nil, 2048)
	if err != nil {
		b.Fatal(err)
	}
	signing, err := ecdsa.GenerateKey(elliptic.P256(), nil)
	if err != nil {
		b.Fatal(err)
	}
	digest := make([]byte, 32)
	keys := func() error {
		_, err := rsa.SignPKCS1v15(nil, decryption, crypto.SHA256, digest) // the same work as to decrypt
		_, err2 := ecdsa.SignASN1(nil, signing, digest)
		return errors.Join(err, err2)
	}
	full := newGround(b, manyDevices)
	for name, work := range map[string]func() error{"commit": func() error { return nil }, "enrolment": keys} {
		b.Run(name, func(b *testing.B) {
			var empty, filled []time.Duration
			for range rounds {
				fresh := newGround(b, 0)
				empty = append(empty, fresh.enrol(batch, work))
				filled = append(filled, full.enrol(batch, work))
				fresh.must(fresh.store.Close())
			}
			e, f := median(empty), median(filled)
			b.ReportMetric(batch/e.Seconds(), "empty/s")
			b.ReportMetric(batch/f.Seconds(), "full/s")
			b.ReportMetric(e.Seconds()/f.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// enrol adds so many devices and measures how long their enrolments take, each with that work before it.
func (g *ground) enrol(n int, work func() error) time.Duration {
	g.Helper()
	devices, err := g.reg.Fill(context.Background(), n, 0)
	g.must(err)
	orders := make([]registry.Enrolment, n)
	g.each(n, func(i int) {
		secret, c, err := g.reg.CreateChallenge(g.Context(), officer, devices[i].ID, 0)
		if err != nil {
			g.Error(err)
			return
		}
		serial := fmt.Sprintf("%08x%016x%08x", time.Now().Unix(), rand.Uint64(), g.last.Add(1)) // as the CA makes them
		orders[i] = registry.Enrolment{Challenge: secret, Transaction: registry.Transaction{Issuer: "contoso", ID: serial, MessageType: "PKCSReq", Challenge: secret},
			Certificate: trust.Certificate{Issuer: "contoso", CA: "issuing", Serial: trust.Serial(serial), Device: c.Device, Owner: c.Owner, Subject: "CN=" + c.Owner,
				NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0), Fingerprint: serial + serial, Evidence: trust.Evidence{Kind: "challenge", Challenge: c.ID},
				DER: make([]byte, 1100)}}
	})
	start := time.Now()
	g.each(n, func(i int) {
		err := work()
		if err == nil {
			_, err = g.reg.CommitEnrolment(g.Context(), scepDoor, orders[i])
		}
		if err != nil {
			g.Error(err)
		}
	})
	return time.Since(start)
}

// each calls fn for 0 to n-1 from 16 goroutines.
func (g *ground) each(n int, fn func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				fn(int(i))
			}
		})
	}
	wg.Wait()
}
