package scep

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// strongSwan polls until an administrator has approved, or rejected.
func TestStrongSwanPending(t *testing.T) {
	s := newStrongSwan(t)
	e, err := approval()
	s.must(err)
	s.policy.Swap(e)
	d := s.device()
	settled := make(chan error, 1)
	settle := func(do func(id string) error) { settled <- settleNext(s.gate, do) }
	secret := s.challenge(d)
	go settle(func(id string) error { _, err := s.reg.Approve(t.Context(), admin, id, ""); return err })
	out, errs, ok := s.enrol("k1.der", secret, "--maxpolltime", "30")
	s.must(<-settled)
	if !ok {
		t.Fatalf("pki --scep: %s", errs)
	}
	cert, err := x509.ParseCertificate(out)
	s.must(err)
	if rec := s.record(cert); rec.Device != d.ID || rec.Evidence.Pending == "" || rec.Status != trust.Good {
		t.Errorf("%+v", rec)
	}
	secret = s.challenge(d)
	go settle(func(id string) error { _, err := s.reg.Reject(t.Context(), admin, id, ""); return err })
	if _, errs, ok := s.enrol("k2.der", secret, "--maxpolltime", "30"); ok || !strings.Contains(errs, "badRequest") {
		t.Errorf("rejected: %v, %s", ok, errs)
	}
	s.must(<-settled)
}

// scepclient has no CertPoll: while its request is pending, it sends the whole PKCSReq again every thirty seconds, which is the same request and no second one.
func TestScepclientPending(t *testing.T) {
	if testing.Short() {
		t.Skip("scepclient waits half a minute before it asks again")
	}
	t.Parallel()
	g := newPendingGate(t, func(c *Config) { c.Legacy = map[string]bool{"contoso": true} })
	c, d := client{g, t.TempDir()}, g.device()
	secret := g.challenge(d)
	args := func(prefix string) []string {
		return []string{"-server-url", g.server.URL + "/scep/contoso", "-challenge", secret, "-private-key", prefix + "k.pem", "-certificate", prefix + "c.pem",
			"-cn", "dev1", "-ca-fingerprint", ca.Fingerprint(g.issuer.RACertificate()), "-debug"}
	}
	settled := make(chan error, 1)
	go func() {
		settled <- settleNext(g, func(id string) error { _, err := g.reg.Approve(t.Context(), admin, id, ""); return err })
	}()
	out, errs, ok := c.run("scepclient", args("")...)
	g.must(<-settled)
	if !ok {
		t.Fatalf("%s%s", out, errs)
	}
	rec := g.record(c.certificate("c.pem"))
	if p := g.waitingAny(); p.State != registry.PendingIssued || rec.Device != d.ID || rec.Evidence.Pending != p.ID || !strings.Contains(string(out)+errs, "pkiStatus=PENDING") {
		t.Errorf("request %s, device %s, evidence %+v\n%s%s", p.State, rec.Device, rec.Evidence, out, errs)
	}
	if n := len(g.certificates()); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

// settleNext waits for a request that is pending, and settles it.
func settleNext(g *gate, do func(id string) error) error {
	for range 300 {
		all, err := g.reg.PendingRequests(g.Context(), registry.PendingFilter{State: registry.PendingWaiting})
		if err != nil {
			return err
		}
		if len(all) == 1 {
			return do(all[0].ID)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("no request is pending")
}
