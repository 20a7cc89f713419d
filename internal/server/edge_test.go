package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writePair makes a certificate for a name.
func writePair(t *testing.T, dir, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

// served shakes hands and returns the serial number of the certificate that a server shows for a name.
func served(t *testing.T, get func(*tls.ClientHelloInfo) (*tls.Certificate, error), name string) string {
	t.Helper()
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	go func() {
		_ = tls.Server(server, &tls.Config{GetCertificate: get}).HandshakeContext(t.Context())
		_ = server.Close()
	}()
	c := tls.Client(client, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestCertificatesOfTheEdge: each name is shown its own certificate, any other name the first; one that is replaced is shown from then on, and one that is
// broken is not.
func TestCertificatesOfTheEdge(t *testing.T) {
	dir := t.TempDir()
	cfg := &Edge{Hostname: "mail.contoso.com", Hosts: []EdgeHost{{Name: "mail.fabrikam.com"}, {Name: "autodiscover.contoso.com"}}}
	cfg.Certificate, cfg.Key = writePair(t, dir, "mail.contoso.com")
	cfg.Hosts[0].Certificate, cfg.Hosts[0].Key = writePair(t, dir, "mail.fabrikam.com")
	now := time.Now()
	s := &Server{opts: Options{Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}}
	get, err := s.edgeCertificates(cfg)
	if err != nil {
		t.Fatal(err)
	}
	first, second := served(t, get, "mail.contoso.com"), served(t, get, "mail.fabrikam.com")
	if first == second || served(t, get, "autodiscover.contoso.com") != first || served(t, get, "") != first {
		t.Error("a name is shown another's certificate")
	}

	writePair(t, dir, "mail.fabrikam.com")
	later := time.Now().Add(time.Minute)
	_ = os.Chtimes(cfg.Hosts[0].Certificate, later, later)
	now = now.Add(time.Minute)
	if got := served(t, get, "mail.fabrikam.com"); got == second || served(t, get, "mail.contoso.com") != first {
		t.Error("the replaced certificate is not shown, or another was replaced")
	}
	replaced := served(t, get, "mail.fabrikam.com")
	if err := os.WriteFile(cfg.Hosts[0].Certificate, []byte("half a cert"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	if got := served(t, get, "mail.fabrikam.com"); got != replaced {
		t.Error("a broken file takes the old certificate out of service")
	}
}
