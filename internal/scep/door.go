package scep

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/ca"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// Config is what the door needs. Legacy, NoChallenges, Validators, CRL, Limits and Index may be left out; everything else is required.
type Config struct {
	Issuers  []*ca.Issuer
	Legacy   map[string]bool // issuers that accept DES, 3DES and SHA-1
	Registry *registry.Registry
	Policy   *policy.Active
	Journal  registry.Journal
	Now      func() time.Time
	Log      *slog.Logger

	// NoChallenges are issuers that take no one-time challenge. Each must have a validator, because nobody could enrol otherwise.
	NoChallenges map[string]bool

	Validators map[string][]Validator                        // by issuer: who is asked, in this order, about challenges that are not ours
	CRL        func(issuer, ca string) (der []byte, ok bool) // the base CRL that is published, for GetCRL
	Limits     Limits

	// Index counts an owner's devices that have enrolled, and knows whether a device's newest certificate is revoked or held; without it policies see neither.
	Index *registry.Index
}

// Door answers SCEP over HTTP for every issuer (RFC 8894, section 4).
type Door struct {
	cfg     Config
	issuers map[string]*issuer
	limits  Limits
	slots   *slots
	from    *buckets[netip.Prefix]
	devices *buckets[trust.DeviceID]
	audits  *buckets[string] // of refusals of strangers
}

// New makes the door.
func New(cfg Config) (*Door, error) {
	l := cfg.Limits.complete()
	d := &Door{cfg: cfg, issuers: map[string]*issuer{}, limits: l, slots: newSlots(l.Workers), from: newBuckets[netip.Prefix](l.Address),
		devices: newBuckets[trust.DeviceID](l.Device), audits: newBuckets[string](Rate{auditBurst, auditPerSecond})}
	for _, i := range cfg.Issuers {
		if id := i.Spec().ID; cfg.NoChallenges[id] && len(cfg.Validators[id]) == 0 {
			return nil, fmt.Errorf("issuer %s takes no one-time challenges and has no validator: nobody could enrol", id)
		}
		is := &issuer{Issuer: i, id: i.Spec().ID, legacy: cfg.Legacy[i.Spec().ID], log: cfg.Log.With("issuer", i.Spec().ID)}
		if err := is.renew(); err != nil {
			return nil, fmt.Errorf("issuer %s: %w", is.id, err)
		}
		d.issuers[is.id] = is
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
	if wait, ok := d.admit(r); !ok {
		later(w, http.StatusTooManyRequests, wait, "too many requests from this address")
		return
	}
	// A GET carries the whole message in its query, a third larger for base64 and up to three times that for escapes.
	if len(r.URL.RawQuery) > 4*MaxMessage {
		text(w, http.StatusRequestURITooLong, "the request is too large")
		return
	}
	// What cannot be read of the query is left out: GetCACert is often asked with a message that is not escaped, and nobody needs it (RFC 8894, section 4.2).
	query, _ := url.ParseQuery(r.URL.RawQuery)
	d.serve(w, r, is, query)
}

// parameter is a query parameter by its name in any case, as NDES takes it. The exact name goes first.
func parameter(query url.Values, name string) string {
	if query.Has(name) {
		return query.Get(name)
	}
	for _, k := range slices.Sorted(maps.Keys(query)) {
		if strings.EqualFold(k, name) {
			return query.Get(k)
		}
	}
	return ""
}

// admit takes the requester's address from the connection alone: what a header claims would let anybody be anybody.
func (d *Door) admit(r *http.Request) (time.Duration, bool) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil { // no address: they share a limit
		return d.from.take(netip.Prefix{}, d.cfg.Now())
	}
	if a := from.Addr().Unmap(); !d.limits.exempt(a) {
		return d.from.take(addressKey(a), d.cfg.Now())
	}
	return 0, true
}

// serve carries out one operation (RFC 8894, section 4.1).
func (d *Door) serve(w http.ResponseWriter, r *http.Request, is *issuer, query url.Values) {
	switch strings.ToLower(parameter(query, "operation")) {
	case "getcacaps":
		reply(w, "text/plain", []byte(strings.Join(d.capabilities(is), "\n")))
	case "getcacert":
		reply(w, "application/x-x509-ca-ra-cert", is.keys().caCert)
	case "getnextcacert":
		next := is.keys().nextCA
		if next == nil {
			text(w, http.StatusNotFound, "no other CA certificates are prepared")
			return
		}
		reply(w, "application/x-x509-next-ca-cert", next)
	case "pkioperation":
		message, status, err := readMessage(w, r, query)
		if err != nil {
			text(w, status, err.Error())
			return
		}
		if !d.slots.enter(r.Context()) {
			later(w, http.StatusServiceUnavailable, maxQueueTime, "too much to do: try again later")
			return
		}
		defer d.slots.leave()
		d.operate(w, r, is, message)
	default:
		text(w, http.StatusBadRequest, "operation is not GetCACaps, GetCACert, GetNextCACert or PKIOperation")
	}
}

