package ca_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/peertest"
	"postern/internal/trust"
)

// run returns the output of a program, and whether it ended well.
func run(t *testing.T, program string, args ...string) (string, bool) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	return string(out), err == nil
}

// bench is an issuer with its files written out for other programs.
type bench struct {
	*ca.Issuer
	dir string
}

func newBench(t *testing.T, opts ...catest.Option) bench {
	t.Helper()
	b := bench{catest.New(t, opts...), t.TempDir()}
	chain := b.Chain()
	b.write(t, "issuing.pem", "CERTIFICATE", chain[0].Raw)
	b.write(t, "root.pem", "CERTIFICATE", chain[1].Raw)
	b.write(t, "ra.pem", "CERTIFICATE", b.RACertificate().Raw)
	all := append(b.read(t, "issuing.pem"), b.read(t, "root.pem")...)
	if err := os.WriteFile(b.path("cas.pem"), all, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b bench) read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(b.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (b bench) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(b.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return b.path(name)
}

// leaf issues a certificate and writes it to name.
func (b bench) leaf(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	c := issue(t, b.Issuer, catest.Request(t, b.Issuer, "alice@contoso.com", ecKey(t, elliptic.P256()))).Cert
	b.write(t, name, "CERTIFICATE", c.Raw)
	return c
}

func TestOpenSSLReadsCertificates(t *testing.T) {
	t.Parallel()
	openssl := peertest.Find(t, "openssl")
	b := newBench(t)
	r := catest.Request(t, b.Issuer, "alice@contoso.com", rsaKey(t, 2048))
	b.write(t, "leaf.pem", "CERTIFICATE", issue(t, b.Issuer, r).Cert.Raw)
	for file, want := range map[string][]string{
		"leaf.pem": {
			"Subject: O = Contoso, OU = " + string(r.Device.ID) + ", CN = alice@contoso.com, emailAddress = alice@contoso.com",
			"Issuer: O = Contoso, CN = Contoso Device Issuing CA 1", "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment\n",
			"X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n", "CA:FALSE", "email:alice@contoso.com", "othername: UPN::alice@contoso.com",
			"URI:urn:postern:device:" + string(r.Device.ID), "URI:http://127.0.0.1:8080/contoso/issuing.crl", "URI:http://127.0.0.1:8080/contoso/issuing-delta.crl",
			"OCSP - URI:http://127.0.0.1:8080/ocsp/contoso", "CA Issuers - URI:http://127.0.0.1:8080/contoso/issuing.cer", "X509v3 Freshest CRL",
		},
		"root.pem":    {"Subject: O = Contoso, CN = Contoso Device Root CA", "CA:TRUE, pathlen:1", "Certificate Sign, CRL Sign", "X509v3 Authority Key Identifier"},
		"issuing.pem": {"CA:TRUE, pathlen:0", "URI:http://127.0.0.1:8080/contoso/root.crl", "CA Issuers - URI:http://127.0.0.1:8080/contoso/root.cer"},
		"ra.pem":      {"Digital Signature, Key Encipherment", "CA:FALSE", "E-mail Protection"},
	} {
		out, _ := run(t, openssl, "x509", "-noout", "-text", "-in", b.path(file))
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in\n%s", file, w, out)
			}
		}
		if file == "ra.pem" && strings.Contains(out, "Client Authentication") {
			t.Error("the RA certificate is for client authentication")
		}
	}
	for purpose, file := range map[string]string{"sslclient": "leaf.pem", "smimesign": "ra.pem"} {
		if out, ok := run(t, openssl, "verify", "-x509_strict", "-purpose", purpose, "-CAfile", b.path("root.pem"), "-untrusted", b.path("issuing.pem"), b.path(file)); !ok {
			t.Errorf("%s for %s: %s", file, purpose, out)
		}
	}
	if out, ok := run(t, openssl, "verify", "-purpose", "sslclient", "-CAfile", b.path("root.pem"), "-untrusted", b.path("issuing.pem"), b.path("ra.pem")); ok {
		t.Errorf("the RA certificate is a client certificate: %s", out)
	}
	p7, err := b.PKCS7Chain()
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, "chain.p7b", "PKCS7", p7)
	if out, ok := run(t, openssl, "pkcs7", "-print_certs", "-in", b.path("chain.p7b")); !ok || strings.Count(out, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("chain.p7b: %s", out)
	}
}

// crl signs a CRL of the issuing CA and writes it to name. With a base number it is a delta.
func (b bench) crl(t *testing.T, name string, number, base int64, entries ...x509.RevocationListEntry) {
	t.Helper()
	now := time.Now()
	c := ca.CRL{Number: big.NewInt(number), ThisUpdate: now, NextUpdate: now.Add(24 * time.Hour), NextPublish: now.Add(time.Hour)}
	var err error
	if c.Entries, err = ca.EncodeEntries(entries); err != nil {
		t.Fatal(err)
	}
	if base > 0 {
		c.BaseNumber = big.NewInt(base)
	} else {
		c.FreshestURL = b.Spec().DeltaURL(ca.IssuingCA)
	}
	signed, err := b.SignCRL(t.Context(), ca.IssuingCA, c)
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, name, "X509 CRL", signed.DER)
}

