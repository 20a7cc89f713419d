package scep

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// service is a validation service: its challenges say who they are for, under a key of its own, and it keeps a list of what it was told.
type service struct {
	name string
	mu   sync.Mutex
	down error // Validate fails
	deaf error // Issued fails
	told []string
	asks int
	wait chan struct{} // Issued waits for it
}

func (s *service) challenge(serial, mail string) string {
	m := hmac.New(sha256.New, []byte(s.name))
	fmt.Fprint(m, serial, mail)
	return strings.Join([]string{s.name, serial, mail, hex.EncodeToString(m.Sum(nil)[:8])}, ":")
}

func (s *service) Name() string { return s.name }

func (s *service) ApprovesNames() bool { return s.name == "first" }

type refusal struct{ info string }

func (r refusal) Error() string    { return "refused" }
func (r refusal) Unwrap() error    { return trust.ErrForbidden }
func (r refusal) FailInfo() string { return r.info }

func (s *service) Validate(_ context.Context, sub trust.Submission) (trust.Applicant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks++
	p := strings.Split(sub.Challenge, ":")
	if len(p) != 4 || p[0] != s.name {
		return trust.Applicant{}, trust.ErrNotFound
	}
	if s.down != nil {
		return trust.Applicant{}, s.down
	}
	if _, err := x509.ParseCertificateRequest(sub.CSR); err != nil || s.challenge(p[1], p[2]) != sub.Challenge {
		return trust.Applicant{}, refusal{"badMessageCheck"}
	}
	return trust.Applicant{SerialNumber: p[1], Mail: p[2], Model: "iPhone15,4", OS: "iOS", Source: s.name}, nil
}

func (s *service) Issued(ctx context.Context, sub trust.Submission, c trust.Certificate) error {
	s.mu.Lock()
	wait, deaf := s.wait, s.deaf
	s.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if _, err := x509.ParseCertificate(c.DER); err != nil || sub.TransactionID == "" || len(sub.CSR) == 0 || sub.Challenge == "leaked" {
		return fmt.Errorf("malformed notification: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if deaf == nil {
		s.told = append(s.told, "issued "+string(c.Serial))
	}
	return deaf
}

func (s *service) Refused(_ context.Context, sub trust.Submission, code int32, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, fmt.Sprintf("refused %s %x %s", sub.TransactionID, uint32(code), text))
	return nil
}

func (s *service) heard() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.told...)
}

func (s *service) set(deaf error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = deaf
}

// validating is a door with two validators.
func validating(t *testing.T) (g *gate, first, second *service) {
	t.Helper()
	first, second = &service{name: "first"}, &service{name: "second"}
	g = newGate(t, func(c *Config) { c.Validators = map[string][]Validator{"contoso": {first, second}} })
	return g, first, second
}

// A device that a validator vouches for is added, certified, and the validator told before the phone.
func TestValidated(t *testing.T) {
	g, first, second := validating(t)
	a := ask{challenge: second.challenge("SN1", "alice@contoso.com")}
	got := g.send(a)
	if got.cert == nil {
		t.Fatalf("%s %s", got.rep.failInfo, got.rep.failText)
	}
	rec := g.record(got.cert)
	d, err := g.reg.Device(t.Context(), rec.Device)
	g.must(err)
	if rec.Evidence.Kind != "validated" || rec.Evidence.Validator != "second" || rec.Owner != "alice@contoso.com" || d.SerialNumber != "SN1" || d.Source != "second" || !d.Managed {
		t.Errorf("%+v\n%+v", rec, d)
	}
	if again := g.send(a); again.cert == nil || !again.cert.Equal(got.cert) {
		t.Error("the retry got another answer")
	}
	if told := second.heard(); len(told) != 1 || told[0] != "issued "+string(rec.Serial) || len(first.heard()) != 0 || first.asks != 1 {
		t.Errorf("told %q", told)
	}
	// The same hardware once more is the same device; our own challenges go on working, and no validator is asked about them.
	more := g.send(ask{challenge: first.challenge("SN1", "alice@contoso.com"), id: "tx2", key: rsaKeys()[1]})
	if more.cert == nil || g.record(more.cert).Device != d.ID {
		t.Errorf("%s %s", more.rep.failInfo, more.rep.failText)
	}
	asks := first.asks
	if own := g.send(ask{challenge: g.challenge(d), id: "tx3", key: rsaKeys()[1]}); own.cert == nil || first.asks != asks {
		t.Errorf("%s %s, asked %d times", own.rep.failInfo, own.rep.failText, first.asks-asks)
	}
}

