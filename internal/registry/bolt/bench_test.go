package bolt_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
	"postern/internal/registry/registrytest"
)

// BenchmarkUpdateParallel compares durable commits with those of bbolt's own Batch, which waits up to 10 ms for company.
func BenchmarkUpdateParallel(b *testing.B) {
	value := make([]byte, 300)
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("store/writers=%d", writers), func(b *testing.B) {
			s := registrytest.Store(b)
			commits(b, writers, func(key string) error {
				_, err := s.Update(context.Background(), func(w registry.Writer) error {
					w.Put("devices", key, value)
					w.Touch(registry.KindDevice, key)
					return nil
				})
				return err
			})
		})
		b.Run(fmt.Sprintf("batch/writers=%d", writers), func(b *testing.B) {
			db, err := bbolt.Open(filepath.Join(b.TempDir(), "peer.db"), 0o600, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			name := []byte("devices")
			if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(name); return err }); err != nil {
				b.Fatal(err)
			}
			commits(b, writers, func(key string) error {
				return db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(name).Put([]byte(key), value) })
			})
		})
	}
}

// commits runs b.N updates on so many goroutines.
func commits(b *testing.B, writers int, update func(key string) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := update(fmt.Sprintf("%09d", i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(0, "ns/op")
}
