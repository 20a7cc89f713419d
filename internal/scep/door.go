package scep

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"postern/internal/ca"
	"postern/internal/policy"
	"postern/internal/registry"
)

// Config is what the door needs. All fields but Legacy are required.
type Config struct {
	Issuers  []*ca.Issuer
	Legacy   map[string]bool // issuers that accept DES, 3DES and SHA-1
	Registry *registry.Registry
	Policy   *policy.Active
	Journal  registry.Journal
	Now      func() time.Time
	Log      *slog.Logger
}

// Door answers SCEP over HTTP for every issuer (RFC 8894, section 4).
type Door struct {
	cfg     Config
	issuers map[string]*issuer
	audits  *bucket // of refusals of strangers
}

// issuer is one issuer at the door.
type issuer struct {
	*ca.Issuer
	id        string
	legacy    bool
	responder *Responder
	caCert    []byte // the answer to GetCACert
}

// New makes the door.
func New(cfg Config) (*Door, error) {
	d := &Door{cfg: cfg, issuers: map[string]*issuer{}, audits: &bucket{}}
	for _, i := range cfg.Issuers {
		r, err := NewResponder(i.RACertificate(), i.RAKey(), i.Chain()[0])
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", i.Spec().ID, err)
		}
		// The RA first: a client that takes the first certificate as the one to encrypt to then takes the right one.
		chain := []*x509.Certificate{i.RACertificate()}
		for _, c := range i.Certificates() {
			chain = append(chain, c.Cert)
		}
		answer, err := CertsOnly(chain...)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", i.Spec().ID, err)
		}
		d.issuers[i.Spec().ID] = &issuer{Issuer: i, id: i.Spec().ID, legacy: cfg.Legacy[i.Spec().ID], responder: r, caCert: answer}
	}
	return d, nil
}

// ServeHTTP answers /scep/{issuer} and whatever a client puts behind it (RFC 8894, section 4.1: the path below is the client's affair).
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/scep/"), "/")
	is, ok := d.issuers[id]
	if !ok {
		text(w, http.StatusNotFound, "there is no such issuer")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		text(w, http.StatusMethodNotAllowed, "SCEP uses GET and POST")
		return
	}
	// A GET carries the whole message in its query, a third larger for base64 and up to three times that for escapes.
	if len(r.URL.RawQuery) > 4*MaxMessage {
		text(w, http.StatusRequestURITooLong, "the request is too large")
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		text(w, http.StatusBadRequest, "the query cannot be read")
		return
	}
	switch op := query.Get("operation"); op {
	case "GetCACaps":
		reply(w, "text/plain", []byte(strings.Join(is.capabilities(), "\n")))
	case "GetCACert":
		reply(w, "application/x-x509-ca-ra-cert", is.caCert)
	case "PKIOperation":
		message, status, err := readMessage(w, r, query)
		if err != nil {
			text(w, status, err.Error())
			return
		}
		d.operate(w, r, is, message)
	default:
		text(w, http.StatusBadRequest, "operation is not GetCACaps, GetCACert or PKIOperation")
	}
}

// capabilities is the answer to GetCACaps (RFC 8894, section 3.5.2). SHA-384 is not in the RFC's list: strongSwan 5.9 uses AES only if it is there.
func (is *issuer) capabilities() []string {
	caps := []string{"SCEPStandard", "AES", "POSTPKIOperation", "Renewal", "SHA-256", "SHA-384", "SHA-512"}
	if is.legacy {
		caps = append(caps, "SHA-1", "DES3")
	}
	return caps
}

// readMessage takes the message of a PKIOperation from a POST body, whatever its Content-Type, or from a GET query.
func readMessage(w http.ResponseWriter, r *http.Request, query url.Values) ([]byte, int, error) {
	if r.Method == http.MethodGet {
		m, err := DecodeGETMessage(query.Get("message"))
		if err != nil {
			return nil, http.StatusBadRequest, errors.New("the message is not base64, or too large")
		}
		return m, 0, nil
	}
	m, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxMessage))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the message is larger than %d bytes", MaxMessage)
	case err != nil:
		return nil, http.StatusBadRequest, errors.New("the message ended early")
	}
	return m, 0, nil
}

// operate answers one pkiMessage. Whatever cannot be answered by a CertRep is an HTTP error, without detail.
func (d *Door) operate(w http.ResponseWriter, r *http.Request, is *issuer, message []byte) {
	ctx := r.Context()
	log := d.cfg.Log.With("issuer", is.id, "remote", host(r.RemoteAddr))
	req, err := ParseRequest(message)
	if err == nil {
		err = req.Open(is.RACertificate(), is.RAKey(), is.legacy)
	}
	if req == nil {
		// By what it has read so far, not by the error's cause: what an envelope holds must not show in the kind of answer.
		log.InfoContext(ctx, "SCEP message refused", "error", err)
		text(w, http.StatusBadRequest, "this is not a SCEP message")
		return
	}
	if err == nil {
		log = log.With("scep", req)
		var out []byte
		if out, err = d.answer(ctx, is, req, host(r.RemoteAddr)); err == nil {
			log.InfoContext(ctx, "SCEP request answered")
			reply(w, "application/x-pki-message", out)
			return
		}
	}
	var f *Failure
	if !errors.As(err, &f) {
		log.ErrorContext(ctx, "SCEP request failed", "error", err)
		w.Header().Set("Retry-After", "60")
		text(w, http.StatusServiceUnavailable, "try again later")
		return
	}
	log.WarnContext(ctx, "SCEP request refused", "failInfo", f.Info.String(), "error", f)
	out, err := is.responder.Fail(req, f.Info, f.Text)
	if err != nil {
		log.ErrorContext(ctx, "SCEP refusal cannot be signed", "error", err)
		text(w, http.StatusServiceUnavailable, "try again later")
		return
	}
	reply(w, "application/x-pki-message", out)
}

// answer carries out a request that could be read. Its error is a *Failure, or a fault for which the client may try again.
func (d *Door) answer(ctx context.Context, is *issuer, req *Request, remote string) ([]byte, error) {
	switch req.MessageType {
	case PKCSReq, RenewalReq:
		cert, err := d.enrol(ctx, is, req, remote)
		if err != nil {
			return nil, err
		}
		return is.responder.Success(req, cert, nil)
	case CertPoll:
		return nil, fail(BadCertID, nil, "no request is pending under this transactionID")
	}
	return nil, fail(BadRequest, nil, "%s is not supported: certificates and CRLs are at the addresses in the certificate", req.MessageType)
}

func reply(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body)
}

func text(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, message+"\n")
}

// host is the address without the port.
func host(remote string) string {
	if i := strings.LastIndexByte(remote, ':'); i > 0 {
		return strings.Trim(remote[:i], "[]")
	}
	return remote
}

// Refusals of requesters that nobody knows are audited at this rate; an audit entry is a flushed write, and strangers are not to fill the disk with it.
const (
	auditBurst     = 500
	auditPerSecond = 20
)

// bucket is a token bucket; the zero value is full.
type bucket struct {
	mu    sync.Mutex
	spent float64
	last  time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := now.Sub(b.last).Seconds(); d > 0 {
		b.spent = max(0, b.spent-d*auditPerSecond)
		b.last = now
	}
	if b.spent >= auditBurst {
		return false
	}
	b.spent++
	return true
}