// An issuer that takes no one-time challenges has to have a validator, which is asked about all; renewals go on.
func TestNoChallenges(t *testing.T) {
	only := &service{name: "first"}
	off := map[string]bool{"contoso": true}
	g := newGate(t, func(c *Config) { c.NoChallenges, c.Validators = off, map[string][]Validator{"contoso": {only}} })
	d := g.device()
	g.wantRefused(BadRequest, func() answer { return g.send(ask{challenge: g.challenge(d)}) })
	got := g.send(ask{challenge: only.challenge(d.SerialNumber, d.Owner), id: "validated", key: rsaKeys()[1]})
	if got.cert == nil || g.record(got.cert).Device != d.ID || only.asks != 2 {
		t.Fatalf("%s %s, asked %d times", got.rep.failInfo, got.rep.failText, only.asks)
	}
	if renewed := g.send(ask{kind: RenewalReq, signer: party{rsaKeys()[1], got.cert}, key: rsaKeys()[2], id: "renewed"}); renewed.cert == nil {
		t.Errorf("renewal: %s %s", renewed.rep.failInfo, renewed.rep.failText)
	}
	cfg := g.door.cfg
	cfg.Validators = nil
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "nobody could enrol") {
		t.Errorf("an issuer with no way to authorise: %v", err)
	}
	cfg.NoChallenges = map[string]bool{"fabrikam": true}
	if _, err := New(cfg); err != nil {
		t.Error(err)
	}
}

// Who is refused, by whom, and what the validator hears of it.
func TestValidatedRefused(t *testing.T) {
	g, first, _ := validating(t)
	g.wantRefused(BadMessageCheck, func() answer { return g.send(ask{challenge: "first:SN1:alice@contoso.com:00"}) })
	g.wantRefused(BadRequest, func() answer { return g.send(ask{challenge: "third:SN1:alice@contoso.com:00"}) })
	if n := len(first.heard()); n != 0 {
		t.Errorf("told of %d refusals of its own", n)
	}
	bob := g.deviceOf("contoso", "bob@contoso.com")
	for name, a := range map[string]ask{
		"foreign domain": {challenge: first.challenge("SN2", "alice@fabrikam.com")},
		"bob's device":   {challenge: first.challenge(bob.SerialNumber, "alice@contoso.com")},
	} {
		a.id = name
		before := len(first.heard())
		g.wantRefused(BadRequest, func() answer { return g.send(a) })
		if told := first.heard(); len(told) != before+1 || !strings.HasPrefix(told[before], "refused "+name+" a5050102 ") {
			t.Errorf("%s: told %q", name, told)
		}
	}
	if d, err := g.reg.Device(t.Context(), bob.ID); err != nil || d.Owner != "bob@contoso.com" {
		t.Errorf("%+v, %v", d, err)
	}
	g.teamPolicy("deny contains \"closed\" if input.kind == \"enrol\"")
	g.wantRefused(BadRequest, func() answer {
		return g.send(ask{challenge: first.challenge("SN3", "alice@contoso.com"), id: "denied"})
	})
	if told := first.heard(); !strings.Contains(told[len(told)-1], "denied a5050102 refused by policy: closed") {
		t.Errorf("told %q", told)
	}
}

// A validator that does not answer is a fault: nothing is issued, nothing refused, and the next one is not asked instead.
func TestValidatorDown(t *testing.T) {
	g, first, second := validating(t)
	first.down = errors.New("connection refused")
	a := ask{challenge: first.challenge("SN1", "alice@contoso.com")}
	if got := g.send(a); got.code != 503 || len(g.certificates()) != 0 || len(g.refusals()) != 0 || second.asks != 0 {
		t.Errorf("%d %s", got.code, got.body)
	}
	first.down = nil
	if got := g.send(a); got.cert == nil {
		t.Errorf("%s %s", got.rep.failInfo, got.rep.failText)
	}
}

