package revocation

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"postern/internal/ca"
	"postern/internal/trust"
)

const (
	typeOCSPRequest  = "application/ocsp-request"
	typeOCSPResponse = "application/ocsp-response"
	maxOCSPPath      = 1024 // characters of base64; RFC 9919, section 5, has clients use GET up to 255 octets in all
	maxIndexAge      = time.Minute
)

// responder answers for the CAs of one issuer.
type responder struct {
	p      *Publisher
	issuer *ca.Issuer
	site   *site
}

// serveOCSP answers one request, where rest is "{issuer}" or "{issuer}/{base64}", still escaped. What is wrong with the request itself is said in OCSP's own
// words with HTTP status 200 (RFC 6960, section 4.2.1 and appendix A).
func (h *handler) serveOCSP(w http.ResponseWriter, r *http.Request, rest string) {
	name, encoded, _ := strings.Cut(rest, "/")
	o, ok := h.ocsp[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	var raw []byte
	var err error
	switch r.Method {
	case http.MethodGet:
		raw, err = decodeOCSPPath(encoded)
	case http.MethodPost:
		if t, _, terr := mime.ParseMediaType(r.Header.Get("Content-Type")); encoded != "" || r.Header.Get("Content-Type") != "" && (terr != nil || t != typeOCSPRequest) {
			http.Error(w, "want "+typeOCSPRequest+" to /ocsp/"+name, http.StatusUnsupportedMediaType)
			return
		}
		raw, err = io.ReadAll(io.LimitReader(r.Body, ca.MaxOCSPRequest+1)) // ParseOCSPRequest refuses the octet too many
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if err != nil {
		writeOCSP(w, ca.OCSPErrorResponse(ca.OCSPMalformedRequest))
		return
	}
	o.answer(w, r, raw)
}

// decodeOCSPPath reads the request in the path of a GET (RFC 6960, appendix A.1): url-escaped base64. Padding may be missing, and a blank is what some
// proxies make of '+'.
func decodeOCSPPath(escaped string) ([]byte, error) {
	if len(escaped) > 3*maxOCSPPath {
		return nil, errors.New("OCSP request in path: too long")
	}
	s, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, fmt.Errorf("OCSP request in path: %w", err)
	}
	if len(s) > maxOCSPPath {
		return nil, errors.New("OCSP request in path: too long")
	}
	s = strings.TrimRight(strings.ReplaceAll(s, " ", "+"), "=")
	raw, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("OCSP request in path: %w", err)
	}
	return raw, nil
}

