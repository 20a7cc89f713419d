package scep

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/ca"
	"postern/internal/peertest"
	"postern/internal/trust"
)

// client is a directory in which a program of others runs.
type client struct {
	*gate
	dir string
}

// run returns what the program wrote to standard output and to standard error, and whether it ended well.
func (c client) run(program string, args ...string) (stdout []byte, stderr string, ok bool) {
	c.Helper()
	cmd := exec.CommandContext(c.Context(), peertest.Find(c.T, program), args...)
	cmd.Dir = c.dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return out.Bytes(), errs.String(), err == nil
}

// save writes what a program printed.
func (c client) save(name string, content []byte) string {
	c.Helper()
	path := filepath.Join(c.dir, name)
	c.must(os.WriteFile(path, content, 0o600))
	return path
}

// saysNames checks with OpenSSL that subject and SAN have both names of alice.
func (c client) saysNames(cert *x509.Certificate) {
	c.Helper()
	out, errs, ok := c.run("openssl", "x509", "-inform", "DER", "-in", c.save("check.der", cert.Raw), "-noout", "-text")
	if !ok {
		c.Fatalf("openssl: %s", errs)
	}
	var subject, san string
	lines := strings.Split(string(out), "\n")
	for i, l := range lines {
		if strings.Contains(l, "Subject:") {
			subject = l
		}
		if strings.Contains(l, "X509v3 Subject Alternative Name") && i+1 < len(lines) {
			san = lines[i+1]
		}
	}
	if !strings.Contains(subject, "CN = alice@contoso.com") || !strings.Contains(subject, "emailAddress = alice@contoso.com") {
		c.Errorf("subject: %s", subject)
	}
	if !strings.Contains(san, "email:alice@contoso.com") || !strings.Contains(san, "UPN::alice@contoso.com") {
		c.Errorf("SAN: %s", san)
	}
}

// strongSwan is a client that has fetched the CA certificates.
type strongSwan struct {
	client
	url     string
	cacerts []string
}

func newStrongSwan(t *testing.T) strongSwan {
	t.Helper()
	g := newGate(t)
	c := client{g, t.TempDir()}
	url := g.server.URL + "/scep/contoso"
	if _, errs, ok := c.run("pki", "--scepca", "--url", url, "--caout", "ca.der", "--raout", "ra.der", "--force"); !ok {
		t.Fatalf("pki --scepca: %s", errs)
	}
	return strongSwan{c, url, c.strongSwanCAs()}
}

// enrol makes a key and asks for a certificate; without a challenge, the flags have to say what renews.
func (s strongSwan) enrol(key, secret string, flags ...string) (cert []byte, errs string, ok bool) {
	s.Helper()
	out, errs, ok := s.run("pki", "--gen", "--type", "rsa", "--size", "2048", "--outform", "der")
	if !ok {
		s.Fatalf("pki --gen: %s", errs)
	}
	s.save(key, out)
	return s.request(key, secret, flags...)
}

// request is enrol with a key that is there.
func (s strongSwan) request(key, secret string, flags ...string) (cert []byte, errs string, ok bool) {
	s.Helper()
	args := append([]string{"--scep", "--url", s.url, "--in", key, "--dn", "C=DE, O=X, CN=dev", "--cacert-enc", "ra.der", "--interval", "1", "--maxpolltime", "5"}, s.cacerts...)
	if secret != "" {
		args = append(args, "--password", secret)
	}
	return s.run("pki", append(args, flags...)...)
}

// strongSwan enrols, renews with a new key under the old certificate, and again with the same key.
func TestStrongSwan(t *testing.T) {
	s := newStrongSwan(t)
	d := s.device()
	secret := s.challenge(d)
	first, errs, ok := s.enrol("k1.der", secret)
	if !ok {
		t.Fatalf("pki --scep: %s", errs)
	}
	s.save("c1.der", first)
	cert1, err := x509.ParseCertificate(first)
	s.must(err)
	s.saysNames(cert1)
	if _, errs, ok := s.enrol("k2.der", secret); ok || !strings.Contains(errs, "badRequest") {
		t.Errorf("a used challenge: %v, %s", ok, errs)
	}
	second, errs, ok := s.enrol("k2.der", "", "--cert", "c1.der", "--key", "k1.der")
	if !ok {
		t.Fatalf("renewal: %s", errs)
	}
	cert2, err := x509.ParseCertificate(second)
	s.must(err)
	s.saysNames(cert2)
	s.save("c2.der", second)
	third, errs, ok := s.request("k2.der", "", "--cert", "c2.der", "--key", "k2.der")
	if !ok {
		t.Fatalf("renewal with the same key: %s", errs)
	}
	cert3, err := x509.ParseCertificate(third)
	s.must(err)
	if !samePublicKey(cert2, cert3) || samePublicKey(cert1, cert2) {
		t.Error("not the keys that were asked for")
	}
	for _, pair := range [][2]*x509.Certificate{{cert1, cert2}, {cert2, cert3}} {
		if old, now := s.record(pair[0]), s.record(pair[1]); old.Status != trust.Superseded || now.Device != d.ID || now.Evidence.Renews != old.Serial {
			t.Errorf("old %+v\nnew %+v", old, now)
		}
	}
}

