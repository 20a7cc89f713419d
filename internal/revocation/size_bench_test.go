package revocation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
)

// many is how many certificates a large CA has revoked.
const many = 1_000_000

// largeLab has a registry that lists so many, in memory where there is a file system in memory: flushes of a disk are not measured.
func largeLab(b *testing.B, n int) *lab {
	b.Helper()
	dir := b.TempDir()
	if shm, err := os.MkdirTemp("/dev/shm", "postern-bench-"); err == nil {
		dir = shm
		b.Cleanup(func() { _ = os.RemoveAll(shm) })
	}
	l := newBareLab(b)
	store, err := bolt.Open(filepath.Join(dir, "registry.db"), bolt.Options{})
	l.must(err)
	b.Cleanup(func() { _ = store.Close() })
	l.open(store)
	l.dir = dir
	l.mergeBack(n)
	return l
}

var publisher = trust.Principal{Kind: "publisher", Name: "revocation"}

// mergeBack lists n more in the registry.
func (l *lab) mergeBack(n int) {
	l.t.Helper()
	for n > 0 {
		told := make([]registry.Told, min(n, 50_000))
		for i := range told {
			told[i] = registry.Told{Serial: randomSerial(), Reason: trust.CessationOfOperation, At: l.now().Add(-time.Hour)}
		}
		_, err := l.reg.MergeBack(l.t.Context(), publisher, "contoso", ca.IssuingCA, l.now().AddDate(2, 0, 0), told)
		l.must(err)
		n -= len(told)
	}
}

func randomSerial() trust.Serial {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], mrand.Uint64()>>2|1<<61)
	binary.BigEndian.PutUint64(raw[8:], mrand.Uint64())
	return trust.SerialOf(new(big.Int).SetBytes(raw[:]))
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func middle(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkLargeCRL is a CA with 1,000,000 revocations: a complete CRL, against x509.CreateRevocationList of the same entries; the memory that is kept for it;
// and the way of one more revocation to a signed delta, written and committed.
func BenchmarkLargeCRL(b *testing.B) {
	l := largeLab(b, many)
	before := heap()
	l.pub = l.publisher(l.dir)
	began := time.Now()
	l.must(l.pub.Prime(b.Context()))
	b.Logf("ready with %d entries after %.1f s, of which up to 1 waits for the next second", l.status().Base.Entries, time.Since(began).Seconds())
	loaded := heap() - before
	l.must(l.pub.RequestedBase(b.Context(), ca.IssuingCA))
	b.Logf("live heap of the ledger and the CRLs: %d MB, just after the start %d MB; the base is %.1f MB", (heap()-before)>>20, loaded>>20, float64(l.status().Base.Size)/1e6)
	b.ReportMetric(float64(heap()-before)/1e6, "live-MB")
	for b.Loop() {
		fullCRL(b, l)
		oneMore(b, l, "")
		l.mergeBack(10_000)
		l.must(l.pub.Step(b.Context(), ca.IssuingCA))
		oneMore(b, l, "-beside-10000")
	}
}

func fullCRL(b *testing.B, l *lab) {
	b.Helper()
	peer := newPeer(b, many)
	const rounds = 5
	var ours, theirs []time.Duration
	for range rounds {
		runtime.GC()
		began := time.Now()
		l.must(l.pub.DraftBase(b.Context(), ca.IssuingCA))
		ours = append(ours, time.Since(began))
		runtime.GC()
		began = time.Now()
		peer.sign(b)
		theirs = append(theirs, time.Since(began))
	}
	x := float64(middle(theirs)) / float64(middle(ours))
	b.Logf("complete CRL of %d entries, medians of %d: made, signed, read back, verified and compared in %s; x509.CreateRevocationList alone %s: %.1f times as long",
		l.status().Base.Entries, rounds, middle(ours).Round(time.Millisecond), middle(theirs).Round(time.Millisecond), x)
	b.ReportMetric(x, "x509/ours")
}

func oneMore(b *testing.B, l *lab, suffix string) {
	b.Helper()
	const rounds = 51
	var took []time.Duration
	for range rounds {
		began := time.Now()
		l.mergeBack(1)
		l.must(l.pub.Step(b.Context(), ca.IssuingCA))
		took = append(took, time.Since(began))
	}
	d := l.status().Delta
	b.Logf("one more revocation to a published delta of %d entries: median of %d %s, slowest %s", d.Entries, rounds, middle(took), took[rounds-1])
	b.ReportMetric(float64(middle(took))/1e6, "ms/revocation"+suffix)
}

// peer is what crypto/x509 makes a CRL of.
type peer struct {
	list *x509.RevocationList
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newPeer(b *testing.B, n int) *peer {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	p := &peer{key: key, cert: &x509.Certificate{Subject: pkix.Name{CommonName: "Contoso Issuing CA"}, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: make([]byte, 20)},
		list: &x509.RevocationList{Number: big.NewInt(now.Unix()), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}}
	for range n {
		p.list.RevokedCertificateEntries = append(p.list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: randomSerial().Int(), RevocationTime: now, ReasonCode: 5})
	}
	return p
}

func (p *peer) sign(b *testing.B) {
	b.Helper()
	if _, err := x509.CreateRevocationList(rand.Reader, p.list, p.cert, p.key); err != nil {
		b.Fatal(err)
	}
}
