package scep

import (
	"context"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/peertest"
	"postern/internal/registry"
	"postern/internal/trust"
)

// certmonger is Debian's certmonger with a state of its own and without D-Bus, and getcert to tell it what to do.
type certmonger struct {
	client
	env []string
}

func newCertmonger(t *testing.T, g *gate) certmonger {
	t.Helper()
	dir, err := os.MkdirTemp("", "cm") // short: the path of a Unix socket has 108 bytes
	g.must(err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := certmonger{client: client{g, dir}}
	for _, sub := range []string{"cas", "requests", "local", "tmp"} {
		g.must(os.Mkdir(filepath.Join(dir, sub), 0o700))
	}
	socket := filepath.Join(dir, "sock")
	c.env = append(os.Environ(), "CERTMONGER_CAS_DIR="+filepath.Join(dir, "cas"), "CERTMONGER_REQUESTS_DIR="+filepath.Join(dir, "requests"),
		"CERTMONGER_LOCAL_CA_DIR="+filepath.Join(dir, "local"), "CERTMONGER_TMP_DIR="+filepath.Join(dir, "tmp"),
		"CERTMONGER_CONFIG_DIR="+dir, "CERTMONGER_PVT_ADDRESS=unix:path="+socket, "HOME="+dir)
	// It ends with the command it is given, and that with a file.
	alive := c.save("alive", nil)
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, peertest.Find(t, "certmonger"), "-L", "-P", socket, "-n", "-d2", "-c", "sh -c 'while [ -e "+alive+" ]; do sleep 0.1; done'")
	cmd.Dir, cmd.Env = dir, c.env
	log, err := os.Create(filepath.Join(dir, "log"))
	g.must(err)
	cmd.Stdout, cmd.Stderr = log, log
	g.must(cmd.Start())
	t.Cleanup(func() {
		_ = os.Remove(alive)
		late := time.AfterFunc(10*time.Second, stop)
		_ = cmd.Wait()
		late.Stop()
		stop()
		_ = log.Close()
		if t.Failed() {
			out, _ := os.ReadFile(log.Name())
			t.Logf("certmonger: %s", out[max(0, len(out)-20000):])
		}
	})
	c.save("ra.pem", pemOf(g.issuer.RACertificate()))
	c.save("issuing.pem", pemOf(g.issuer.Chain()[0]))
	c.save("root.pem", pemOf(g.issuer.Chain()[1]))
	c.save("chain.pem", append(pemOf(g.issuer.Chain()[0]), pemOf(g.issuer.Chain()[1])...))
	c.eventually("certmonger to listen", func() bool { _, ok := c.getcert("list-cas"); return ok })
	if out, ok := c.getcert("add-scep-ca", "-c", "postern", "-u", g.server.URL+"/scep/contoso", "-R", filepath.Join(dir, "root.pem"), "-r", filepath.Join(dir, "ra.pem"),
		"-I", filepath.Join(dir, "chain.pem")); !ok {
		t.Fatalf("add-scep-ca: %s", out)
	}
	return c
}

func (c certmonger) getcert(args ...string) (string, bool) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, peertest.Find(c.T, "getcert"), args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// eventually waits for something that other processes do, half a minute at most.
func (c certmonger) eventually(what string, ok func() bool) {
	c.Helper()
	for range 300 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	out, _ := c.getcert("list")
	c.Fatalf("waited for %s in vain\n%s", what, out)
}

// request asks for a certificate with the challenge.
func (c certmonger) request(id, secret string) {
	c.Helper()
	c.save(id+".secret", []byte(secret))
	path := func(end string) string { return filepath.Join(c.dir, id+end) }
	if out, ok := c.getcert("request", "-I", id, "-c", "postern", "-k", path(".key"), "-f", path(".crt"), "-N", "CN="+id, "-E", "alice@contoso.com", "-l", path(".secret")); !ok {
		c.Fatalf("request: %s", out)
	}
}

// settles waits until the request is in the state.
func (c certmonger) settles(id, state string) {
	c.Helper()
	c.eventually(id+" to be "+state, func() bool {
		out, ok := c.getcert("list", "-i", id)
		return ok && strings.Contains(out, "status: "+state)
	})
}

// certmonger enrols, is issued a certificate for the same key and transactionID again, and one for a new key.
func TestCertmonger(t *testing.T) {
	peertest.Find(t, "certmonger")
	g := newGate(t)
	c := newCertmonger(t, g)
	d := g.device()
	c.request("dev1", g.challenge(d))
	c.settles("dev1", "MONITORING")
	certs := []*x509.Certificate{c.certificate("dev1.crt")}
	c.saysNames(certs[0])
	for _, how := range []string{"resubmit", "rekey"} {
		if out, ok := c.getcert(how, "-i", "dev1"); !ok {
			t.Fatalf("%s: %s", how, out)
		}
		c.eventually(how, func() bool {
			out, _ := c.getcert("list", "-i", "dev1")
			return len(g.certificates()) == len(certs)+1 && strings.Contains(out, "status: MONITORING")
		})
		certs = append(certs, c.certificate("dev1.crt"))
	}
	first, again, rekeyed := certs[0], certs[1], certs[2]
	if !samePublicKey(first, again) || samePublicKey(again, rekeyed) {
		t.Error("resubmit has another key, or rekey the same")
	}
	for i, cert := range certs[1:] {
		if rec := g.record(cert); rec.Device != d.ID || rec.Evidence.Renews != trust.SerialOf(certs[i].SerialNumber) || g.record(certs[i]).Status != trust.Superseded {
			t.Errorf("renewal %d: %+v", i, rec)
		}
	}
}

func samePublicKey(a, b *x509.Certificate) bool {
	return string(a.RawSubjectPublicKeyInfo) == string(b.RawSubjectPublicKeyInfo)
}

// certmonger polls while an administrator thinks, and is refused.
func TestCertmongerPending(t *testing.T) {
	peertest.Find(t, "certmonger")
	g := newPendingGate(t)
	c := newCertmonger(t, g)
	c.request("dev1", g.challenge(g.device()))
	c.settles("dev1", "CA_WORKING")
	g.approve()
	c.eventually("the poll", func() bool {
		out, _ := c.getcert("list", "-i", "dev1")
		if strings.Contains(out, "CA_WORKING") { // it may want to wait for days
			_, _ = c.getcert("refresh", "-i", "dev1")
		}
		return strings.Contains(out, "status: MONITORING")
	})
	if rec := g.record(c.certificate("dev1.crt")); rec.Evidence.Pending == "" {
		t.Errorf("%+v", rec)
	}
	c.request("dev2", "WRONGWRONGWRONGWRONGWRONGWRONGWR")
	c.settles("dev2", "CA_REJECTED")
	c.request("dev3", g.challenge(g.device()))
	c.settles("dev3", "CA_WORKING")
	_, err := g.reg.Reject(t.Context(), admin, g.waiting(registry.PendingWaiting).ID, "")
	g.must(err)
	c.eventually("the rejection", func() bool {
		out, _ := c.getcert("list", "-i", "dev3")
		if strings.Contains(out, "CA_WORKING") {
			_, _ = c.getcert("refresh", "-i", "dev3")
		}
		return strings.Contains(out, "status: CA_REJECTED")
	})
}