// busy is a fault of a validator that asks for a pause.
type busy time.Duration

func (busy) Error() string               { return "too many requests" }
func (b busy) RetryAfter() time.Duration { return time.Duration(b) }

// The pause that a validator asks for is asked of the client, who provokes the next request to it.
func TestValidatorBusy(t *testing.T) {
	g, first, _ := validating(t)
	for pause, want := range map[time.Duration]string{0: "61", 5 * time.Second: "61", 10 * time.Minute: "601"} {
		first.down = fmt.Errorf("ask: %w", busy(pause))
		r, err := http.Post(g.url(), "application/x-pki-message", bytes.NewReader(g.encode(ask{challenge: first.challenge("SN1", "alice@contoso.com")})))
		g.must(err)
		r.Body.Close()
		if got := r.Header.Get("Retry-After"); r.StatusCode != 503 || got != want {
			t.Errorf("a pause of %s: %d, Retry-After %q, want %q", pause, r.StatusCode, got, want)
		}
	}
}

// A failed success notification means no certificate: it is revoked, its predecessor is good again, and a repetition gets a new one.
func TestNotificationFails(t *testing.T) {
	g, first, _ := validating(t)
	old := g.send(ask{challenge: first.challenge("SN1", "alice@contoso.com")})
	for _, c := range []struct {
		deaf error
		code int
	}{{errors.New("timeout"), 503}, {refusal{"badRequest"}, 200}} {
		first.set(c.deaf)
		a := ask{challenge: first.challenge("SN1", "alice@contoso.com"), key: rsaKeys()[1], id: c.deaf.Error()}
		before := len(g.certificates())
		for range 2 {
			if got := g.send(a); got.cert != nil || got.code != c.code {
				t.Errorf("%d %s", got.code, got.body)
			}
		}
		all := g.certificates()
		for _, rec := range all {
			if first := rec.Serial == trust.SerialOf(old.cert.SerialNumber); first && (rec.Status != trust.Good || rec.Successor != "") {
				t.Errorf("the predecessor: %+v", rec)
			} else if !first && (rec.Status != trust.Revoked || rec.Reason != trust.CessationOfOperation) {
				t.Errorf("untold: %+v", rec)
			}
		}
		if len(all) != before+2 {
			t.Errorf("%d certificates", len(all)-before)
		}
	}
	first.set(nil)
	got := g.send(ask{challenge: first.challenge("SN1", "alice@contoso.com"), key: rsaKeys()[1], id: "timeout"})
	if got.cert == nil || g.record(got.cert).Status != trust.Good || g.record(old.cert).Status != trust.Superseded {
		t.Errorf("%d %s %s", got.code, got.rep.failInfo, got.rep.failText)
	}
}

// Sixteen repetitions at once, while the validator is slow: one certificate, and nobody has it before the validator.
func TestConcurrentValidated(t *testing.T) {
	g, first, _ := validating(t)
	first.wait = make(chan struct{})
	a := ask{challenge: first.challenge("SN1", "alice@contoso.com")}
	message := g.encode(a)
	var wg sync.WaitGroup
	answers := make(chan answer, 16)
	for range 16 {
		wg.Go(func() { answers <- g.post(message, a.party()) })
	}
	for deadline := time.Now().Add(10 * time.Second); len(g.certificates()) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no certificate")
		}
	}
	if len(answers) != 0 {
		t.Error("somebody has an answer before the validator was told")
	}
	untold := g.certificates()[0].Serial
	if got := g.about(GetCert, ask{signer: g.enrol(g.device(), rsaKeys()[2])}, []any{rawValue(g.issuer.Chain()[0].RawSubject), untold.Int()}); got.cert != nil {
		t.Error("GetCert gave it away")
	}
	close(first.wait)
	wg.Wait()
	close(answers)
	for got := range answers {
		if got.cert == nil || g.record(got.cert).Evidence.Kind != "validated" {
			t.Errorf("%d %s %s", got.code, got.rep.failInfo, got.rep.failText)
		}
	}
	if n := len(g.certificates()); n != 2 {
		t.Errorf("%d certificates", n-1)
	}
}

