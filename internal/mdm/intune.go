package mdm

import (
	"context"
	"crypto/sha1" //nolint:gosec // a thumbprint that Intune files certificates under, not a protection
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf16"

	"postern/internal/registry"
	"postern/internal/trust"
)

// Defaults of IntuneConfig: the public cloud of Microsoft.
const (
	DefaultAuthorityURL = "https://login.microsoftonline.com"
	DefaultGraphURL     = "https://graph.microsoft.com"
	// DefaultResourceURL ends in a slash: the scope of its token has two, as Microsoft's own client asks for it.
	DefaultResourceURL  = "https://api.manage.microsoft.com/"
	DefaultTimeout      = 20 * time.Second
	DefaultPullInterval = 5 * time.Minute
	DefaultMaxRequests  = 100
	maxRequestsLimit    = 500 // of one download; Intune's limit
)

// IntuneConfig is one issuer's connection to Intune as a third-party certification authority. The app registration needs the application permissions
// "scep_challenge_provider" of Intune and "Application.Read.All" of Microsoft Graph, with the consent of an administrator.
type IntuneConfig struct {
	Name     string // of this source of devices; default "intune"
	Issuer   string // the issuer whose enrolments it validates, and whose certificates it may revoke. Required
	TenantID string // GUID or domain name. Required
	ClientID string // GUID of the app registration. Required

	ClientSecret      Secret // this, or
	ClientCertificate *ClientCertificate

	AuthorityURL, GraphURL, ResourceURL string // HTTPS; the defaults above

	// Provider is the callerInfo by which Intune's reports name this server, at most 128 bytes; default "Postern".
	Provider string
	// Timeout bounds each call of a service, with its tokens, its discovery and its second attempt; default DefaultTimeout.
	Timeout time.Duration
	// Transport reaches Microsoft; nil means http.DefaultTransport's settings, which honour HTTPS_PROXY.
	Transport http.RoundTripper

	// PullInterval is the pause between two rounds of Run; default DefaultPullInterval.
	PullInterval time.Duration
	// MaxRequests is how many revocations are asked for at once, 1 to 500; default DefaultMaxRequests.
	MaxRequests int
	// IssuerName asks only for revocations of certificates of that issuing CA, by its common name. It is needed when other certification authorities
	// serve the same tenant: their requests would be answered with "not found".
	IssuerName string

	Registry  *registry.Registry // for revocations. Required
	Principal trust.Principal    // who revokes; default: Kind "mdm", Name as above
	Now       func() time.Time
	Log       *slog.Logger
}

// Intune asks Microsoft Intune whether a SCEP request is one that it has provoked, tells it what became of the request, and revokes what it wants
// revoked. It is safe for concurrent use.
type Intune struct {
	cfg      IntuneConfig
	client   *http.Client
	tokens   *tokens
	services *services
}

