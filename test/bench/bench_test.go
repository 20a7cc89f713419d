// Package bench measures whole programs: enrolments per second of the real postern beside step-ca, and Postern with a large registry beside one with an empty.
//
// Everything that is compared runs on the same machine and disk and in the same run, in turns, so that what else the machine does happens to all of them.
// Absolute numbers mean nothing elsewhere; the ratios of the medians do.
package bench

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/test/scep"
)

const (
	connections = 16
	rounds      = 5
	perRound    = 240 // enrolments; a second or less, so that five rounds of everything fit into a coffee break
)

// program is a server's process.
type program interface {
	CPU() time.Duration // processor time used
	Tail() string       // the end of its log
}

// contestant is a server with the messages that it will be sent.
type contestant struct {
	name     string
	program  program
	client   *scep.Client
	messages [][]byte
	later    atomic.Int64 // answers 503
	rates    []float64    // per round
	cost     []float64    // ms of the server's processor time for one enrolment, per round
}

// prepare makes one PKCSReq for each applicant, before anything is measured. The keys of clients are few, because making them is slow, and the server cannot tell.
func prepare(b *testing.B, name, url string, p program, applicants []scep.Applicant) *contestant {
	b.Helper()
	c := &contestant{name: name, program: p, client: scep.NewClient(url, connections), messages: make([][]byte, len(applicants))}
	b.Cleanup(c.client.Close)
	chain, err := c.client.Chain(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	to, err := scep.Recipient(chain)
	if err != nil {
		b.Fatal(err)
	}
	keys, certs := clientKeys(b)
	each(b, len(applicants), func(i int) error {
		a, key := applicants[i], keys[i%len(keys)]
		csr, err := scep.CSR{Key: key, CommonName: a.Mail, Challenges: []asn1.RawValue{scep.Challenge(a.Challenge)}}.Build()
		if err != nil {
			return err
		}
		c.messages[i], err = scep.NewMessage(scep.PKCSReq, to, certs[i%len(certs)], key, csr).Build()
		return err
	})
	return c
}

func clientKeys(b *testing.B) (keys []*rsa.PrivateKey, certs []*x509.Certificate) {
	b.Helper()
	for range 16 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			b.Fatal(err)
		}
		cert, err := scep.SelfSigned(key, scep.CSR{CommonName: "client"}.Subject(), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
		if err != nil {
			b.Fatal(err)
		}
		keys, certs = append(keys, key), append(certs, cert)
	}
	return keys, certs
}

// each calls fn for 0 to n-1 on as many goroutines as there are connections.
func each(b *testing.B, n int, fn func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range connections {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := fn(i); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
}

// round sends the next messages over all connections, and counts only what was granted.
func (c *contestant) round(b *testing.B, n int) float64 {
	b.Helper()
	batch := c.messages[:n]
	c.messages = c.messages[n:]
	replies := make([][]byte, n)
	spent, begin := c.program.CPU(), time.Now()
	each(b, n, func(i int) (err error) {
		replies[i], err = c.post(batch[i])
		return err
	})
	took := time.Since(begin)
	c.cost = append(c.cost, (c.program.CPU()-spent).Seconds()*1000/float64(n))
	for _, der := range replies {
		r, err := scep.ReadReply(der, nil, nil)
		if err == nil && r.Status != scep.Success {
			err = errors.New(r.String() + ": " + r.FailInfoText)
		}
		if err != nil {
			b.Fatalf("%s: %v", c.name, err)
		}
	}
	return float64(n) / took.Seconds()
}

// post sends one message until it is answered. A server that says "later" is asked again at once, as no client would; each time is counted.
func (c *contestant) post(message []byte) ([]byte, error) {
	for range 20 {
		r, err := c.client.Post(context.Background(), message)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", c.name, err)
		case r.Status == http.StatusOK:
			return r.Body, nil
		case r.Status != http.StatusServiceUnavailable:
			return nil, fmt.Errorf("%s: HTTP %d: %.200s\n%s", c.name, r.Status, r.Body, c.program.Tail())
		}
		c.later.Add(1)
	}
	return nil, fmt.Errorf("%s: HTTP 503 twenty times\n%s", c.name, c.program.Tail())
}

// contest lets all of them take so many turns, after one that does not count.
func contest(b *testing.B, rounds int, all ...*contestant) {
	b.Helper()
	for _, c := range all {
		c.round(b, perRound)
	}
	for range rounds {
		for _, c := range all {
			c.rates = append(c.rates, c.round(b, perRound))
		}
	}
	for _, c := range all {
		b.Logf("%-34s %s enrolments/s, median %.0f; %.2f ms of processor time each; %d times 503", c.name, rates(c.rates), median(c.rates), median(c.cost), c.later.Load())
	}
}

// ratio reports the ratio of the medians of two contestants under a name.
func ratio(b *testing.B, name string, of, to *contestant) {
	b.Helper()
	r := median(of.rates) / median(to.rates)
	b.Logf("%s / %s = %.2f", of.name, to.name, r)
	b.ReportMetric(r, name)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func rates(v []float64) string {
	s := ""
	for _, r := range v {
		s += fmt.Sprintf("%5.0f", r)
	}
	return s
}

// binary is the postern that POSTERN_BINARY names, or a fresh build.
func binary(b *testing.B) string {
	b.Helper()
	if named := os.Getenv("POSTERN_BINARY"); named != "" {
		path, err := filepath.Abs(named)
		if err != nil {
			b.Fatal(err)
		}
		return path
	}
	return build(b, "nobadger,nomysql,nopgx", "CGO_ENABLED=0")
}

// openSSLBinary is a fresh build whose RSA is OpenSSL's, or none where there is no C compiler.
func openSSLBinary(b *testing.B) string {
	b.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		b.Log("no C compiler, and so no postern with OpenSSL")
		return ""
	}
	return build(b, "nobadger,nomysql,nopgx,openssl", "CGO_ENABLED=1")
}

func build(b *testing.B, tags, cgo string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "postern")
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "./cmd/postern")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build postern: %v\n%s", err, out)
	}
	return path
}

// dir is a directory with a short name, on the disk of the other contestants: an admin socket may have a path of a hundred bytes.
func dir(b *testing.B) string {
	b.Helper()
	d, err := os.MkdirTemp(os.Getenv("POSTERN_BENCH_DIR"), "b")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(d) })
	return d
}

// stepCA starts the peer, or skips.
func stepCA(b *testing.B, o scep.StepCAOptions) *scep.StepCA {
	b.Helper()
	if o.Binary = os.Getenv("STEP_CA"); o.Binary == "" {
		var err error
		if o.Binary, err = exec.LookPath("step-ca"); err != nil {
			b.Skip("no step-ca: go install github.com/smallstep/certificates/cmd/step-ca@v0.30.2, or name it with STEP_CA")
		}
	}
	s, err := scep.NewStepCA(dir(b), o)
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Stop(); err != nil {
			b.Error(err)
		}
	})
	return s
}
