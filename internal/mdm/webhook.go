package mdm

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"postern/internal/trust"
)

// Headers of a webhook request. The signature is "v1=" and the HMAC-SHA256 (RFC 2104), in lower-case hex, of the timestamp's digits, a full stop and
// the body, keyed with the shared secret. A receiver recomputes it, compares in constant time, and refuses a timestamp more than five minutes away.
const (
	HeaderTimestamp = "Postern-Timestamp"  // seconds since 1970
	HeaderSignature = "Postern-Signature"  // of timestamp and body
	HeaderRequestID = "Postern-Request-Id" // new for every request
)

// Limits of a webhook.
const (
	DefaultWebhookTimeout = 10 * time.Second
	minWebhookSecret      = 16 // bytes
	maxWebhookAnswer      = 64 << 10
)

// WebhookConfig is a service of the company that says who may enrol.
type WebhookConfig struct {
	Name   string // of this source; it becomes the Source of its devices. Required
	Issuer string // whose enrolments it validates. Required
	URL    string // HTTPS, or HTTP to this machine. Required
	Secret Secret // 16 bytes or more. Required
	// Notify tells the service also what became of the requests it allowed. If it cannot be told of a certificate, there is none.
	Notify    bool
	Timeout   time.Duration // of a request, at most DefaultWebhookTimeout, which is the default
	Transport http.RoundTripper
	Now       func() time.Time
}

// Webhook asks a service over HTTP, with signed requests, whether an enrolment is genuine and whose it is.
//
// It posts {"event":"validate","issuer","transaction_id","csr","challenge","remote"}, the CSR as base64 of its DER, and expects status 2xx with
// {"allow":true,"owner":"alice@example.com","serial_number","udid","upn","eas_device_id","model","os","key_attested"} or {"allow":false,"reason":"..."}. Names
// that are not known are passed over; key_attested says that the service has proof of a key that no copy can be made of; allow must be there, and for true the owner and one of serial_number and udid. Any other answer is a fault. With Notify it
// posts the event "issued" with "certificate" (base64 of its DER), or "refused" with "code" and "text"; status 2xx is all it wants then.
type Webhook struct {
	cfg    WebhookConfig
	client *http.Client
}

// NewWebhook checks the configuration.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultWebhookTimeout
	}
	var problems []error
	if !sourceName(cfg.Name) {
		problems = append(problems, fmt.Errorf("name %q: use lower-case letters, digits and dashes", clip(cfg.Name, 64)))
	}
	if cfg.Issuer == "" || cfg.Now == nil {
		problems = append(problems, errors.New("issuer and clock are required"))
	}
	if err := safeURL(cfg.URL); err != nil {
		problems = append(problems, err)
	}
	if len(cfg.Secret.reveal()) < minWebhookSecret {
		problems = append(problems, fmt.Errorf("the secret is shorter than %d bytes", minWebhookSecret))
	}
	if cfg.Timeout < 0 || cfg.Timeout > DefaultWebhookTimeout {
		problems = append(problems, fmt.Errorf("timeout %s: use at most %s", cfg.Timeout, DefaultWebhookTimeout))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return &Webhook{cfg, newClient(cfg.Transport)}, nil
}

// webhookRequest is what is posted.
type webhookRequest struct {
	Event         string `json:"event"`
	Issuer        string `json:"issuer"`
	TransactionID string `json:"transaction_id"`
	CSR           []byte `json:"csr"`
	Challenge     string `json:"challenge,omitempty"` // for validate only
	Remote        string `json:"remote"`
	Certificate   []byte `json:"certificate,omitempty"`
	Code          uint32 `json:"code,omitempty"`
	Text          string `json:"text,omitempty"`
}

