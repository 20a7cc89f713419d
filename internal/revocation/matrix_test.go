package revocation_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/peertest"
)

// matrix is what the programs of others make of one publisher: a row for each standing of a certificate, a column for each way to ask. Where a column does not
// say what the publisher means it is the program's own doing: nginx looks at base CRLs alone, and strongSwan takes a delta's entries without removeFromCRL. OCSP
// says nothing of validity, so programs that ask for nothing else call an expired certificate good.
const matrix = `
             openssl-files  openssl-download  openssl-ocsp  strongswan-crl  strongswan-ocsp  gnutls-ocsptool  nginx-ssl_crl  nginx-ssl_ocsp  java-deltas
good         good           good              good          good            good             good             good           good            good
in-base      revoked        revoked           revoked       revoked         revoked          revoked          revoked        revoked         revoked
in-delta     revoked        revoked           revoked       revoked         revoked          revoked          good           revoked         revoked
held         revoked        revoked           revoked       revoked         revoked          revoked          revoked        revoked         revoked
released     good           good              good          revoked         good             good             revoked        good            good
superseded   good           good              good          good            good             good             good           good            good
expired      expired        expired           good          expired         expired          good             expired        expired         expired
`

func TestPeersMatrix(t *testing.T) {
	t.Parallel()
	f := newField(t)
	asks := map[string]func(*testing.T) func(row string) string{
		"openssl-files": f.opensslVerify("-CRLfile", f.path("base.crl"), "-CRLfile", f.path("delta.crl")), "openssl-download": f.opensslVerify("-crl_download"),
		"openssl-ocsp": f.opensslOCSP, "strongswan-crl": f.strongSwan(false), "strongswan-ocsp": f.strongSwan(true), "gnutls-ocsptool": f.ocsptool,
		"nginx-ssl_crl": f.nginx(fmt.Sprintf("ssl_crl %s;", f.path("all.crl"))), "nginx-ssl_ocsp": f.nginx("ssl_ocsp leaf; resolver 127.0.0.1;"), "java-deltas": f.java,
	}
	lines := strings.Split(strings.TrimSpace(matrix), "\n")
	for i, column := range strings.Fields(lines[0]) {
		t.Run(column, func(t *testing.T) { // one after the other: strongSwan's two differ in what the server answers
			ask := asks[column](t)
			for _, line := range lines[1:] {
				row := strings.Fields(line)
				if got := ask(row[0]); got != row[i+1] {
					t.Errorf("%s: %s, want %s", row[0], got, row[i+1])
				}
			}
		})
	}
}

// said finds the answer in what a program has printed: the first of the phrases that is in it.
func said(out string, phrases ...[2]string) string {
	for _, p := range phrases {
		if strings.Contains(strings.ToLower(out), p[0]) {
			return p[1]
		}
	}
	return out
}

// run returns everything that a program prints, and whether it ended well.
func run(t *testing.T, program string, args ...string) (string, bool) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	return string(out), err == nil
}

// opensslVerify builds the chain with base and delta. Without extended CRL support OpenSSL 3.0 takes the CRL with the latest thisUpdate for the complete one.
func (f *field) opensslVerify(crls ...string) func(*testing.T) func(string) string {
	return func(t *testing.T) func(string) string {
		openssl := peertest.Find(t, "openssl")
		return func(row string) string {
			args := append([]string{"verify", "-extended_crl", "-crl_check", "-use_deltas", "-CAfile", f.path("root"), "-untrusted", f.path("issuing")}, crls...)
			out, ok := run(t, openssl, append(args, f.path(row))...)
			if ok {
				return "good"
			}
			return said(out, [2]string{"error 10 at 0 depth lookup", "expired"}, [2]string{"error 23 at 0 depth lookup", "revoked"})
		}
	}
}

func (f *field) opensslOCSP(t *testing.T) func(string) string {
	openssl := peertest.Find(t, "openssl")
	return func(row string) string {
		out, ok := run(t, openssl, "ocsp", "-issuer", f.path("issuing"), "-cert", f.path(row), "-url", f.url+"/ocsp/contoso", "-CAfile", f.path("cas"))
		if !ok || !strings.Contains(out, "Response verify OK") {
			return out
		}
		return said(out, [2]string{": good", "good"}, [2]string{": revoked", "revoked"})
	}
}

