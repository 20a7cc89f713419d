package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"postern/internal/trust"
)

// ServerCertificate makes a TLS key and a certificate for the hosts (DNS names or IP addresses), signed by the root, or by the issuing CA if the root
// is not here, as a stand-in until the operator brings one of a public CA. It writes both as PEM: certFile with the certificate and its chain, keyFile with a plain PKCS #8 key that only its owner
// may read, since the operator will replace it. An existing file is never replaced: fs.ErrExist.
func (i *Issuer) ServerCertificate(certFile, keyFile string, hosts ...string) error {
	s := i.state.Load()
	signer, above := s.cas[1], s.chain[len(s.chain)-1:]
	if signer.key == nil {
		signer, above = s.cas[0], s.chain
	}
	chain, key, err := i.serverCertificate(signer, above, hosts)
	if err != nil {
		return fmt.Errorf("make server certificate: %w", err)
	}
	if err := writeNew(keyFile, key, 0o600); err != nil {
		return fmt.Errorf("make server certificate: %w", err)
	}
	if err := writeNew(certFile, chain, 0o644); err != nil {
		return fmt.Errorf("make server certificate: %w", errors.Join(err, os.Remove(keyFile))) // a key without a certificate is of no use
	}
	return nil
}

func (i *Issuer) serverCertificate(ca *signer, above []*x509.Certificate, hosts []string) (chain, key []byte, err error) {
	if len(hosts) == 0 {
		return nil, nil, fmt.Errorf("host name %w: want at least one", trust.ErrInvalid)
	}
	for _, h := range hosts {
		if net.ParseIP(h) == nil && h != "localhost" && !trust.Domain(strings.TrimPrefix(h, "*.")) {
			return nil, nil, fmt.Errorf("host name %q %w: want a lower-case DNS name or an IP address", h, trust.ErrInvalid)
		}
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, err
	}
	t := serverTemplate(i.spec, hosts, i.now().UTC().Truncate(time.Second))
	if err := i.spec.point(t, ca.id); err != nil {
		return nil, nil, err
	}
	t.OCSPServer = nil // nobody keeps a record of this certificate, and OCSP would not know it
	cert, err := sign(t, ca.cert, priv.Public(), ca.key)
	if err != nil {
		return nil, nil, err
	}
	return encodeCertificates(append([]*x509.Certificate{cert}, above...)...), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain}), nil
}