// capabilities is the answer to GetCACaps (RFC 8894, section 3.5.2). SHA-384 is not in the RFC's list: strongSwan 5.9 uses AES only if it is there.
func (*Door) capabilities(is *issuer) []string {
	caps := []string{"SCEPStandard", "AES", "POSTPKIOperation", "Renewal", "SHA-256", "SHA-384", "SHA-512"}
	if is.legacy {
		caps = append(caps, "SHA-1", "DES3")
	}
	if is.keys().nextCA != nil {
		caps = append(caps, "GetNextCACert")
	}
	return caps
}

// readMessage takes the message of a PKIOperation from a POST body, whatever its Content-Type, or from a GET query.
func readMessage(w http.ResponseWriter, r *http.Request, query url.Values) ([]byte, int, error) {
	if r.Method == http.MethodGet {
		m, err := DecodeGETMessage(parameter(query, "message"))
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
	keys := is.keys() // the same to the end, whatever is rotated meanwhile
	responder := keys.ras[0].responder
	req, err := ParseRequest(message)
	if err == nil {
		responder, err = keys.open(req, is.legacy)
	}
	if req == nil {
		// By what it has read so far, not by the error's cause: what an envelope holds must not show in the kind of answer.
		log.InfoContext(ctx, "SCEP message refused", "error", err)
		text(w, http.StatusBadRequest, "this is not a SCEP message")
		return
	}
	unread := err != nil
	if !unread {
		log = log.With("scep", req)
		var out []byte
		if out, err = d.answer(ctx, is, responder, req, host(r.RemoteAddr)); err == nil {
			log.InfoContext(ctx, "SCEP request answered")
			reply(w, "application/x-pki-message", out)
			return
		}
	}
	var f *Failure
	var many *tooMany
	switch {
	case errors.As(err, &many):
		log.WarnContext(ctx, "SCEP request put off", "error", err)
		later(w, http.StatusTooManyRequests, many.wait, "too many requests of this device")
		return
	case !errors.As(err, &f):
		log.ErrorContext(ctx, "SCEP request failed", "error", err)
		wait := time.Minute
		var busy interface{ RetryAfter() time.Duration } // a validator, which is asked anew for each attempt of the client
		if errors.As(err, &busy) {
			wait = max(wait, busy.RetryAfter())
		}
		later(w, http.StatusServiceUnavailable, wait, "try again later")
		return
	}
	log.WarnContext(ctx, "SCEP request refused", "failInfo", f.Info.String(), "error", f)
	if unread { // whoever it is: what was read is audited where it is refused
		if err := d.audit(ctx, is, applicant{}, f); !errors.Is(err, f) {
			log.ErrorContext(ctx, "SCEP refusal cannot be audited", "error", err)
			later(w, http.StatusServiceUnavailable, time.Minute, "try again later")
			return
		}
	}
	out, err := responder.Fail(req, f.Info, f.Text)
	if err != nil {
		log.ErrorContext(ctx, "SCEP refusal cannot be signed", "error", err)
		text(w, http.StatusServiceUnavailable, "try again later")
		return
	}
	reply(w, "application/x-pki-message", out)
}

// answer carries out a request that could be read. Its error is a *Failure, a *tooMany, or a fault for which the client may try again.
func (d *Door) answer(ctx context.Context, is *issuer, responder *Responder, req *Request, remote string) (out []byte, err error) {
	var cert *x509.Certificate
	switch req.MessageType {
	case PKCSReq, RenewalReq:
		cert, err = d.enrol(ctx, is, req, remote)
	case CertPoll:
		cert, err = d.poll(ctx, is, req, remote)
	case GetCert:
		cert, err = d.getCert(ctx, is, req)
	case GetCRL:
		return d.getCRL(is, responder, req)
	default:
		return nil, fail(BadRequest, nil, "%s is not supported", req.MessageType)
	}
	if errors.Is(err, errPending) {
		return responder.Pending(req)
	}
	if err != nil {
		return nil, err
	}
	return responder.Success(req, cert, nil)
}

// tooMany: the device has to wait.
type tooMany struct{ wait time.Duration }

func (t *tooMany) Error() string { return "too many requests of this device" }

// later is an answer for now.
func later(w http.ResponseWriter, status int, wait time.Duration, message string) {
	w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
	text(w, status, message)
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
