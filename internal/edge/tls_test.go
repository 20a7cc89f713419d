package edge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/edge"
	"postern/internal/registry"
	"postern/internal/trust"
)

// TestTLS: the issuing CA is named to the phone, old versions are refused, and a resumed session does not outlive a revocation.
func TestTLS(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	var asked [][]byte
	config := &tls.Config{RootCAs: w.roots, ServerName: gateHost, GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = r.AcceptableCAs
		return &c, nil
	}}
	conn, err := tls.Dial("tcp", w.addr, config)
	must(t, err)
	_ = conn.Close()
	if len(asked) != 1 || string(asked[0]) != string(w.ca.cert.RawSubject) {
		t.Errorf("the phone was asked for certificates of %q", asked)
	}
	if conn, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: w.roots, ServerName: gateHost, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 was accepted")
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		d, c := w.managed(fmt.Sprintf("u%d@contoso.com", version), "")
		k := command("FolderSync", d.Owner, fmt.Sprintf("PHONE%d", version))
		phone := w.phone(&c, false)
		tr := phone.Transport.(*http.Transport)
		tr.TLSClientConfig.MaxVersion, tr.DisableKeepAlives = version, true
		for range 3 {
			if got := w.do(phone, k); phoneSees(got) != mail {
				t.Errorf("TLS %x: %s", version, phoneSees(got))
			}
		}
		_, err := w.reg.Revoke(t.Context(), root, "contoso", serialOf(c), trust.KeyCompromise, "")
		must(t, err)
		w.sync()
		if got := w.do(phone, k); phoneSees(got) != blocked {
			t.Errorf("TLS %x: after the revocation the phone sees %s", version, phoneSees(got))
		}
	}
}

// TestIssuersAskedFor: in the handshake a phone is asked for certificates of the issuing CAs of the host that it names, and of all where the host leaves the
// issuer open (RFC 8446, section 4.2.4); the CA of a rotation is among them at once, and a root never.
func TestIssuersAskedFor(t *testing.T) {
	w := newWorld(t, options{config: func(c *edge.Config) {
		c.Hosts["mail.fabrikam.com"], c.Hosts["mail.example.com"] = "fabrikam", ""
	}})
	add := func(issuer, id, name string) string {
		ca := newAuthority(t, name)
		must(t, w.reg.PutCA(t.Context(), root, registry.CA{Issuer: issuer, ID: id, Domains: []string{issuer + ".com"}, DER: ca.cert.Raw}))
		w.sync()
		return name
	}
	contoso, fabrikam := "Contoso Issuing CA", add("fabrikam", "issuing", "Fabrikam Issuing CA")
	add("fabrikam", "root", "Fabrikam Root CA")
	asked := func(host string) (names []string) {
		t.Helper()
		// A handshake of TLS 1.2 is over on both sides when Dial returns.
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			names = nil
			conn, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true, ServerName: host, MaxVersion: version, //nolint:gosec // the names of the CAs are looked at
				GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
					for _, raw := range r.AcceptableCAs {
						var name pkix.RDNSequence
						if _, err := asn1.Unmarshal(raw, &name); err != nil {
							return nil, err
						}
						var n pkix.Name
						n.FillFromRDNSequence(&name)
						names = append(names, n.CommonName)
					}
					return &tls.Certificate{}, nil
				}})
			must(t, err)
			_ = conn.Close()
		}
		slices.Sort(names)
		return names
	}
	check := func(host string, want ...string) {
		t.Helper()
		var got []string
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) { // the edge follows the index
			if got = asked(host); slices.Equal(got, want) {
				return
			}
		}
		t.Errorf("%s asks for certificates of %q, want %q", host, got, want)
	}
	check(gateHost, contoso)
	check("mail.fabrikam.com", fabrikam)
	check("mail.example.com", contoso, fabrikam)
	next := add("contoso", "issuing-2", "Contoso Issuing CA 2")
	check(gateHost, contoso, next)
	check("mail.fabrikam.com", fabrikam)
	check("mail.example.com", contoso, next, fabrikam)
}

// TestCertificateReload: each host name has its certificate, and a new one is in the next handshake; what is open goes on.
func TestCertificateReload(t *testing.T) {
	const other = "mail.fabrikam.com"
	var current [2]atomic.Pointer[tls.Certificate] // of gateHost and of the other
	renew := func(i int) []byte {
		a := newAuthority(t, []string{gateHost, other}[i])
		current[i].Store(&tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key})
		return a.cert.Raw
	}
	first, beside := renew(0), renew(1)
	w := newWorld(t, options{config: func(c *edge.Config) {
		c.Hosts[other] = "contoso"
		c.Certificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName == other {
				return current[1].Load(), nil
			}
			return current[0].Load(), nil
		}
	}})
	presented := func(host string) []byte {
		t.Helper()
		conn, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true, ServerName: host}) //nolint:gosec // the certificate is looked at
		must(t, err)
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].Raw
	}
	_, c := w.managed(alice, "")
	phone := w.phone(&c, false)
	var dialled atomic.Int64
	tr := phone.Transport.(*http.Transport)
	tr.TLSClientConfig.InsecureSkipVerify = true
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled.Add(1)
		return dial(ctx, network, addr)
	}
	held, let := make(chan struct{}), make(chan struct{})
	w.answerWith(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("Cmd") == "Ping" {
			close(held)
			<-let
		}
		exchange(rw, r)
	})
	waiting := w.phone(&c, true)
	waiting.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
	ping := make(chan reply, 1)
	go func() {
		r, err := w.try(context.Background(), waiting, command("Ping", alice, aliceEAS))
		if err != nil {
			t.Error(err)
		}
		ping <- r
	}()
	if !bytes.Equal(presented(gateHost), first) || !bytes.Equal(presented(other), beside) {
		t.Error("a host name has not its own certificate")
	}
	if got := w.do(phone, command("Sync", alice, aliceEAS)); phoneSees(got) != mail {
		t.Fatal(phoneSees(got))
	}
	select {
	case <-held:
	case r := <-ping:
		t.Fatalf("the Ping ended: %s", phoneSees(r))
	}
	second := renew(0)
	if !bytes.Equal(presented(gateHost), second) || !bytes.Equal(presented(other), beside) {
		t.Error("after the renewal of one certificate: not the new one, or not the other's")
	}
	if got := w.do(phone, command("Sync", alice, aliceEAS)); phoneSees(got) != mail || dialled.Load() != 1 {
		t.Errorf("a connection from before the renewal: %s, %d connections", phoneSees(got), dialled.Load())
	}
	close(let)
	if got := <-ping; phoneSees(got) != mail {
		t.Errorf("a Ping from before the renewal: %s", phoneSees(got))
	}
}
