package revocation_test

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/peertest"
	"postern/internal/trust"
)

// field is a lab that serves HTTP at the address that its certificates name, with certificates of every standing.
type field struct {
	*lab
	url   string
	files string
	certs map[string]*x509.Certificate
	deaf  atomic.Bool // OCSP does not answer
}

func newField(t *testing.T) *field {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &field{url: "http://" + ln.Addr().String(), files: t.TempDir(), certs: map[string]*x509.Certificate{}}
	f.lab = newLabOf(t, func(l *lab) *ca.Issuer {
		l.skew.Store(-int64(500 * 24 * time.Hour))
		spec := catest.Spec()
		spec.URL = f.url
		return catest.New(t, catest.WithSpec(spec), catest.WithClock(l.now))
	})
	f.certs["expired"] = f.leaf()
	f.skew.Store(0)
	for _, name := range []string{"good", "in-base", "in-delta", "held", "held-in-delta", "released", "released-in-delta"} {
		f.certs[name] = f.leaf()
	}
	d := f.newDevice()
	f.certs["superseded"] = f.leafOf(d)
	f.leafOf(d)
	f.revoke(f.serial("in-base"))
	f.hold(f.serial("held"))
	f.hold(f.serial("released"))
	f.start()
	server := httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.must(server.Listener.Close())
	server.Listener = ln
	server.Start()
	t.Cleanup(server.Close)
	f.download("base.crl", "/contoso/issuing.crl")
	f.revoke(f.serial("in-delta"))
	f.hold(f.serial("held-in-delta"))
	f.hold(f.serial("released-in-delta"))
	f.published()
	f.release(f.serial("released"))
	f.release(f.serial("released-in-delta"))
	f.published()
	f.download("delta.crl", "/contoso/issuing-delta.crl")
	f.download("root.crl", "/contoso/root.crl")
	f.write()
	return f
}

// serve is the distribution point and OCSP, unless that is deaf.
func (f *field) serve(w http.ResponseWriter, r *http.Request) {
	if f.deaf.Load() && strings.HasPrefix(r.URL.Path, "/ocsp/") {
		http.Error(w, "no OCSP today", http.StatusServiceUnavailable)
		return
	}
	f.handler.ServeHTTP(w, r)
}

// write makes the files that programs read.
func (f *field) write() {
	f.t.Helper()
	for name, c := range f.certs {
		f.save(name, "CERTIFICATE", c.Raw)
	}
	var all []byte
	for _, c := range f.issuer.Certificates() {
		f.save(c.ID, "CERTIFICATE", c.Cert.Raw)
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Cert.Raw})...)
	}
	f.save("ra", "CERTIFICATE", f.issuer.RACertificate().Raw)
	f.must(os.WriteFile(f.path("cas"), all, 0o600))
	all = nil
	for _, name := range []string{"base.crl", "delta.crl", "root.crl"} {
		text, err := os.ReadFile(f.path(name))
		f.must(err)
		all = append(all, text...)
	}
	f.must(os.WriteFile(f.path("all.crl"), all, 0o600))
	f.must(f.issuer.ServerCertificate(f.path("server"), f.path("server-key"), "127.0.0.1"))
}

func (f *field) serial(name string) trust.Serial { return trust.SerialOf(f.certs[name].SerialNumber) }

func (f *field) path(name string) string { return filepath.Join(f.files, name+".pem") }

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

// Whichever base a relying party has cached, it combines with the newest delta.
func TestOpenSSLCombinesAnyBase(t *testing.T) {
	t.Parallel()
	openssl := peertest.Find(t, "openssl")
	f := newField(t)
	f.newBase()
	f.download("delta.crl", "/contoso/issuing-delta.crl")
	f.download("new-base.crl", "/contoso/issuing.crl")
	for _, base := range []string{"base.crl", "new-base.crl"} {
		for name, revoked := range map[string]bool{"good": false, "superseded": false, "in-base": true, "in-delta": true, "held": true,
			"held-in-delta": true, "released": false, "released-in-delta": false} {
			// Without extended CRL support OpenSSL 3.0 sees only what the delta says, which is every change since the oldest base that is valid.
			for _, extended := range []bool{true, false} {
				args := []string{"verify", "-crl_check", "-use_deltas", "-CAfile", f.path("root"), "-untrusted", f.path("issuing"),
					"-CRLfile", f.path(base), "-CRLfile", f.path("delta.crl"), f.path(name)}
				if extended {
					args = append([]string{"verify", "-extended_crl"}, args[1:]...)
				} else if name == "in-base" || name == "held" {
					continue
				}
				out, ok := run(t, openssl, args...)
				if bad := strings.Contains(out, "error 23 at 0 depth lookup: certificate revoked"); bad != revoked || ok == revoked {
					t.Errorf("%s with %s: revoked %t, want %t: %s", name, base, bad, revoked, out)
				}
			}
		}
	}
	out, ok := run(t, openssl, "crl", "-in", f.path("delta.crl"), "-noout", "-text")
	if !ok || !strings.Contains(out, "X509v3 Delta CRL Indicator: critical") || !strings.Contains(out, "Remove From CRL") {
		t.Errorf("delta: %s", out)
	}
}

// Both hashes, with and without a nonce, for devices, CAs, the registration authority and what nobody has issued.
func TestOCSPPeersAgree(t *testing.T) {
	t.Parallel()
	f := newField(t)
	unknown, err := f.issuer.Issue(t.Context(), catest.Request(t, f.issuer, "alice@contoso.com", f.key))
	f.must(err)
	f.save("unknown", "CERTIFICATE", unknown.Cert.Raw)
	for _, program := range []string{"openssl", "ocsptool"} {
		t.Run(program, func(t *testing.T) {
			path := peertest.Find(t, program)
			for name, want := range map[string]string{"good": "good", "held": "revoked", "unknown": "unknown", "issuing": "good", "ra": "good"} {
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
					out, ok := run(t, path, a...)
					if !ok || !strings.Contains(out, status) || !strings.Contains(out, verified) {
						t.Errorf("%s %v: want %s: %s", name, a, want, out)
					}
					if name == "held" && program == "openssl" && !strings.Contains(strings.ToLower(out), "hold") {
						t.Errorf("no reason: %s", out)
					}
				}
			}
		})
	}
}
