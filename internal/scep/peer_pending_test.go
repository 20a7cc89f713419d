package scep

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

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
	settle := func(do func(id string) error) {
		for range 300 {
			all, err := s.reg.PendingRequests(t.Context(), registry.PendingFilter{State: registry.PendingWaiting})
			if err != nil {
				t.Error(err)
				return
			}
			if len(all) == 1 {
				if err := do(all[0].ID); err != nil {
					t.Error(err)
				}
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Error("no request is pending")
	}
	secret := s.challenge(d)
	go settle(func(id string) error { _, err := s.reg.Approve(t.Context(), admin, id, ""); return err })
	out, errs, ok := s.enrol("k1.der", secret, "--maxpolltime", "30")
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
}
