package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxSCEPAnswer is the longest answer of a SCEP server that is read, in bytes.
const maxSCEPAnswer = 64 << 10

// The message types that a phone sends (RFC 8894, section 3.2.1.2).
const (
	typeRenewalReq = 17
	typePKCSReq    = 19
)

// Enrolment says how a phone asks for a certificate. Only URL is needed, and Challenge for the first one.
type Enrolment struct {
	URL       string // of the SCEP server, without "?operation="
	Challenge string
	Names     Names          // what the CSR asks to be called
	AES256    bool           // instead of AES-128
	GET       bool           // send the message by GET (RFC 8894, section 4.1)
	Roots     *x509.CertPool // for https; nil: the system's
	Renew     bool           // RenewalReq, signed with the phone's certificate, instead of PKCSReq
}

// RefusedError is a SCEP answer with pkiStatus FAILURE (RFC 8894, section 3.2.1.4).
type RefusedError struct {
	FailInfo int    // 0 badAlg, 1 badMessageCheck, 2 badRequest, 3 badTime, 4 badCertID; -1 where the answer gives none
	Text     string // failInfoText, which may be empty
}

func (e *RefusedError) Error() string {
	names := []string{"badAlg", "badMessageCheck", "badRequest", "badTime", "badCertID"}
	name := fmt.Sprintf("failInfo %d", e.FailInfo)
	if e.FailInfo >= 0 && e.FailInfo < len(names) {
		name = names[e.FailInfo]
	}
	if e.Text == "" {
		return "refused by the SCEP server: " + name
	}
	return "refused by the SCEP server: " + name + ": " + e.Text
}

// ErrPending is a SCEP answer with pkiStatus PENDING: somebody has to approve the request.
var ErrPending = errors.New("the SCEP server has not decided yet")

// ErrNoCertificate is a renewal asked of a phone that has nothing to renew.
var ErrNoCertificate = errors.New("the phone has no certificate")

// Enrol gets the phone its first certificate with a fresh RSA key of 2048 bits and a self-signed signer: GetCACaps, GetCACert,
// PKCSReq (RFC 8894, section 3.3.1). A refusal is a [*RefusedError], and the phone keeps what it had.
func (p *Phone) Enrol(ctx context.Context, scepURL, challenge string) error {
	return p.EnrolWith(ctx, Enrolment{URL: scepURL, Challenge: challenge})
}

// Renew gets a new certificate for a new key with a RenewalReq signed by the present one. Errors are those of [Phone.Enrol] and
// [ErrNoCertificate].
func (p *Phone) Renew(ctx context.Context, scepURL string) error {
	return p.EnrolWith(ctx, Enrolment{URL: scepURL, Renew: true})
}

// EnrolWith is [Phone.Enrol] and [Phone.Renew] with all choices.
func (p *Phone) EnrolWith(ctx context.Context, ask Enrolment) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("enrol: make key: %w", err)
	}
	subject, err := ask.Names.subject(p.cfg.Name)
	if err != nil {
		return fmt.Errorf("enrol: make subject: %w", err)
	}
	t := &transaction{kind: typePKCSReq, key: key, signerKey: key, keySize: 16, now: p.cfg.Now}
	if ask.AES256 {
		t.keySize = 32
	}
	if ask.Renew {
		t.kind = typeRenewalReq
		if t.signer, t.signerKey = p.identity(); t.signer == nil {
			return fmt.Errorf("renew: %w", ErrNoCertificate)
		}
	} else if t.signer, err = selfSigned(key, subject, p.cfg.Now()); err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	if t.csr, err = newCSR(key, subject, ask.Challenge, ask.Names); err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	client, err := newSCEPClient(ask)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	defer client.http.CloseIdleConnections()
	if err := client.enrol(ctx, t); err != nil {
		return fmt.Errorf("enrol at %s: %w", client.url.Redacted(), err)
	}
	p.keep(t.issued, key, t.chain)
	return nil
}

// scepClient talks to one SCEP server.
type scepClient struct {
	http   *http.Client
	url    *url.URL
	useGET bool
}