// The process dies between commit and notification: the repetition tells the validator first, and what nobody comes back for is settled by itself.
func TestNotificationAfterCrash(t *testing.T) {
	g, first, _ := validating(t)
	commit := func(serial string) trust.Certificate {
		d, o, err := g.reg.EnsureDevice(t.Context(), trust.Principal{Kind: "mdm", Name: "first"}, trust.Applicant{SerialNumber: serial, Mail: "alice@contoso.com", Source: "first"}, "contoso")
		g.must(err)
		a := ask{challenge: first.challenge(serial, "alice@contoso.com"), id: serial}
		req, err := ParseRequest(g.encode(a))
		g.must(err)
		g.must(req.Open(g.issuer.RACertificate(), g.issuer.RAKey(), false))
		who := applicant{device: d, owner: o, validator: first, evidence: trust.Evidence{Kind: "validated", Validator: "first"},
			submission: trust.Submission{Issuer: "contoso", TransactionID: serial, CSR: req.CSR.Raw, Challenge: "leaked"}}
		issued, err := g.door.sign(t.Context(), g.door.issuers["contoso"], req, who, "device")
		g.must(err)
		tx := registry.Transaction{Issuer: "contoso", ID: serial, MessageType: "PKCSReq", Signer: sha256.Sum256(req.Signer.Raw), CSR: sha256.Sum256(req.CSR.Raw), Challenge: string(req.Challenge)}
		c, err := g.reg.CommitValidated(t.Context(), trust.Principal{Kind: "scep", Name: "contoso"}, registry.Enrolment{Transaction: tx, Certificate: issued.Record}, *who.owed())
		g.must(err)
		return c
	}
	c := commit("SN1")
	if got := g.send(ask{challenge: first.challenge("SN1", "alice@contoso.com"), id: "SN1"}); got.cert == nil || g.record(got.cert).Serial != c.Serial || len(first.heard()) != 1 {
		t.Errorf("%d %s, told %q", got.code, got.body[:min(60, len(got.body))], first.heard())
	}
	told, untold := commit("SN2"), trust.Certificate{}
	g.pass(tellAfter + time.Second)
	g.must(g.door.tidy(t.Context()))
	if h := first.heard(); len(h) != 2 || h[1] != "issued "+string(told.Serial) {
		t.Errorf("told %q", h)
	}
	untold = commit("SN3")
	g.pass(withdrawAfter + time.Second)
	g.must(g.door.tidy(t.Context()))
	if rec, err := g.reg.Certificate(t.Context(), "contoso", untold.Serial); err != nil || rec.Status != trust.Revoked || len(first.heard()) != 2 {
		t.Errorf("%+v, %v", rec, err)
	}
}

// A validated request can wait too; the validator hears of the certificate when it is issued, and of a rejection.
func TestValidatedPending(t *testing.T) {
	g, first, _ := validating(t)
	e, err := approval()
	g.must(err)
	g.policy.Swap(e)
	a := ask{challenge: first.challenge("SN1", "alice@contoso.com")}
	g.wantPending(g.send(a))
	g.wantPending(g.send(a))
	if first.asks != 1 {
		t.Errorf("asked %d times", first.asks)
	}
	g.approve()
	first.set(errors.New("timeout"))
	if got := g.poll(a); got.code != 503 {
		t.Errorf("%d", got.code)
	}
	first.set(nil)
	got := g.poll(a)
	if got.cert == nil || len(first.heard()) != 1 || g.record(got.cert).Evidence.Validator != "first" {
		t.Errorf("%d %s %s, told %q", got.code, got.rep.failInfo, got.rep.failText, first.heard())
	}
	b := ask{challenge: first.challenge("SN2", "alice@contoso.com"), id: "tx2"}
	g.wantPending(g.send(b))
	_, err = g.reg.Reject(t.Context(), admin, g.waiting(registry.PendingWaiting).ID, "")
	g.must(err)
	g.wantRefused(BadRequest, func() answer { return g.poll(b) })
	if told := first.heard(); len(told) != 2 || !strings.HasPrefix(told[1], "refused tx2 a5050102 the request was rejected") {
		t.Errorf("told %q", told)
	}
}
