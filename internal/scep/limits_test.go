package scep

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"postern/internal/trust"
)

// from sends a request as if from this address.
func (g *gate) from(address string, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.RemoteAddr = address
	g.door.ServeHTTP(w, r)
	return w
}

func caps(header ...string) *http.Request {
	r := httptest.NewRequest("GET", "/scep/contoso?operation=GetCACaps", nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// Each address has its limit: 429 before anything is read, and what a header claims about the address is not believed.
func TestAddressLimit(t *testing.T) {
	now := time.Now()
	g := newGate(t, func(c *Config) {
		c.Limits = Limits{Address: Rate{3, 1}, Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
		c.Now = func() time.Time { return now }
	})
	for i := range 5 {
		w := g.from("203.0.113.7:4000", caps("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i)))
		if want := map[bool]int{true: 200, false: 429}[i < 3]; w.Code != want || w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Errorf("request %d: %d %v", i, w.Code, w.Header())
		}
	}
	body := &meter{}
	r := httptest.NewRequest("POST", "/scep/contoso?operation=PKIOperation", body)
	if w := g.from("203.0.113.7:4001", r); w.Code != 429 || body.taken != 0 {
		t.Errorf("%d, %d bytes were read", w.Code, body.taken)
	}
	for address, want := range map[string]int{"203.0.113.8:1": 200, "198.51.100.9:1": 200, "127.0.0.1:1": 200, "[::1]:1": 200, "[2001:db8::1]:1": 200} {
		if w := g.from(address, caps()); w.Code != want {
			t.Errorf("%s: %d", address, w.Code)
		}
	}
	for i, want := range []int{200, 200, 429} { // one network of 64 bits has one limit
		if w := g.from(fmt.Sprintf("[2001:db8::%d]:1", i+2), caps()); w.Code != want {
			t.Errorf("2001:db8::%d: %d", i+2, w.Code)
		}
	}
	if now = now.Add(time.Second); g.from("203.0.113.7:4000", caps()).Code != 200 {
		t.Error("a second later: refused")
	}
}

// meter counts what is read of it.
type meter struct{ taken int }

func (m *meter) Read(p []byte) (int, error) { m.taken += len(p); return len(p), nil }

// A device that asks again and again has to wait; a repetition of what it was given does not count.
func TestDeviceLimit(t *testing.T) {
	g := newGate(t, func(c *Config) { c.Limits.Device = Rate{2, 0.001} })
	d := g.device()
	g.enrol(d, rsaKeys()[1])
	a := ask{challenge: g.challenge(d)}
	for range 3 {
		if got := g.send(a); got.cert == nil {
			t.Errorf("%d %s", got.code, got.body)
		}
	}
	if got := g.send(ask{challenge: g.challenge(d), id: "more"}); got.code != http.StatusTooManyRequests || len(g.refusals()) != 0 {
		t.Errorf("%d", got.code)
	}
	g.enrol(g.device(), rsaKeys()[2])
}

// However many addresses there are, memory is bounded, and those that are at rest are forgotten.
func TestBucketsAreBounded(t *testing.T) {
	s := newBuckets[int](Rate{2, 1})
	now := time.Now()
	for i := range maxBuckets + 100 {
		_, ok := s.take(i, now)
		if want := i < maxBuckets+2; ok != want {
			t.Fatalf("newcomer %d: %v", i-maxBuckets, ok)
		}
	}
	if len(s.all) != maxBuckets {
		t.Errorf("%d buckets", len(s.all))
	}
	if _, ok := s.take(maxBuckets+200, now.Add(2*time.Second)); !ok || len(s.all) != 1 {
		t.Errorf("%v, %d buckets", ok, len(s.all))
	}
}

// Work is bounded: those who wait too long, or come when many wait, are told to come back.
func TestSlots(t *testing.T) {
	s := newSlots(1)
	if !s.enter(t.Context()) {
		t.Fatal("refused")
	}
	turn := make(chan bool)
	go func() { turn <- s.enter(t.Context()) }()
	s.away(func() { // while the first waits for something else, the second has the slot
		if !<-turn {
			t.Error("the second was refused")
		}
		go s.leave()
	})
	s.waiting.Store(queuePerSlot)
	if s.enter(t.Context()) {
		t.Error("the queue is full, and it was let in")
	}
	s.waiting.Store(0)
	s.leave()
}

// slowKey pretends to have an RSA key of the largest size, with the largest exponent that Go knows. Its signatures are wrong, and as slow to verify as right ones.
type slowKey struct{ public *rsa.PublicKey }

func newSlowKey() slowKey {
	raw := make([]byte, maxRSABits/8)
	_, _ = rand.Read(raw)
	raw[0], raw[len(raw)-1] = raw[0]|0x80, raw[len(raw)-1]|1
	return slowKey{&rsa.PublicKey{N: new(big.Int).SetBytes(raw), E: 1<<31 - 1}}
}

func (k slowKey) Public() crypto.PublicKey { return k.public }

func (k slowKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return new(big.Int).Rsh(k.public.N, 1).FillBytes(make([]byte, maxRSABits/8)), nil
}

// certified is a certificate for a key that cannot sign its own.
func certified(t *testing.T, key crypto.Signer) party {
	t.Helper()
	p := testParties().ca
	template := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "slow"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, p.cert, key.Public(), p.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return party{key, cert}
}

// hostile are messages of the largest size that is looked at, made to cost as much as they can.
func hostile(t *testing.T, g *gate) map[string][]byte {
	pad := func(n int) asn1.RawValue {
		return asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: bytes.Repeat([]byte("x"), n)}
	}
	certs := func(m *message) {
		for len(m.extra) < 30 {
			m.extra = append(m.extra, g.issuer.RACertificate())
		}
	}
	names := make([]asn1.RawValue, maxNames)
	for i := range names {
		names[i] = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: fmt.Appendf(nil, "u%d@%s", i, strings.Repeat("a", 80))}
	}
	var subject pkix.Name
	for i := range maxNames {
		subject.ExtraNames = append(subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: fmt.Sprint("name ", i, strings.Repeat("b", 80))})
	}
	slow := newSlowKey()
	wide := bytes.Repeat([]byte{0x05, 0x00}, (MaxMessage-64)/2)
	return map[string][]byte{
		"deep": bytes.Repeat([]byte{0x30, 0x80}, MaxMessage/2), "wide": mustMarshal(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: wide}),
		"certificates": g.encode(ask{challenge: "x", change: certs}),
		"attributes": g.encode(ask{challenge: "x", change: func(m *message) {
			m.attrs = func(a []pkcs7.Attribute) []pkcs7.Attribute {
				for i := range 20 {
					a = append(a, pkcs7.Attribute{Type: asn1.ObjectIdentifier{1, 2, 3, i}, Value: pad(900)})
				}
				return a
			}
		}}),
		"names":           g.encode(ask{challenge: "x", subject: subject, attrs: []csrAttribute{namesAttr(t, oidExtensionRequest, names...)}}),
		"names of nobody": g.encode(ask{challenge: g.challenge(g.device()), subject: subject, attrs: []csrAttribute{namesAttr(t, oidExtensionRequest, names...)}}),
		"slow signer":     g.encode(ask{challenge: "x", signer: certified(t, slow)}),
		"slow CSR":        g.encode(ask{challenge: "x", key: slow, signer: selfSignedOnce(rsaKeys()[0])}),
		"envelope":        newMessage(PKCSReq, selfSignedOnce(rsaKeys()[0]), sealedTo(t, g, bytes.Repeat([]byte{0x30}, MaxMessage-4096))).encode(t),
	}
}

