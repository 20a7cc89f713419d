package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
	"postern/test/scep"
)

// How large a company is.
const (
	manyDevices = 100_000
	certsEach   = 3
	manyRounds  = 15 // the difference is small beside what a shared machine does in a second
)

// BenchmarkScale compares a Postern that has 100,000 devices and 300,000 certificates with one that has none: how long it takes to be
// ready, how fast it enrols, and how long the full one takes for a page of a list.
func BenchmarkScale(b *testing.B) {
	empty, full := newSite(b, binary(b)), newSite(b, binary(b))
	var contestants []*contestant
	for _, s := range []*site{empty, full} {
		s.start(b)
		s.stop(b)
	}
	begin := time.Now()
	fill(b, full)
	b.Logf("filled in %.0f s", time.Since(begin).Seconds())
	info, err := os.Stat(filepath.Join(full.Dir, "var", "registry.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("registry of %d devices and %d certificates: %d MB", manyDevices, manyDevices*certsEach, info.Size()>>20)
	for _, s := range []*site{empty, full} {
		applicants := s.applicants(b, (manyRounds+1)*perRound)
		var ready []float64
		for i := range rounds {
			s.start(b)
			ready = append(ready, s.Ready.Seconds())
			if i < rounds-1 {
				s.stop(b)
			}
		}
		b.Cleanup(func() { s.stop(b) })
		name := "empty"
		if s == full {
			name = "full"
		}
		b.Logf("%s: ready after %.2f s (median of %.2f)", name, median(ready), ready)
		b.ReportMetric(median(ready), name+"-ready-s")
		if s == full {
			pages(b, s)
		}
		contestants = append(contestants, prepare(b, name, s.URL, s, applicants))
	}
	done := false
	for b.Loop() {
		if done {
			continue
		}
		contest(b, manyRounds, contestants...)
		done = true
	}
	ratio(b, "full/empty", contestants[1], contestants[0])
}

// pages walks through all devices as an administrator's program does, a page after the other, and reports how long the slowest page took.
func pages(b *testing.B, s *site) {
	b.Helper()
	const page = 500
	client := api.Local(filepath.Join(s.Dir, "var"))
	n, slowest, after := 0, time.Duration(0), ""
	for {
		var got []api.Device
		begin := time.Now()
		if err := client.Call(b.Context(), http.MethodGet, "/devices", url.Values{"limit": {strconv.Itoa(page)}, "after": {after}}, nil, &got); err != nil {
			b.Fatal(err)
		}
		slowest = max(slowest, time.Since(begin))
		if n += len(got); len(got) < page {
			break
		}
		after = string(got[page-1].ID)
	}
	if n < manyDevices {
		b.Fatalf("the list has %d devices", n)
	}
	b.Logf("list of %d devices, %d to a page: the slowest page took %.1f ms", n, page, slowest.Seconds()*1000)
	b.ReportMetric(slowest.Seconds()*1000, "slowest-page-ms")
}

// sample enrols one real device, whose certificate is the pattern for all others.
func sample(b *testing.B, s *site) (cert trust.Certificate) {
	b.Helper()
	applicant := s.applicants(b, 1)
	s.start(b)
	prepare(b, "sample", s.URL, s, applicant).round(b, 1)
	s.stop(b)
	s.opened(b, func(r *registry.Registry) {
		certs, err := r.Certificates(b.Context(), registry.CertificateFilter{})
		if err != nil || len(certs) != 1 {
			b.Fatalf("%d certificates: %v", len(certs), err)
		}
		if cert, err = r.Certificate(b.Context(), certs[0].Issuer, certs[0].Serial); err != nil {
			b.Fatal(err)
		}
	})
	return cert
}

// batch is a store whose transactions are all part of one: what is done by the rules one after the other is committed together. An error leaves its
// transaction half done, so it must be the end of the whole.
type batch struct {
	registry.Store
	w registry.Writer
}

func (s batch) Update(_ context.Context, fn func(registry.Writer) error) (registry.Revision, error) {
	return s.w.Revision(), fn(s.w)
}

func (s batch) View(_ context.Context, fn func(registry.Reader) error) error { return fn(s.w) }

// fill makes a large company by the registry's rules, with many devices to a commit: each is added, and enrols with a challenge as often as it has
// certificates, of which the last is good.
func fill(b *testing.B, s *site) {
	b.Helper()
	pattern, issued := sample(b, s), uint64(0)
	s.opened(b, func(r *registry.Registry) {
		const size = 2000
		for from := 0; from < manyDevices; from += size {
			if _, err := r.Store().Update(b.Context(), func(w registry.Writer) error {
				inside := registry.New(batch{r.Store(), w}, time.Now, slog.New(slog.DiscardHandler))
				for i := from; i < from+size; i++ {
					if err := person(b.Context(), inside, i, pattern, &issued); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
			// As if these had come a month ago.
			if _, err := r.DeleteExpired(b.Context(), time.Now().Add(30*24*time.Hour)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// door is who enrols by the registry's rules.
var door = trust.Principal{Kind: "scep", Name: "bench"}

// person adds the device of one person and enrols it.
func person(ctx context.Context, r *registry.Registry, n int, pattern trust.Certificate, issued *uint64) error {
	d, err := r.AddDevice(ctx, operator, registry.NewDevice{Device: trust.Device{Issuer: scep.Issuer, SerialNumber: fmt.Sprintf("SN%08d", n), Model: "iPhone15,4",
		EASDeviceID: fmt.Sprintf("%032X", n), OS: "ios", OSVersion: "26.1", Managed: true, Compliant: trust.Compliant, Source: "mdm"},
		Owner: trust.Owner{Mail: fmt.Sprintf("person%06d@%s", n, scep.Domain)}})
	if err != nil {
		return err
	}
	for range certsEach {
		secret, challenge, err := r.CreateChallenge(ctx, operator, d.ID, time.Hour)
		if err != nil {
			return err
		}
		*issued++
		var random [40]byte
		_, _ = rand.Read(random[:])
		c := pattern
		c.Serial, c.Device, c.Owner = trust.Serial(fmt.Sprintf("%016x%x", 1<<62|*issued, random[:8])), d.ID, d.Owner // the CA's serial numbers rise too
		c.Fingerprint, c.SKI = hex.EncodeToString(random[8:]), hex.EncodeToString(random[:20])
		c.Evidence.Challenge = challenge.ID
		if _, err := r.CommitEnrolment(ctx, door, registry.Enrolment{Challenge: secret, Certificate: c,
			Transaction: registry.Transaction{Issuer: scep.Issuer, ID: string(c.Serial), MessageType: "PKCSReq", Challenge: secret}}); err != nil {
			return err
		}
	}
	return nil
}