// Validate asks the service. It returns a *Refusal when the service says no; every other error is a fault, and no approval.
func (h *Webhook) Validate(ctx context.Context, s trust.Submission) (trust.Applicant, error) {
	if s.Issuer != h.cfg.Issuer {
		return trust.Applicant{}, fmt.Errorf("validate request of issuer %q: this webhook serves issuer %q", s.Issuer, h.cfg.Issuer)
	}
	if s.Challenge == "" {
		return trust.Applicant{}, &Refusal{Source: h.cfg.Name, Code: "no_challenge", Info: BadRequest, Text: "the request has no challenge"}
	}
	answer, err := h.post(ctx, webhookRequest{Event: "validate", Issuer: s.Issuer, TransactionID: s.TransactionID, CSR: s.CSR, Challenge: s.Challenge, Remote: s.Remote})
	if err != nil {
		return trust.Applicant{}, err
	}
	a, err := h.applicant(answer)
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) {
		err = fmt.Errorf("webhook %s: %w", h.cfg.Name, err)
	}
	return a, err
}

// applicant reads an answer to validate.
func (h *Webhook) applicant(answer []byte) (trust.Applicant, error) {
	var a trust.Applicant
	o, err := decodeObject(answer)
	if err != nil {
		return a, err
	}
	allow, err := o.flag("allow")
	if err != nil {
		return a, err
	}
	if !allow {
		reason, err := o.text("reason", maxWebhookAnswer)
		if err != nil || reason == "" {
			reason = "no reason given"
		}
		return a, &Refusal{Source: h.cfg.Name, Code: "not_allowed", Info: BadRequest, Text: clip(reason, 255)}
	}
	for _, f := range []struct {
		name  string
		dst   *string
		limit int
	}{{"owner", &a.Mail, 320}, {"upn", &a.UPN, 320}, {"serial_number", &a.SerialNumber, maxAttribute}, {"udid", &a.UDID, maxAttribute},
		{"eas_device_id", &a.EASDeviceID, maxAttribute}, {"model", &a.Model, maxAttribute}, {"os", &a.OS, maxAttribute}} {
		s, err := o.text(f.name, f.limit)
		if err == nil && !plain(s, f.limit) {
			err = fmt.Errorf("%s has control characters", f.name)
		}
		if err != nil {
			return trust.Applicant{}, err
		}
		*f.dst = s
	}
	if !o.null("key_attested") {
		if a.KeyAttested, err = o.flag("key_attested"); err != nil {
			return trust.Applicant{}, err
		}
	}
	if a.Mail, _, err = trust.Mail(a.Mail); err != nil {
		return trust.Applicant{}, fmt.Errorf("owner: %w", err)
	}
	if a.SerialNumber == "" && a.UDID == "" {
		return trust.Applicant{}, errors.New("allowed without serial_number and udid")
	}
	a.Source = h.cfg.Name
	return a, nil
}

// Issued tells the service of the certificate, with Notify. After any error the certificate must not be handed out: it is to be revoked.
func (h *Webhook) Issued(ctx context.Context, s trust.Submission, c trust.Certificate) error {
	if !h.cfg.Notify {
		return nil
	}
	_, err := h.post(ctx, webhookRequest{Event: "issued", Issuer: s.Issuer, TransactionID: s.TransactionID, CSR: s.CSR, Remote: s.Remote, Certificate: c.DER})
	return err
}

// Refused tells the service, with Notify, why a request that it had allowed was refused here.
func (h *Webhook) Refused(ctx context.Context, s trust.Submission, code int32, text string) error {
	if !h.cfg.Notify {
		return nil
	}
	_, err := h.post(ctx, webhookRequest{Event: "refused", Issuer: s.Issuer, TransactionID: s.TransactionID, CSR: s.CSR, Remote: s.Remote,
		Code: uint32(code), Text: shorten(text, 255)}) //nolint:gosec // the same 32 bits
	return err
}

// post signs and sends.
func (h *Webhook) post(ctx context.Context, r webhookRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	body, err := encode(r)
	if err != nil {
		return nil, err
	}
	stamp := strconv.FormatInt(h.cfg.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(h.cfg.Secret.reveal()))
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}, HeaderTimestamp: {stamp},
		HeaderSignature: {"v1=" + hex.EncodeToString(mac.Sum(nil))}, HeaderRequestID: {trust.NewID("wh")}}
	return exchange(ctx, h.client, "webhook "+h.cfg.Name+" "+r.Event, h.cfg.URL, header, body, maxWebhookAnswer)
}