func sealedTo(t *testing.T, g *gate, content []byte) []byte {
	t.Helper()
	der, err := seal(content, g.issuer.RACertificate(), AES256)
	g.must(err)
	return der
}

// What one request may cost at most.
const (
	maxHostile      = 2 << 20   // bytes: its stack, and all that is allocated over its life; what is in use at one time is less
	maxHostileStack = 256 << 10 // bytes, of them
	maxHostileCPU   = 50 * time.Millisecond
)

// cost is what sending a request takes: bytes allocated, and processor time, of the whole process.
func cost(send func()) (allocated uint64, cpu time.Duration) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := processorTime()
	send()
	cpu = processorTime() - begin
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, cpu
}

// raced reports whether the race detector is on: it makes much of what is on the stack be allocated besides.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A hostile request costs less than 50 ms of processor time and 2 MB, stack included, whatever is in it, as POST and as GET. Processor time, not time: other
// programs do not make it longer. A stack that needs more than its part ends the whole test, as one without end would end the server.
func TestHostileRequests(t *testing.T) {
	g := newGate(t, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	defer debug.SetMaxStack(debug.SetMaxStack(maxHostileStack))
	stack := uint64(maxHostileStack)
	if raced() {
		stack = 0
	}
	for name, message := range hostile(t, g) {
		if len(message) > MaxMessage {
			t.Fatalf("%s: %d bytes", name, len(message))
		}
		for method, make := range map[string]func() *http.Request{
			"POST": func() *http.Request {
				return httptest.NewRequest("POST", "/scep/contoso?operation=PKIOperation", bytes.NewReader(message))
			},
			"GET": func() *http.Request {
				return httptest.NewRequest("GET", "/scep/contoso?operation=PKIOperation&message="+everyByte(base64.StdEncoding.EncodeToString(message)), nil)
			},
		} {
			g.from("203.0.113.7:1", make()) // warm up
			// The least memory and the median time of seven: what others do meanwhile is not the request's.
			used, times, w := ^uint64(0), []time.Duration{}, (*httptest.ResponseRecorder)(nil)
			for range 7 {
				r := make()
				allocated, cpu := cost(func() { w = g.from("203.0.113.7:1", r) })
				used, times = min(used, allocated+stack), append(times, cpu)
			}
			slices.Sort(times)
			spent := times[len(times)/2]
			t.Logf("%s by %s: %d kB of %d, %s, answer %d", name, method, used>>10, len(message)>>10, spent, w.Code)
			if used > maxHostile || spent > maxHostileCPU {
				t.Errorf("%s by %s: more than %d kB or %s", name, method, maxHostile>>10, maxHostileCPU)
			}
		}
	}
	if n := len(g.certificates()); n != 0 {
		t.Errorf("%d certificates", n)
	}
}

// What a validator does slowly keeps nobody else from being served.
func TestSlowValidatorHoldsNoSlot(t *testing.T) {
	slow := &service{name: "slow", wait: make(chan struct{})}
	g := newGate(t, func(c *Config) {
		c.Limits.Workers = 1
		c.Validators = map[string][]Validator{"contoso": {slow}}
	})
	a := ask{challenge: slow.challenge("SN1", "alice@contoso.com")}
	message := g.encode(a)
	done := make(chan answer)
	go func() { done <- g.post(message, a.party()) }()
	for deadline := time.Now().Add(10 * time.Second); len(g.certificates()) == 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if got := g.enrol(g.device(), rsaKeys()[1]); got.cert == nil {
		t.Error("not served")
	}
	close(slow.wait)
	if got := <-done; got.cert == nil || g.record(got.cert).Status != trust.Good {
		t.Errorf("%d %s", got.code, got.rep.failText)
	}
}
