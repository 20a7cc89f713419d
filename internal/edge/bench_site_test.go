package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/internal/peertest"
	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
)

// The benchmarks of whole gates. The gate under test, the client and the upstream are processes of their own: this test binary, run again in a role that an
// environment variable names, and the programs of others. The gate has the first processor for itself, client and upstream share the second.

const (
	roleVariable = "POSTERN_BENCH_ROLE" // gate, client or upstream
	benchHost    = "mail.contoso.com"
	benchRounds  = 5
)

// TestMain plays a role, or runs the tests.
func TestMain(m *testing.M) {
	roles := map[string]func() error{"gate": playGate, "client": playClient, "upstream": playUpstream}
	if play, ok := roles[os.Getenv(roleVariable)]; ok {
		if err := play(); err != nil {
			fmt.Fprintln(os.Stderr, os.Getenv(roleVariable), err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// process is a program that was started for a benchmark.
type process struct {
	b     *testing.B
	cmd   *exec.Cmd
	in    *bufio.Writer
	out   *bufio.Scanner
	extra []*process // whose processor time counts too
	once  sync.Once
}

// start runs a program on one processor until the benchmark ends.
func start(b *testing.B, cpu int, env []string, name string, args ...string) *process {
	b.Helper()
	p := &process{b: b, cmd: exec.Command(peertest.Find(b, "taskset"), append([]string{"-c", strconv.Itoa(cpu), name}, args...)...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	in, err := p.cmd.StdinPipe()
	fatal(b, err)
	out, err := p.cmd.StdoutPipe()
	fatal(b, err)
	fatal(b, p.cmd.Start())
	p.in, p.out = bufio.NewWriter(in), bufio.NewScanner(out)
	b.Cleanup(p.stop)
	return p
}

// stop asks the process to end, so that one with children takes them along, and then makes it.
func (p *process) stop() {
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
		_ = p.cmd.Wait()
		late.Stop()
	})
}

// role runs this binary in a role. Its first line says that it is ready.
func role(b *testing.B, cpu int, name string, env ...string) (p *process, ready string) {
	b.Helper()
	self, err := os.Executable()
	fatal(b, err)
	p = start(b, cpu, append(env, roleVariable+"="+name), self)
	return p, p.line()
}

// line reads the next line that the process writes.
func (p *process) line() string {
	p.b.Helper()
	if !p.out.Scan() {
		p.b.Fatalf("%v ended", p.cmd.Args)
	}
	return p.out.Text()
}

// ask sends a line and reads the answer.
func (p *process) ask(line string) string {
	p.b.Helper()
	_, _ = p.in.WriteString(line + "\n")
	fatal(p.b, p.in.Flush())
	return p.line()
}

// pids are the process and its children, which taskset has become.
func (p *process) pids() []int {
	out := []int{p.cmd.Process.Pid}
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", out[0], out[0]))
	for _, f := range strings.Fields(string(raw)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// cpu is the processor time used so far, in clock ticks of ten milliseconds.
func (p *process) cpu() (total time.Duration) {
	for _, pid := range p.pids() {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		for _, at := range []int{11, 12} { // utime and stime
			n, _ := strconv.Atoi(fields[at])
			total += time.Duration(n) * 10 * time.Millisecond
		}
	}
	for _, x := range p.extra {
		total += x.cpu()
	}
	return total
}

// rss is the resident memory in bytes.
func (p *process) rss() (total int64) {
	for _, pid := range p.pids() {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if f := strings.Fields(string(raw)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			total += pages * int64(os.Getpagesize())
		}
	}
	return total
}

func fatal(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// site is what all roles share: a directory with the keys and the registry.
type site struct {
	dir string
}

// keyPair is a certificate and its key, as a file holds them.
type keyPair struct{ Cert, Key []byte }

func (k keyPair) tls() (tls.Certificate, error) {
	key, err := x509.ParsePKCS8PrivateKey(k.Key)
	return tls.Certificate{Certificate: [][]byte{k.Cert}, PrivateKey: key}, err
}

func certify(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (keyPair, *x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, nil, nil, err
	}
	serial := make([]byte, 16)
	_, _ = rand.Read(serial)
	serial[0] = serial[0]&0x3f | 0x40
	t := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if parent == nil {
		t.IsCA, t.BasicConstraintsValid, t.DNSNames, t.ExtKeyUsage = true, true, []string{benchHost}, nil
		t.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		parent, signer = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return keyPair{}, nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return keyPair{}, nil, nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	return keyPair{der, raw}, cert, key, err
}

// newSite makes a CA, phones with certificates, and a registry that knows them, and so many certificates more that are revoked.
func newSite(b *testing.B, phones, revoked int) *site {
	b.Helper()
	s := &site{dir: b.TempDir()}
	ca, caCert, caKey, err := certify("Contoso Issuing CA", nil, nil)
	fatal(b, err)
	server, _, _, err := certify(benchHost, nil, nil)
	fatal(b, err)
	s.write(b, "ca.json", ca)
	s.write(b, "server.json", server)
	for name, k := range map[string]keyPair{"ca": ca, "server": server} {
		fatal(b, os.WriteFile(filepath.Join(s.dir, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Cert}), 0o600))
		fatal(b, os.WriteFile(filepath.Join(s.dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k.Key}), 0o600))
	}
	pairs, certs := make([]keyPair, phones), make([]*x509.Certificate, phones)
	each(phones, func(i int) {
		pair, cert, _, err := certify(phoneUser(i), caCert, caKey)
		fatal(b, err)
		pairs[i], certs[i] = pair, cert
	})
	s.write(b, "phones.json", pairs)
	store, err := bolt.Open(filepath.Join(s.dir, "registry.db"), bolt.Options{})
	fatal(b, err)
	reg := registry.New(store, time.Now, discardLog)
	fatal(b, reg.PutCA(context.Background(), benchPrincipal, registry.CA{Issuer: "contoso", ID: "issuing", Domains: []string{"contoso.com"}, DER: ca.Cert}))
	each(phones, func(i int) { fatal(b, enrolPhone(reg, i, certs[i])) })
	if revoked > 0 {
		_, cert, _, err := certify(phoneUser(phones), caCert, caKey)
		fatal(b, err)
		fatal(b, enrolPhone(reg, phones, cert))
		s.writeCRL(b, caCert, caKey, multiply(b, reg, trust.SerialOf(cert.SerialNumber), revoked))
	}
	fatal(b, store.Close())
	return s
}

// each calls fn for 0 to n-1 on several goroutines.
func each(n int, fn func(i int)) {
	var wg sync.WaitGroup
	const workers = 64
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < n; i += workers {
				fn(i)
			}
		})
	}
	wg.Wait()
}

// enrolPhone adds a managed device with a certificate.
func enrolPhone(reg *registry.Registry, i int, cert *x509.Certificate) error {
	ctx, user := context.Background(), phoneUser(i)
	d, err := reg.AddDevice(ctx, benchPrincipal, registry.NewDevice{Owner: trust.Owner{Mail: user}, Device: trust.Device{Issuer: "contoso", SerialNumber: fmt.Sprint("SN", i), Model: "iPhone15,4",
		OS: "ios", EASDeviceID: fmt.Sprintf("PHONE%d", i), Managed: true, Source: "admin"}})
	if err != nil {
		return err
	}
	secret, challenge, err := reg.CreateChallenge(ctx, benchPrincipal, d.ID, 0)
	if err != nil {
		return err
	}
	sum, serial := sha256.Sum256(cert.Raw), trust.SerialOf(cert.SerialNumber)
	_, err = reg.CommitEnrolment(ctx, trust.Principal{Kind: "scep", Name: "contoso"}, registry.Enrolment{Challenge: secret,
		Transaction: registry.Transaction{Issuer: "contoso", ID: string(serial), MessageType: "19"},
		Certificate: trust.Certificate{Issuer: "contoso", CA: "issuing", Serial: serial, Device: d.ID, Owner: user, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
			Fingerprint: hex.EncodeToString(sum[:]), DER: cert.Raw, Evidence: trust.Evidence{Kind: "challenge", Challenge: challenge.ID}}})
	return err
}

// multiply revokes a certificate and writes n copies of its record under other serial numbers: by the rules it would take an hour.
func multiply(b *testing.B, reg *registry.Registry, serial trust.Serial, n int) []*big.Int {
	b.Helper()
	ctx := context.Background()
	_, err := reg.Revoke(ctx, benchPrincipal, "contoso", serial, trust.KeyCompromise, "")
	fatal(b, err)
	var record []byte
	fatal(b, reg.Store().View(ctx, func(r registry.Reader) error {
		raw, _ := r.Get("certificates", "contoso/"+string(serial))
		record = bytes.Clone(raw)
		return nil
	}))
	if !bytes.Contains(record, []byte(serial)) {
		b.Fatal("the record of a certificate does not have its serial number as text")
	}
	serials := make([]*big.Int, n)
	for i := range serials {
		raw := make([]byte, 16)
		_, _ = rand.Read(raw)
		raw[0] = raw[0]&0x3f | 0x40
		serials[i] = new(big.Int).SetBytes(raw)
	}
	slices.SortFunc(serials, (*big.Int).Cmp)
	for part := range slices.Chunk(serials, 10_000) {
		_, err := reg.Store().Update(ctx, func(w registry.Writer) error {
			for _, n := range part {
				to := trust.SerialOf(n)
				w.Put("certificates", "contoso/"+string(to), bytes.ReplaceAll(record, []byte(serial), []byte(to)))
			}
			return nil
		})
		fatal(b, err)
	}
	return serials
}

func phoneUser(i int) string { return fmt.Sprintf("user%d@contoso.com", i) }

func (s *site) write(b *testing.B, name string, v any) {
	b.Helper()
	raw, err := json.Marshal(v)
	fatal(b, err)
	fatal(b, os.WriteFile(filepath.Join(s.dir, name), raw, 0o600))
}

func readJSON(dir, name string, v any) error {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

func (s *site) writeCRL(b *testing.B, ca *x509.Certificate, key *ecdsa.PrivateKey, serials []*big.Int) {
	b.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour)}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now().Add(-time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca, key)
	fatal(b, err)
	fatal(b, os.WriteFile(filepath.Join(s.dir, "crl.pem"), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o600))
}

// middle is the median.
func middle(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