func TestOpenSSLCombinesDeltas(t *testing.T) {
	t.Parallel()
	openssl := peertest.Find(t, "openssl")
	b := newBench(t)
	entry := func(file string, reason trust.ReasonCode) x509.RevocationListEntry {
		return x509.RevocationListEntry{SerialNumber: b.leaf(t, file).SerialNumber, RevocationTime: time.Now(), ReasonCode: reason.Number()}
	}
	b.leaf(t, "good.pem")
	inBase, inDelta := entry("base.pem", trust.KeyCompromise), entry("delta.pem", trust.Unspecified)
	held, released := entry("held.pem", trust.CertificateHold), entry("released.pem", trust.CertificateHold)
	removed := released
	removed.ReasonCode = trust.RemoveFromCRL.Number()
	b.crl(t, "base.crl", 5, 0, inBase, released)
	b.crl(t, "delta.crl", 6, 5, inDelta, held, removed)
	for file, want := range map[string]bool{"good.pem": true, "base.pem": false, "delta.pem": false, "held.pem": false, "released.pem": true} {
		out, ok := run(t, openssl, "verify", "-crl_check", "-extended_crl", "-use_deltas", "-CAfile", b.path("root.pem"), "-untrusted", b.path("issuing.pem"),
			"-CRLfile", b.path("base.crl"), "-CRLfile", b.path("delta.crl"), b.path(file))
		if ok != want || (!want && !strings.Contains(out, "certificate revoked")) {
			t.Errorf("%s: %t\n%s", file, ok, out)
		}
	}
	for file, want := range map[string][]string{
		"base.crl": {"X509v3 Freshest CRL", "X509v3 CRL Number: \n                5\n", "1.3.6.1.4.1.311.21.4", "X509v3 Authority Key Identifier", "Key Compromise"},
		"delta.crl": {"X509v3 Delta CRL Indicator: critical\n                5\n", "X509v3 CRL Number: \n                6\n", "1.3.6.1.4.1.311.21.4",
			"Certificate Hold", "Remove From CRL"},
	} {
		out, _ := run(t, openssl, "crl", "-noout", "-text", "-in", b.path(file))
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in\n%s", file, w, out)
			}
		}
		if strings.Contains(out, "Issuing Distribution Point") || (file == "delta.crl" && strings.Contains(out, "Freshest")) {
			t.Errorf("%s: something too much in\n%s", file, out)
		}
	}
}

// respond answers OCSP by POST from a table of statuses.
func (b bench) respond(t *testing.T, status map[string]ca.OCSPAnswer) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, ca.MaxOCSPRequest))
		if err != nil {
			t.Error(err)
		}
		req, err := ca.ParseOCSPRequest(body)
		if err != nil {
			t.Error(err)
			_, _ = w.Write(ca.OCSPErrorResponse(ca.OCSPMalformedRequest))
			return
		}
		var answers []ca.OCSPAnswer
		caID, _ := b.CAOf(req.IDs[0])
		for _, id := range req.IDs {
			a, ok := status[id.Serial.String()]
			if !ok {
				a.Status = ca.OCSPUnknown
			}
			a.ID, a.ThisUpdate, a.NextUpdate = id, time.Now(), time.Now().Add(time.Hour)
			answers = append(answers, a)
		}
		raw, err := b.SignOCSP(r.Context(), caID, req.Nonce, answers...)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = w.Write(raw)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/ocsp/contoso"
}

func TestOCSPPeers(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"openssl", "ocsptool"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			path := peertest.Find(t, program)
			b := newBench(t)
			at := time.Now().Add(-time.Minute)
			url := b.respond(t, map[string]ca.OCSPAnswer{
				b.leaf(t, "good.pem").SerialNumber.String():    {},
				b.leaf(t, "revoked.pem").SerialNumber.String(): {Status: ca.OCSPRevoked, RevokedAt: at, Reason: trust.KeyCompromise},
				b.leaf(t, "held.pem").SerialNumber.String():    {Status: ca.OCSPRevoked, RevokedAt: at, Reason: trust.CertificateHold},
				b.Chain()[0].SerialNumber.String():             {},
			})
			b.leaf(t, "unknown.pem")
			for file, want := range map[string]string{"good.pem": "good", "revoked.pem": "revoked", "held.pem": "revoked", "unknown.pem": "unknown", "issuing.pem": "good"} {
				issuer := "issuing.pem"
				if file == issuer {
					issuer = "root.pem"
				}
				if program == "ocsptool" {
					out, ok := run(t, path, "--ask="+url, "--load-cert", b.path(file), "--load-issuer", b.path(issuer), "--load-trust", b.path("cas.pem"), "--nonce")
					if !ok || !strings.Contains(out, "Certificate Status: "+want) || !strings.Contains(out, "Verifying OCSP Response: Success") {
						t.Errorf("%s: %t %s", file, ok, out)
					}
					continue
				}
				for _, hash := range []string{"-sha1", "-sha256"} {
					out, ok := run(t, path, "ocsp", hash, "-issuer", b.path(issuer), "-cert", b.path(file), "-url", url, "-CAfile", b.path("cas.pem"))
					if !ok || !strings.Contains(out, file+": "+want) || !strings.Contains(out, "Response verify OK") || strings.Contains(out, "WARNING") {
						t.Errorf("%s %s: %s", file, hash, out)
					}
				}
			}
			if program == "openssl" {
				out, ok := run(t, path, "ocsp", "-issuer", b.path("issuing.pem"), "-cert", b.path("good.pem"), "-cert", b.path("held.pem"), "-url", url, "-CAfile", b.path("cas.pem"))
				if !ok || !strings.Contains(out, "good.pem: good") || !strings.Contains(out, "held.pem: revoked") {
					t.Errorf("two at once: %s", out)
				}
			}
		})
	}
}