var (
	tenantPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$`)
	clientPattern = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
)

// NewIntune checks the configuration and returns the connection. Nothing is sent yet.
func NewIntune(cfg IntuneConfig) (*Intune, error) {
	for _, d := range []struct {
		dst   *string
		value string
	}{{&cfg.Name, "intune"}, {&cfg.AuthorityURL, DefaultAuthorityURL}, {&cfg.GraphURL, DefaultGraphURL}, {&cfg.ResourceURL, DefaultResourceURL}, {&cfg.Provider, "Postern"}} {
		if *d.dst == "" {
			*d.dst = d.value
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.PullInterval == 0 {
		cfg.PullInterval = DefaultPullInterval
	}
	if cfg.MaxRequests == 0 {
		cfg.MaxRequests = DefaultMaxRequests
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("intune: %w", err)
	}
	cfg.AuthorityURL, cfg.GraphURL = strings.TrimRight(cfg.AuthorityURL, "/"), strings.TrimRight(cfg.GraphURL, "/")
	if cfg.Principal == (trust.Principal{}) {
		cfg.Principal = trust.Principal{Kind: "mdm", Name: cfg.Name}
	}
	client := newClient(cfg.Transport)
	n := &Intune{cfg: cfg, client: client}
	n.tokens = &tokens{client: client, now: cfg.Now, endpoint: cfg.AuthorityURL + "/" + cfg.TenantID + "/oauth2/v2.0/token",
		clientID: cfg.ClientID, secret: cfg.ClientSecret, certificate: cfg.ClientCertificate, gate: newGate(), cached: map[string]token{}}
	n.services = &services{gate: newGate()}
	return n, nil
}

// check reports every problem at once.
func (cfg IntuneConfig) check() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !sourceName(cfg.Name) {
		bad("name %q: use lower-case letters, digits and dashes", clip(cfg.Name, 64))
	}
	if cfg.Issuer == "" || cfg.Registry == nil || cfg.Now == nil || cfg.Log == nil {
		bad("issuer, registry, clock and log are required")
	}
	if !tenantPattern.MatchString(cfg.TenantID) {
		bad("tenant %q is neither a GUID nor a domain", clip(cfg.TenantID, 64))
	}
	if !clientPattern.MatchString(cfg.ClientID) {
		bad("client id %q is not a GUID", clip(cfg.ClientID, 64))
	}
	if cfg.ClientSecret.IsZero() == (cfg.ClientCertificate == nil) {
		bad("either a client secret or a client certificate is required")
	}
	for _, u := range []string{cfg.AuthorityURL, cfg.GraphURL, cfg.ResourceURL} {
		if err := safeURL(u); err != nil {
			problems = append(problems, err)
		}
	}
	if !plain(cfg.Provider, 128) || !plain(cfg.IssuerName, 256) {
		bad("provider or issuer name is too long or has control characters")
	}
	if cfg.Timeout < 0 || cfg.PullInterval < 0 || cfg.MaxRequests < 1 || cfg.MaxRequests > maxRequestsLimit {
		bad("timeout and pull interval must not be negative, max requests 1 to %d", maxRequestsLimit)
	}
	return errors.Join(problems...)
}

// The bodies of the validation service, field by field in its order.
type (
	validateRequest struct {
		Request struct {
			TransactionID      string `json:"transactionId"`
			CertificateRequest string `json:"certificateRequest"`
			CallerInfo         string `json:"callerInfo"`
		} `json:"request"`
	}
	successNotification struct {
		Notification struct {
			TransactionID                string `json:"transactionId"`
			CertificateRequest           string `json:"certificateRequest"`
			CertificateThumbprint        string `json:"certificateThumbprint"`
			CertificateSerialNumber      string `json:"certificateSerialNumber"`
			CertificateExpirationDateUtc string `json:"certificateExpirationDateUtc"`
			IssuingCertificateAuthority  string `json:"issuingCertificateAuthority"`
			CallerInfo                   string `json:"callerInfo"`
			CAConfiguration              string `json:"caConfiguration"`
			CertificateAuthority         string `json:"certificateAuthority"`
		} `json:"notification"`
	}
	failureNotification struct {
		Notification struct {
			TransactionID      string `json:"transactionId"`
			CertificateRequest string `json:"certificateRequest"`
			HResult            int64  `json:"hResult"`
			ErrorDescription   string `json:"errorDescription"`
			CallerInfo         string `json:"callerInfo"`
		} `json:"notification"`
	}
)

// HResults that Intune's reports show for our own refusals: severity and customer bit set, facility 0x505 (MS-ERREF, section 2.1).
const hresultNames = int32(-0x5AFAFFFF) // 0xA5050001: Intune approved the request, but its names do not tell whose it is

// Validate asks Intune whether the request is genuine and meant for this device. The names in the CSR are then those that the SCEP profile asked for,
// and say who it is. It returns a *Refusal when Intune says no, or the names do not tell; every other error is a fault, and no approval.
func (n *Intune) Validate(ctx context.Context, s trust.Submission) (trust.Applicant, error) {
	if s.Issuer != n.cfg.Issuer {
		return trust.Applicant{}, fmt.Errorf("validate request of issuer %q: this connection serves issuer %q", s.Issuer, n.cfg.Issuer)
	}
	// Strangers who bring nothing that could be Intune's do not make us ask.
	if s.Challenge == "" {
		return trust.Applicant{}, n.refusal("ChallengePasswordMissing", "")
	}
	names, err := readNames(s.CSR)
	if err != nil {
		return trust.Applicant{}, &Refusal{Source: n.cfg.Name, Code: "CertificateRequestDecodingFailed", Info: BadRequest, Text: err.Error()}
	}
	if s.TransactionID == "" {
		return trust.Applicant{}, &Refusal{Source: n.cfg.Name, Code: "TransactionMissing", Info: BadRequest, Text: "the request has no transactionID"}
	}
	var body validateRequest
	body.Request.TransactionID, body.Request.CertificateRequest, body.Request.CallerInfo = s.TransactionID, base64.StdEncoding.EncodeToString(s.CSR), n.cfg.Provider
	if err := n.scep(ctx, "validateRequest", body); err != nil {
		return trust.Applicant{}, err
	}
	a, code, text := names.applicant()
	if code != "" {
		// Intune believes that a certificate follows: its administrator reads there what is wrong with the profile.
		if err := n.Refused(ctx, s, hresultNames, text); err != nil {
			n.cfg.Log.WarnContext(ctx, "Intune was not told of a refusal", "issuer", s.Issuer, "error", err)
		}
		return trust.Applicant{}, &Refusal{Source: n.cfg.Name, Code: code, Info: BadRequest, Text: text}
	}
	a.Source = n.cfg.Name
	return a, nil
}

// Issued tells Intune of the certificate. After any error the certificate must not be handed out: it is to be revoked.
func (n *Intune) Issued(ctx context.Context, s trust.Submission, c trust.Certificate) error {
	cert, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return fmt.Errorf("tell Intune of certificate %s: %w", c.Serial, err)
	}
	sum := sha1.Sum(c.DER) //nolint:gosec // as above
	var body successNotification
	b := &body.Notification
	b.TransactionID, b.CertificateRequest, b.CallerInfo = s.TransactionID, base64.StdEncoding.EncodeToString(s.CSR), n.cfg.Provider
	b.CertificateThumbprint = strings.ToUpper(hex.EncodeToString(sum[:]))
	b.CertificateSerialNumber = strings.ToUpper(string(trust.SerialOf(cert.SerialNumber)))
	b.CertificateExpirationDateUtc = cert.NotAfter.UTC().Format("2006-01-02T15:04:05.000Z")
	b.IssuingCertificateAuthority = cert.Issuer.CommonName
	b.CAConfiguration, b.CertificateAuthority = c.Issuer, cert.Issuer.CommonName
	return n.scep(ctx, "successNotification", body)
}

// Refused tells Intune why a request that it had approved was refused here. code is an HRESULT (MS-ERREF, section 2.1); of text, 255 UTF-16 units
// reach Intune's reports. It is not for requests that Validate refused, or that Issued failed for: Intune knows of those.
func (n *Intune) Refused(ctx context.Context, s trust.Submission, code int32, text string) error {
	if text == "" {
		text = "refused"
	}
	var body failureNotification
	b := &body.Notification
	b.TransactionID, b.CertificateRequest, b.CallerInfo = s.TransactionID, base64.StdEncoding.EncodeToString(s.CSR), n.cfg.Provider
	b.HResult, b.ErrorDescription = int64(uint32(code)), shorten(text, 255) //nolint:gosec // the same 32 bits
	return n.scep(ctx, "failureNotification", body)
}

// scep calls one action of the validation service. Only the code Success is a yes.
func (n *Intune) scep(ctx context.Context, action string, body any) error {
	answer, err := n.call(ctx, scepService, "ScepActions/"+action, body, maxAnswer)
	if err != nil {
		return err
	}
	code, err := answer.text("code", 256)
	if err != nil || code == "" {
		return fmt.Errorf("intune %s: the answer has no code", action)
	}
	if code == "Success" {
		return nil
	}
	description, err := answer.text("errorDescription", maxAnswer)
	if err != nil {
		description = ""
	}
	return n.refusal(code, description)
}

// shorten cuts s to at most n UTF-16 units, between characters.
func shorten(s string, n int) string {
	for i, r := range s {
		if n -= utf16.RuneLen(r); n < 0 { // never -1: ranging yields U+FFFD for what is no character
			return s[:i]
		}
	}
	return s
}
