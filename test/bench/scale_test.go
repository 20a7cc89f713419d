package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
	"postern/test/scep"
)

// How large a company is.
const (
	manyDevices = 100_000
	certsEach   = 3
)

// BenchmarkScale compares a Postern that has 100,000 devices and 300,000 certificates with one that has none: how long it takes to be ready, and how fast it enrols.
func BenchmarkScale(b *testing.B) {
	empty, full := newSite(b, binary(b)), newSite(b, binary(b))
	var contestants []*contestant
	for _, s := range []*site{empty, full} {
		s.start(b)
		s.stop(b)
	}
	fill(b, full)
	info, err := os.Stat(filepath.Join(full.Dir, "var", "registry.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("registry of %d devices and %d certificates: %d MB", manyDevices, manyDevices*certsEach, info.Size()>>20)
	for _, s := range []*site{empty, full} {
		applicants := s.applicants(b, (rounds+1)*perRound)
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
		contestants = append(contestants, prepare(b, name, s.URL, s, applicants))
	}
	done := false
	for b.Loop() {
		if done {
			continue
		}
		contest(b, contestants...)
		done = true
	}
	ratio(b, "full/empty", contestants[1], contestants[0])
}

// BenchmarkIndexLoad is the part of a start that grows with the registry, in this process, so that it can be profiled with -cpuprofile.
func BenchmarkIndexLoad(b *testing.B) {
	s := newSite(b, binary(b))
	s.start(b)
	s.stop(b)
	fill(b, s)
	log := slog.New(slog.DiscardHandler)
	store, err := bolt.Open(filepath.Join(s.Dir, "var", "registry.db"), bolt.Options{Log: log})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.NewIndex(context.Background(), store, time.Now, log); err != nil {
			b.Fatal(err)
		}
	}
}

// sample enrols one real device, whose records are the pattern for all others.
func sample(b *testing.B, s *site) (device trust.Device, owner trust.Owner, cert trust.Certificate) {
	b.Helper()
	applicant := s.applicants(b, 1)
	s.start(b)
	prepare(b, "sample", s.URL, s, applicant).round(b, 1)
	s.stop(b)
	s.opened(b, func(r *registry.Registry) {
		ctx := context.Background()
		certs, err := r.Certificates(ctx, registry.CertificateFilter{})
		if err != nil || len(certs) != 1 {
			b.Fatalf("%d certificates: %v", len(certs), err)
		}
		if cert, err = r.Certificate(ctx, certs[0].Issuer, certs[0].Serial); err != nil {
			b.Fatal(err)
		}
		if device, err = r.Device(ctx, cert.Device); err != nil {
			b.Fatal(err)
		}
		if owner, err = r.Owner(ctx, device.Owner); err != nil {
			b.Fatal(err)
		}
	})
	return device, owner, cert
}

// random makes sorted hexadecimal numbers of 16 bytes: a B+tree is filled fastest in order.
func random(n int) []string {
	all := make([]string, n)
	raw := make([]byte, 16)
	for i := range all {
		rand.Read(raw)
		raw[0] = raw[0]&0x3f | 0x40
		all[i] = hex.EncodeToString(raw)
	}
	slices.Sort(all)
	return all
}

// fill writes the records of a large company straight into the tables, in batches: by the rules it would take half an hour.
func fill(b *testing.B, s *site) {
	b.Helper()
	device, owner, cert := sample(b, s)
	ids, serials := random(manyDevices), random(manyDevices*certsEach)
	s.opened(b, func(r *registry.Registry) {
		const batch = 2000
		for from := 0; from < manyDevices; from += batch {
			_, err := r.Store().Update(context.Background(), func(w registry.Writer) error {
				put := func(t registry.Table, key string, v any) error {
					raw, err := json.Marshal(v)
					w.Put(t, key, raw)
					return err
				}
				for i := from; i < from+batch; i++ {
					d, o := device, owner
					d.ID, d.SerialNumber, d.State = trust.DeviceID("dev-"+ids[i]), fmt.Sprintf("SN%08d", i), trust.Active
					o.Mail = fmt.Sprintf("person%06d@%s", i, scep.Domain)
					d.Owner = o.Mail
					w.Put("meta", "hw/"+d.Issuer+"/sn/"+d.SerialNumber, []byte(d.ID))
					if err := put("devices", string(d.ID), d); err != nil {
						return err
					}
					if err := put("owners", o.Mail, o); err != nil {
						return err
					}
					for n := range certsEach {
						c := cert
						at := i*certsEach + n
						c.Serial, c.Device, c.Owner, c.Fingerprint = trust.Serial(serials[at]), d.ID, d.Owner, serials[at]+ids[i]
						if n < certsEach-1 {
							c.Status, c.Successor = trust.Superseded, trust.Serial(serials[at+1])
						}
						key := c.Issuer + "/" + string(c.Serial)
						if err := put("certificates", key, c); err != nil {
							return err
						}
						w.Put("by_device", string(d.ID)+"/"+key, nil)
						after := c
						after.DER = nil
						raw, err := json.Marshal(after)
						if err != nil {
							return err
						}
						seq := 1_000 + at
						if err := put("audit", fmt.Sprintf("%016x", seq), registry.AuditEntry{Seq: uint64(seq), At: c.ChangedAt, Action: registry.ActEnrol,
							Object: string(d.ID), Outcome: registry.Done, After: raw}); err != nil {
							return err
						}
					}
				}
				w.Put("meta", "audit_seq", []byte(strconv.Itoa(1_000+(from+batch)*certsEach)))
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