func newSCEPClient(ask Enrolment) (*scepClient, error) {
	u, err := url.Parse(ask.URL)
	if err != nil {
		return nil, fmt.Errorf("read SCEP URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("read SCEP URL: %q is not http or https", u.Redacted())
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ask.Roots, MinVersion: tls.VersionTLS12}}
	return &scepClient{http: &http.Client{Transport: transport, Timeout: time.Minute}, url: u, useGET: ask.GET}, nil
}

// enrol plays one transaction.
func (c *scepClient) enrol(ctx context.Context, t *transaction) error {
	if err := c.checkCapabilities(ctx, t.kind == typeRenewalReq); err != nil {
		return err
	}
	var err error
	if t.chain, err = c.caCertificates(ctx); err != nil {
		return err
	}
	request, err := t.request()
	if err != nil {
		return err
	}
	var reply []byte
	if c.useGET {
		reply, _, err = c.do(ctx, "PKIOperation", base64.StdEncoding.EncodeToString(request), nil)
	} else {
		reply, _, err = c.do(ctx, "PKIOperation", "", request)
	}
	if err != nil {
		return err
	}
	err = t.readReply(reply)
	if !errors.Is(err, errUnknownCA) {
		return err
	}
	// The issuing CA may have been replaced since GetCACert.
	again, err := c.caCertificates(ctx)
	if err != nil {
		return err
	}
	t.chain = append(again, t.chain...)
	return t.readReply(reply)
}

// checkCapabilities asks GetCACaps (RFC 8894, section 3.5) and refuses a server that would make the phone send weaker messages.
func (c *scepClient) checkCapabilities(ctx context.Context, renewal bool) error {
	body, _, err := c.do(ctx, "GetCACaps", "", nil)
	if err != nil {
		return err
	}
	caps := strings.Fields(string(body))
	needed := []string{"AES", "SHA-256"}
	if !c.useGET {
		needed = append(needed, "POSTPKIOperation")
	}
	if slices.Contains(caps, "SCEPStandard") {
		needed = nil
	}
	if renewal {
		needed = append(needed, "Renewal")
	}
	for _, capability := range needed {
		if !slices.Contains(caps, capability) {
			return fmt.Errorf("GetCACaps: the server does not offer %s", capability)
		}
	}
	return nil
}

// caCertificates asks GetCACert (RFC 8894, section 4.2).
func (c *scepClient) caCertificates(ctx context.Context) ([]*x509.Certificate, error) {
	body, contentType, err := c.do(ctx, "GetCACert", "", nil)
	if err != nil {
		return nil, err
	}
	switch contentType {
	case "application/x-x509-ca-cert":
		cert, err := x509.ParseCertificate(body)
		if err != nil {
			return nil, fmt.Errorf("GetCACert: %w", err)
		}
		return []*x509.Certificate{cert}, nil
	case "application/x-x509-ca-ra-cert":
		certs, err := certsOnly(body)
		if err != nil {
			return nil, fmt.Errorf("GetCACert: %w", err)
		}
		return certs, nil
	}
	return nil, fmt.Errorf("GetCACert: unexpected content type %q", contentType)
}

// do sends one operation: by POST where there is a body, otherwise by GET with the message in the query.
func (c *scepClient) do(ctx context.Context, operation, message string, body []byte) (answer []byte, contentType string, err error) {
	u := *c.url
	q := u.Query()
	q.Set("operation", operation)
	if message != "" {
		q.Set("message", message)
	}
	u.RawQuery = q.Encode()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", operation, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-pki-message")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", operation, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxSCEPAnswer+1))
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("%s: read answer: %w", operation, err)
	case len(answer) > maxSCEPAnswer:
		return nil, "", fmt.Errorf("%s: the answer is longer than %d bytes", operation, maxSCEPAnswer)
	case resp.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("%s: HTTP %d: %.200q", operation, resp.StatusCode, answer)
	}
	contentType, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
	return answer, strings.TrimSpace(contentType), nil
}

// newTransactionID makes a fresh one: 128 random bits in hexadecimal.
func newTransactionID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