// strongSwan asks OCSP first, and looks at CRLs if that does not answer.
func (f *field) strongSwan(ocsp bool) func(*testing.T) func(string) string {
	return func(t *testing.T) func(string) string {
		pki := peertest.Find(t, "pki")
		f.deaf.Store(!ocsp)
		t.Cleanup(func() { f.deaf.Store(false) })
		return func(row string) string {
			out, _ := run(t, pki, "--verify", "--in", f.path(row), "--cacert", f.path("root"), "--cacert", f.path("issuing"), "--online")
			return said(out, [2]string{"certificate trusted, lifetimes valid, certificate not revoked", "good"}, [2]string{"certificate was revoked", "revoked"},
				[2]string{"subject certificate invalid (valid from", "expired"})
		}
	}
}

func (f *field) ocsptool(t *testing.T) func(string) string {
	tool := peertest.Find(t, "ocsptool")
	return func(row string) string {
		out, _ := run(t, tool, "--ask="+f.url+"/ocsp/contoso", "--load-cert", f.path(row), "--load-issuer", f.path("issuing"), "--load-trust", f.path("cas"), "--nonce")
		if !strings.Contains(out, "Verifying OCSP Response: Success") {
			return out
		}
		return said(out, [2]string{"certificate status: good", "good"}, [2]string{"certificate status: revoked", "revoked"})
	}
}

// java has one process for all rows: starting it takes longer than everything else.
func (f *field) java(t *testing.T) func(string) string {
	java := peertest.Find(t, "java")
	peertest.Find(t, "javac")
	jars := []string{"/usr/share/java/bcprov.jar", "/usr/share/java/bcpkix.jar", "/usr/share/java/bcutil.jar"}
	for _, jar := range jars {
		peertest.File(t, jar)
	}
	args := []string{"-cp", strings.Join(jars, ":"), filepath.Join("testdata", "Deltas.java"), f.path("root"), f.path("issuing"),
		strings.Join([]string{f.path("base.crl"), f.path("delta.crl"), f.path("root.crl")}, ",")}
	var order []string
	for name := range f.certs {
		order = append(order, f.path(name))
	}
	out, ok := run(t, java, append(args, order...)...)
	if !ok {
		t.Fatal(out)
	}
	return func(row string) string {
		for line := range strings.Lines(out) {
			if name, answer, _ := strings.Cut(strings.TrimSpace(line), ": "); name == filepath.Base(f.path(row)) {
				return said(answer, [2]string{"good", "good"}, [2]string{"certificate revocation after", "revoked"}, [2]string{"expired on", "expired"})
			}
		}
		return out
	}
}

// nginx asks for client certificates and says what it thinks of them.
func (f *field) nginx(how string) func(*testing.T) func(string) string {
	return func(t *testing.T) func(string) string {
		nginx := peertest.Find(t, "nginx")
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		f.must(err)
		address := ln.Addr().String()
		f.must(ln.Close())
		dir := t.TempDir()
		conf := filepath.Join(dir, "nginx.conf")
		f.must(os.WriteFile(conf, fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s ssl; ssl_certificate %[3]s; ssl_certificate_key %[4]s;
		ssl_client_certificate %[5]s; ssl_verify_client on; ssl_verify_depth 3; %[6]s
		error_page 495 496 = /refused;
		location / { return 200 "$ssl_client_verify"; }
	}
}
`, dir, address, f.path("server"), f.path("server-key"), f.path("cas"), how), 0o600))
		ctx, cancel := context.WithCancel(context.Background())
		cmd := exec.CommandContext(ctx, nginx, "-p", dir, "-c", conf)
		cmd.Stderr = t.Output()
		f.must(cmd.Start())
		t.Cleanup(func() { cancel(); _ = cmd.Wait() })
		f.eventually("nginx", func() bool {
			c, err := net.Dial("tcp", address)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
		return func(row string) string { return f.present(t, address, f.certs[row]) }
	}
}

// present opens a TLS connection with a client certificate and returns what the server thinks of it.
func (f *field) present(t *testing.T, address string, c *x509.Certificate) string {
	t.Helper()
	roots := x509.NewCertPool()
	for _, ca := range f.issuer.Certificates() {
		roots.AddCert(ca.Cert)
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw, f.issuer.Chain()[0].Raw}, PrivateKey: f.key}}}}}
	resp, err := client.Get("https://" + address + "/")
	f.must(err)
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	f.must(err)
	return said(string(out), [2]string{"success", "good"}, [2]string{"certificate revoked", "revoked"}, [2]string{"certificate has expired", "expired"})
}