// strongSwan with other digests, and with triple DES, which the issuer does not take.
func TestStrongSwanAlgorithms(t *testing.T) {
	s := newStrongSwan(t)
	d := s.device()
	for _, digest := range []string{"sha384", "sha512"} {
		if _, errs, ok := s.enrol("k.der", s.challenge(d), "--digest", digest); !ok {
			t.Errorf("%s: %s", digest, errs)
		}
	}
	for _, flags := range [][]string{{"--cipher", "des3"}, {"--digest", "sha1"}} {
		if _, errs, ok := s.enrol("k.der", s.challenge(d), flags...); ok || !strings.Contains(errs, "badAlg") {
			t.Errorf("%v: %v, %s", flags, ok, errs)
		}
	}
}

// strongSwanCAs finds among the files that pki --scepca wrote the root and the issuing CA.
func (c client) strongSwanCAs() []string {
	c.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "ca*.der"))
	c.must(err)
	var args []string
	for _, f := range files {
		raw, err := os.ReadFile(f)
		c.must(err)
		cert, err := x509.ParseCertificate(raw)
		c.must(err)
		if cert.Equal(c.issuer.Chain()[0]) {
			args = append(args, "--cacert-sig", filepath.Base(f))
		} else {
			args = append(args, "--cacert", filepath.Base(f))
		}
	}
	if len(args) != 4 {
		c.Fatalf("pki --scepca wrote %v", files)
	}
	if ra, err := os.ReadFile(filepath.Join(c.dir, "ra.der")); err != nil || !bytes.Equal(ra, c.issuer.RACertificate().Raw) {
		c.Fatalf("ra.der is not the RA certificate: %v", err)
	}
	return args
}

// scepclient knows only single DES and SHA-1: refused with badAlg, unless the issuer takes such clients. It renews under the old transactionID.
func TestScepclient(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		g := newGate(t, func(c *Config) { c.Legacy = map[string]bool{"contoso": legacy} })
		c := client{g, t.TempDir()}
		args := func(secret string) []string {
			return []string{"-server-url", g.server.URL + "/scep/contoso", "-challenge", secret, "-private-key", "k.pem", "-certificate", "c.pem", "-cn", "dev1",
				"-ca-fingerprint", ca.Fingerprint(g.issuer.RACertificate()), "-debug"}
		}
		d := g.device()
		out, errs, ok := c.run("scepclient", args(g.challenge(d))...)
		if ok != legacy {
			t.Fatalf("legacy %v: %v\n%s%s", legacy, ok, out, errs)
		}
		if !legacy {
			if log := string(out) + errs; len(g.certificates()) != 0 || !strings.Contains(log, "BadAlg") && !strings.Contains(log, "badAlg") {
				t.Errorf("refused with\n%s", log)
			}
			continue
		}
		first := c.certificate("c.pem")
		c.saysNames(first)
		if out, errs, ok := c.run("scepclient", args("")...); !ok {
			t.Fatalf("renewal: %s%s", out, errs)
		}
		if out, errs, ok := (client{g, t.TempDir()}).run("scepclient", args("WRONGWRONGWRONGWRONGWRONGWRONGWR")...); ok ||
			!strings.Contains(string(out)+errs, "adRequest") {
			t.Errorf("a wrong challenge: %v\n%s%s", ok, out, errs)
		}
		if second := c.certificate("c.pem"); second.Equal(first) || g.record(first).Status != trust.Superseded || g.record(second).Device != d.ID {
			t.Errorf("not renewed: %+v", g.record(second))
		}
	}
}

func (c client) certificate(name string) *x509.Certificate {
	c.Helper()
	raw, err := os.ReadFile(filepath.Join(c.dir, name))
	c.must(err)
	block, _ := pem.Decode(raw)
	if block == nil {
		c.Fatalf("%s is not PEM", name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	c.must(err)
	return cert
}
