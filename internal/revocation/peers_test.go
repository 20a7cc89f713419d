package revocation_test

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/ca/catest"
	"postern/internal/peertest"
	"postern/internal/trust"
)

// field is a lab that serves HTTP, with certificates of every standing.
type field struct {
	*lab
	url   string
	files string
	certs map[string]*x509.Certificate
}

func newField(t *testing.T) *field {
	t.Helper()
	l := newLab(t)
	f := &field{lab: l, files: t.TempDir(), certs: map[string]*x509.Certificate{}}
	for _, name := range []string{"good", "revoked", "revoked in delta", "held", "held in delta", "released", "released in delta"} {
		f.certs[name] = l.leaf()
	}
	d := l.newDevice()
	f.certs["superseded"] = l.leafOf(d)
	l.leafOf(d)
	l.revoke(f.serial("revoked"))
	l.hold(f.serial("held"))
	l.hold(f.serial("released"))
	l.start()
	f.save("base.crl", "X509 CRL", f.get("/contoso/issuing.crl").Body.Bytes())
	l.revoke(f.serial("revoked in delta"))
	l.hold(f.serial("held in delta"))
	l.hold(f.serial("released in delta"))
	l.published()
	l.release(f.serial("released"))
	l.release(f.serial("released in delta"))
	l.published()
	f.save("delta.crl", "X509 CRL", f.get("/contoso/issuing-delta.crl").Body.Bytes())
	for name, c := range f.certs {
		f.save(name, "CERTIFICATE", c.Raw)
	}
	var all []byte
	for _, c := range l.issuer.Certificates() {
		f.save(c.ID, "CERTIFICATE", c.Cert.Raw)
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Cert.Raw})...)
	}
	f.save("ra", "CERTIFICATE", l.issuer.RACertificate().Raw)
	l.must(os.WriteFile(f.path("cas"), all, 0o600))
	server := httptest.NewServer(l.handler)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f *field) serial(name string) trust.Serial { return trust.SerialOf(f.certs[name].SerialNumber) }

func (f *field) path(name string) string {
	return filepath.Join(f.files, strings.ReplaceAll(name, " ", "-")+".pem")
}

func (f *field) save(name, kind string, der []byte) {
	f.t.Helper()
	f.must(os.WriteFile(f.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// download fetches over HTTP and saves as PEM.
func (f *field) download(name, path string) {
	f.t.Helper()
	resp, err := http.Get(f.url + path)
	f.must(err)
	defer resp.Body.Close()
	der, err := io.ReadAll(resp.Body)
	f.must(err)
	f.save(name, "X509 CRL", der)
}

func TestOpenSSLHonoursBaseAndDelta(t *testing.T) {
	t.Parallel()
	openssl := peertest.Find(t, "openssl")
	f := newField(t)
	check := func(base string) {
		for name, revoked := range map[string]bool{"good": false, "superseded": false, "revoked": true, "revoked in delta": true, "held": true,
			"held in delta": true, "released": false, "released in delta": false} {
			// OpenSSL 3.0 takes the CRL with the latest thisUpdate for the complete one, even if it is a delta, unless extended CRL support is on. Without that
			// it sees only what the delta says, which is every change since the oldest base that is valid.
			for _, extended := range []bool{true, false} {
				args := []string{"verify", "-crl_check", "-use_deltas", "-CAfile", f.path("root"), "-untrusted", f.path("issuing"),
					"-CRLfile", f.path(base), "-CRLfile", f.path("delta.crl"), f.path(name)}
				if extended {
					args = append([]string{"verify", "-extended_crl"}, args[1:]...)
				} else if name == "revoked" || name == "held" {
					continue
				}
				out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput()
				if bad := strings.Contains(string(out), "error 23 at 0 depth lookup: certificate revoked"); bad != revoked || (err != nil) != revoked {
					t.Errorf("%s with %s: revoked %t, want %t: %s", name, base, bad, revoked, out)
				}
			}
		}
	}
	check("base.crl") // the cached one
	// The same after a new base: the old one, still valid, combines with the new delta, and so does the new one.
	rev, err := f.reg.RequestPublish(t.Context(), root, "contoso", true)
	f.settle(rev, err)
	f.eventually("a new base", func() bool { return f.status().Covers >= rev })
	f.download("delta.crl", "/contoso/issuing-delta.crl")
	f.download("new-base.crl", "/contoso/issuing.crl")
	check("base.crl")
	check("new-base.crl")
	out, err := exec.CommandContext(t.Context(), openssl, "crl", "-in", f.path("delta.crl"), "-noout", "-text").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "X509v3 Delta CRL Indicator: critical") || !strings.Contains(string(out), "Remove From CRL") {
		t.Errorf("delta: %s", out)
	}
}

func TestOCSPPeersAgree(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"openssl", "ocsptool"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			path := peertest.Find(t, program)
			f := newField(t)
			unknown, err := f.issuer.Issue(t.Context(), catest.Request(t, f.issuer, "alice@contoso.com", f.key))
			f.must(err)
			f.save("unknown", "CERTIFICATE", unknown.Cert.Raw)
			for name, want := range map[string]string{"good": "good", "superseded": "good", "revoked": "revoked", "revoked in delta": "revoked", "held": "revoked",
				"released": "good", "unknown": "unknown", "issuing": "good", "ra": "good"} {
				issuer := "issuing"
				if name == "issuing" {
					issuer = "root"
				}
				args := [][]string{{"--ask=" + f.url + "/ocsp/contoso", "--load-cert", f.path(name), "--load-issuer", f.path(issuer), "--load-trust", f.path("cas"), "--nonce"}}
				status, verified := "Certificate Status: "+want, "Verifying OCSP Response: Success"
				if program == "openssl" {
					status, verified = f.path(name)+": "+want, "Response verify OK"
					args = nil
					for _, more := range [][]string{{"-sha1"}, {"-sha256"}, {"-sha256", "-no_nonce"}} {
						args = append(args, append([]string{"ocsp", "-issuer", f.path(issuer), "-url", f.url + "/ocsp/contoso", "-CAfile", f.path("cas")}, append(more, "-cert", f.path(name))...))
					}
				}
				for _, a := range args {
					out, err := exec.CommandContext(t.Context(), path, a...).CombinedOutput()
					if err != nil || !strings.Contains(string(out), status) || !strings.Contains(string(out), verified) {
						t.Errorf("%s %v: want %s: %v %s", name, a, want, err, out)
					}
					if name == "held" && program == "openssl" && !strings.Contains(strings.ToLower(string(out)), "hold") {
						t.Errorf("no reason: %s", out)
					}
				}
			}
		})
	}
}