// answer parses the request and answers it.
func (o *responder) answer(w http.ResponseWriter, r *http.Request, raw []byte) {
	req, err := ca.ParseOCSPRequest(raw)
	if err != nil {
		writeOCSP(w, ca.OCSPErrorResponse(ca.OCSPMalformedRequest))
		return
	}
	// One response has one signer: certificates of several CAs are asked for one by one (RFC 9919 allows one to a request anyway).
	id, ok := o.issuer.CAOf(req.IDs[0])
	for _, other := range req.IDs[1:] {
		next, found := o.issuer.CAOf(other)
		ok = ok && found && next == id
	}
	if !ok {
		writeOCSP(w, ca.OCSPErrorResponse(ca.OCSPUnauthorized))
		return
	}
	now := o.p.cfg.Now().UTC()
	a, err := o.answered(r.Context(), id, req, now)
	if err != nil {
		o.p.cfg.Log.ErrorContext(r.Context(), "cannot answer OCSP", "issuer", o.issuer.Spec().ID, "ca", id, "error", err)
		writeOCSP(w, ca.OCSPErrorResponse(ca.OCSPTryLater))
		return
	}
	if r.Method == http.MethodGet && req.Nonce == nil {
		o.cacheable(w.Header(), a, now)
		if r.Header.Get("If-None-Match") == a.etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	writeOCSP(w, a.der)
}

// answered looks the certificates up and returns an answer that says what is known of them now: one that was signed before, or a new one.
func (o *responder) answered(ctx context.Context, id string, req *ca.OCSPRequest, now time.Time) (*ocspAnswer, error) {
	// An index that has lost the store would call a revoked certificate good.
	if age := now.Sub(o.p.cfg.Index.Heard()); age > maxIndexAge {
		return nil, fmt.Errorf("answer OCSP: the registry has not been heard of for %s", age)
	}
	from := now.Truncate(time.Second)
	answers := make([]ca.OCSPAnswer, len(req.IDs))
	for i, cid := range req.IDs {
		answers[i] = ca.OCSPAnswer{ID: cid, Status: ca.OCSPUnknown, ThisUpdate: from, NextUpdate: from.Add(o.p.cfg.OCSP.Lifetime)}
		if cid.Serial.Sign() > 0 {
			o.look(&answers[i], id, trust.SerialOf(cid.Serial))
		}
	}
	// What was never issued is signed each time it is asked for: there is no end of such numbers.
	keep := len(answers) == 1 && req.Nonce == nil && answers[0].Status != ca.OCSPUnknown
	if keep {
		if a := o.p.ocsp.get(req.IDs[0].DER(), &answers[0], now); a != nil {
			return a, nil
		}
	}
	der, err := o.issuer.SignOCSP(ctx, id, req.Nonce, answers...)
	if err != nil {
		return nil, err
	}
	a := newOCSPAnswer(&answers[0], der)
	if keep {
		o.p.ocsp.put(req.IDs[0].DER(), a)
	}
	return a, nil
}

// look fills in the status of one certificate of the CA. A superseded one is good here: its time runs out at the edge, not in the PKI.
func (o *responder) look(a *ca.OCSPAnswer, id string, s trust.Serial) {
	if o.site.edition.Load().own[id][s] || o.issuer.Own(id, s.Int()) {
		a.Status = ca.OCSPGood
		if e, ok := o.published(id, s); ok {
			a.Status, a.RevokedAt, a.Reason = ca.OCSPRevoked, e.At(), trust.Unspecified
		}
		return
	}
	c, ok := o.p.cfg.Index.Certificate(o.issuer.Spec().ID, s)
	if !ok || c.CA != id {
		return
	}
	switch c.Status {
	case trust.Good, trust.Superseded:
		a.Status = ca.OCSPGood
		// A registry that was restored from a backup has forgotten what the world was told since: that stays true.
		if e, ok := o.published(id, s); ok && e.At().After(c.ChangedAt) {
			a.Status, a.RevokedAt, a.Reason = ca.OCSPRevoked, e.At(), trust.Unspecified
		}
	case trust.Held:
		a.Status, a.RevokedAt, a.Reason = ca.OCSPRevoked, c.ChangedAt, trust.CertificateHold
	default: // revoked, and whatever this program does not know
		a.Status, a.RevokedAt, a.Reason = ca.OCSPRevoked, c.ChangedAt, c.Reason
	}
	if a.RevokedAt = a.RevokedAt.Truncate(time.Second); a.RevokedAt.After(a.ThisUpdate) {
		a.RevokedAt = a.ThisUpdate // written by a node whose clock is fast
	}
}

// published returns the entry of the CRLs that are served.
func (o *responder) published(id string, s trust.Serial) (ca.Entry, bool) {
	for _, a := range o.site.edition.Load().authorities {
		if a.id == id {
			return a.served.Load().view().find(octetsOf(s))
		}
	}
	return nil, false
}

// cacheable sets the headers that RFC 9919, section 6, asks for. The age is shorter than the answer's life, so that caches learn of a revocation.
func (o *responder) cacheable(h http.Header, a *ocspAnswer, now time.Time) {
	age := max(min(o.p.cfg.OCSP.MaxAge, a.says.NextUpdate.Sub(now)), 0).Truncate(time.Second)
	h.Set("ETag", a.etag)
	h.Set("Last-Modified", a.modified)
	h.Set("Expires", now.Add(age).Format(http.TimeFormat))
	h.Set("Cache-Control", "max-age="+strconv.Itoa(int(age/time.Second))+", public, no-transform, must-revalidate")
}

func writeOCSP(w http.ResponseWriter, der []byte) {
	w.Header().Set("Content-Type", typeOCSPResponse)
	w.Header().Set("Content-Length", strconv.Itoa(len(der)))
	_, _ = w.Write(der) // a client that went away needs no answer
}
