package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/trust"
)

// Limits of pending requests. Only open ones count.
const (
	PendingTTL          = 7 * 24 * time.Hour
	MaxPendingPerDevice = 5
	MaxPending          = 10_000
)

// ErrPendingFull: the device, or everybody together, has as many open requests as there may be.
var ErrPendingFull = fmt.Errorf("too many requests are pending: %w", trust.ErrForbidden)

// PendingState is where a pending request stands.
type PendingState string

// The states of a pending request. It is open while it is waiting or approved.
const (
	PendingWaiting  PendingState = "waiting"
	PendingApproved PendingState = "approved" // the certificate is issued at the client's next poll
	PendingRejected PendingState = "rejected"
	PendingIssued   PendingState = "issued"
	PendingExpired  PendingState = "expired"
)

// Pending is a SCEP request that waits for an administrator (RFC 8894, section 3.3.2.2): all that is needed to issue later, and to say why not now.
type Pending struct {
	ID            string           `json:"id"` // the reference of the decision that made it pending
	Issuer        string           `json:"issuer"`
	TransactionID string           `json:"transaction_id"`
	MessageType   string           `json:"message_type"`
	State         PendingState     `json:"state"`
	Device        trust.DeviceID   `json:"device"`
	Owner         string           `json:"owner"`
	Evidence      trust.Evidence   `json:"evidence"`
	Reasons       []trust.Reason   `json:"reasons"`
	Created       time.Time        `json:"created"`
	Expires       time.Time        `json:"expires"`
	Decided       time.Time        `json:"decided"` // when it was approved or rejected
	By            *trust.Principal `json:"by,omitempty"`
	Comment       string           `json:"comment,omitempty"`
	Serial        trust.Serial     `json:"certificate,omitempty"` // what was issued
	IssuedAt      time.Time        `json:"issued_at"`
	CSR           []byte           `json:"csr"`                 // DER
	Signer        []byte           `json:"signer"`              // DER of the certificate that signed the request
	Challenge     string           `json:"challenge,omitempty"` // its hash; reserved, if it is the evidence
	Transaction   string           `json:"transaction"`         // key of the SCEP transaction
	Key           string           `json:"key"`                 // by which the client finds the request
}

// Open reports whether the request can still lead to a certificate.
func (p Pending) Open() bool { return p.State == PendingWaiting || p.State == PendingApproved }

// Same reports whether x, signed by the same key, is this very request once more. The signer's certificate may be another one: clients make a new
// self-signed one for each message.
func (p Pending) Same(x Transaction) bool {
	return p.MessageType == x.MessageType && p.Challenge == challengeHash(x.Challenge) && sha256.Sum256(p.CSR) == x.CSR
}

func challengeHash(secret string) string {
	if secret == "" {
		return ""
	}
	return hashSecret(secret)
}

// brief is the request for the audit, without what is long.
func (p Pending) brief() Pending {
	p.CSR, p.Signer = nil, nil
	return p
}

// pendingKey is unique by issuer, transactionID and signing key (SHA-256 of its SubjectPublicKeyInfo).
func pendingKey(issuer, transactionID string, spki [32]byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s%d:%s", len(issuer), issuer, len(transactionID), transactionID)
	h.Write(spki[:])
	return "key/" + hex.EncodeToString(h.Sum(nil))
}

// Keys in the table: the request, and the index of open ones, whose values are when they expire.
func pendingID(id string) string { return "id/" + id }

func pendingOpen(p Pending) string { return "open/" + string(p.Device) + "/" + p.ID }

// readPending returns a request as it stands at that time.
func readPending(rd Reader, id string, now time.Time) (Pending, error) {
	p, err := get[Pending](rd, tablePending, pendingID(id))
	if errors.Is(err, trust.ErrNotFound) {
		return p, fmt.Errorf("pending request %q: %w", id, trust.ErrNotFound)
	}
	return p.at(now), err
}

func (p Pending) at(now time.Time) Pending {
	if p.Open() && !now.Before(p.Expires) {
		p.State = PendingExpired
	}
	return p
}

// reserved says whether the challenge is kept for a request that may still be issued.
func reserved(rd Reader, id string, now time.Time) error {
	p, err := readPending(rd, id, now)
	switch {
	case errors.Is(err, trust.ErrNotFound):
		return nil
	case err != nil:
		return err
	case p.Open():
		return ErrChallengePending
	}
	return nil
}

// Pend stores a request as pending, under x and the key that signed it, and reserves its challenge: nobody else can use it, and it is spent when the
// certificate is issued. The same request again returns what is stored; another one under the same transactionID and key takes the place of a request
// whose challenge it does not need. Too many open ones are ErrPendingFull.
func (r *Registry) Pend(ctx context.Context, by trust.Principal, p Pending, x Transaction, spki [32]byte) (Pending, error) {
	p.Key, p.Transaction, p.Challenge = pendingKey(p.Issuer, p.TransactionID, spki), x.key(), challengeHash(x.Challenge)
	out := p
	_, err := r.update(ctx, by, ActPend, string(p.Device), func(t *txn) error {
		out = p
		out.State, out.Created, out.Expires = PendingWaiting, t.now.UTC(), t.now.Add(PendingTTL).UTC()
		if old, ok := t.Get(tablePending, out.Key); ok {
			was, err := readPending(t, string(old), t.now)
			if err == nil && was.Open() && was.Same(x) {
				out = was
				return nil
			}
			if err != nil && !errors.Is(err, trust.ErrNotFound) {
				return err
			}
			if err == nil && was.Open() && spends(was.Evidence.Kind) && was.Challenge == out.Challenge {
				return ErrChallengePending
			}
			if err == nil {
				t.dropPending(was)
			}
		}
		if _, taken := t.Get(tablePending, pendingID(out.ID)); taken {
			return fmt.Errorf("pending request %s exists: %w", out.ID, trust.ErrConflict)
		}
		if err := t.roomForPending(out.Device); err != nil {
			return err
		}
		if err := t.reserve(out); err != nil {
			return err
		}
		t.Put(tablePending, out.Key, []byte(out.ID))
		return t.putPending(out, AuditEntry{Action: ActPend, Detail: "request " + out.ID, After: snapshot(out.brief())})
	})
	return out, err
}

// roomForPending counts the open requests.
func (t *txn) roomForPending(d trust.DeviceID) error {
	all, own := 0, 0
	t.Scan(tablePending, "open/", "", func(key string, expires []byte) bool {
		if string(expires) > seqKey(uint64(t.now.Unix())) {
			all++
			if strings.HasPrefix(key, "open/"+string(d)+"/") {
				own++
			}
		}
		return all < MaxPending && own < MaxPendingPerDevice
	})
	if all >= MaxPending || own >= MaxPendingPerDevice {
		return ErrPendingFull
	}
	return nil
}

// reserve checks that the device may get a certificate, and keeps the challenge for the request.
func (t *txn) reserve(p Pending) error {
	d, err := t.enrolable(trust.Certificate{Device: p.Device, Issuer: p.Issuer, Owner: p.Owner})
	if err != nil || !spends(p.Evidence.Kind) {
		return err
	}
	ch, err := get[Challenge](t, tableChallenges, p.Challenge)
	if errors.Is(err, trust.ErrNotFound) || err == nil && !ch.fits(p.Issuer, p.Device, p.Evidence.Kind) {
		return ErrChallengeUnknown
	}
	if err != nil {
		return err
	}
	if err := usable(t, ch, d, t.now); err != nil {
		return err
	}
	ch.bind(d)
	ch.Pending = p.ID
	return put(t, tableChallenges, p.Challenge, ch)
}

// putPending stores the request with its index entry, and audits.
func (t *txn) putPending(p Pending, e AuditEntry) error {
	if p.Open() {
		t.Put(tablePending, pendingOpen(p), []byte(seqKey(uint64(p.Expires.Unix()))))
	} else {
		t.Delete(tablePending, pendingOpen(p))
	}
	if err := put(t, tablePending, pendingID(p.ID), p); err != nil {
		return err
	}
	t.Touch(KindPending, p.ID)
	e.Object = string(p.Device)
	return t.audit(e)
}

// dropPending removes a request; a challenge that was reserved for it is free again.
func (t *txn) dropPending(p Pending) {
	t.Delete(tablePending, pendingOpen(p))
	t.Delete(tablePending, pendingID(p.ID))
	if id, _ := t.Get(tablePending, p.Key); string(id) == p.ID { // or another request has taken its place
		t.Delete(tablePending, p.Key)
	}
	t.Touch(KindPending, p.ID)
}

// Pending returns the request that was made pending under a transactionID by the key, or trust.ErrNotFound.
func (r *Registry) Pending(ctx context.Context, issuer, transactionID string, spki [32]byte) (p Pending, err error) {
	err = r.view(ctx, func(rd Reader) error {
		id, ok := rd.Get(tablePending, pendingKey(issuer, transactionID, spki))
		if !ok {
			return fmt.Errorf("pending request: %w", trust.ErrNotFound)
		}
		p, err = readPending(rd, string(id), r.now())
		return err
	})
	return p, err
}

// PendingByID returns one request by its id, as somebody heard it.
func (r *Registry) PendingByID(ctx context.Context, id string) (p Pending, err error) {
	err = r.view(ctx, func(rd Reader) error {
		p, err = readPending(rd, trust.ParseReference(id), r.now())
		return err
	})
	return p, err
}

// PendingFilter selects pending requests. Zero fields do not filter.
type PendingFilter struct {
	Issuer string
	Device trust.DeviceID
	State  PendingState
	After  string // id of the last request of the previous page
	Limit  int
}

// PendingRequests lists requests by id, which is the order in which they came, without CSR and signer.
func (r *Registry) PendingRequests(ctx context.Context, f PendingFilter) (out []Pending, err error) {
	now, after := r.now(), ""
	if f.After != "" {
		after = pendingID(trust.ParseReference(f.After))
	}
	err = r.view(ctx, func(rd Reader) error {
		out, err = list(rd, tablePending, "id/", after, pageLimit(f.Limit), func(p Pending) bool {
			return (f.Issuer == "" || p.Issuer == f.Issuer) && (f.Device == "" || p.Device == f.Device) && (f.State == "" || p.at(now).State == f.State)
		})
		return err
	})
	for i := range out {
		out[i] = out[i].at(now).brief()
	}
	return out, err
}

// Approve lets a waiting request lead to a certificate: everything is checked again when the client polls. Approving it twice changes nothing.
func (r *Registry) Approve(ctx context.Context, by trust.Principal, id, comment string) (Pending, error) {
	return r.settlePending(ctx, by, ActApprove, id, comment, PendingApproved)
}

// Reject refuses a request that is waiting or approved, for good; its challenge is void.
func (r *Registry) Reject(ctx context.Context, by trust.Principal, id, comment string) (Pending, error) {
	return r.settlePending(ctx, by, ActReject, id, comment, PendingRejected)
}

func (r *Registry) settlePending(ctx context.Context, by trust.Principal, action, id, comment string, to PendingState) (p Pending, err error) {
	if !plain(comment, 1000) {
		return p, fmt.Errorf("comment longer than 1000 bytes or with control characters: %w", trust.ErrInvalid)
	}
	id = trust.ParseReference(id)
	_, err = r.update(ctx, by, action, id, func(t *txn) error {
		if p, err = readPending(t, id, t.now); err != nil {
			return err
		}
		if p.State == to {
			return nil
		}
		if !p.Open() {
			return fmt.Errorf("request is %s: %w", p.State, trust.ErrConflict)
		}
		before := snapshot(p.brief())
		p.State, p.Decided, p.By, p.Comment = to, t.now.UTC(), &by, comment
		if to == PendingRejected && spends(p.Evidence.Kind) {
			if err := t.voidChallenge(p.Challenge); err != nil {
				return err
			}
		}
		return t.putPending(p, AuditEntry{Action: action, Detail: strings.TrimSpace("request " + id + " " + comment), Before: before, After: snapshot(p.brief())})
	})
	return p, err
}

// voidChallenge ends a challenge's life.
func (t *txn) voidChallenge(hash string) error {
	ch, err := get[Challenge](t, tableChallenges, hash)
	if errors.Is(err, trust.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if t.now.Before(ch.Expires) {
		ch.Expires = t.now.UTC()
	}
	return put(t, tableChallenges, hash, ch)
}

// SweepPending removes at most limit requests that expired, and returns how many. Their challenges are free again, if they live that long.
func (r *Registry) SweepPending(ctx context.Context, by trust.Principal, limit int) (n int, err error) {
	var old []Pending
	err = r.view(ctx, func(rd Reader) error {
		old, err = list(rd, tablePending, "id/", "", pageLimit(limit), func(p Pending) bool { return !r.now().Before(p.Expires) })
		return err
	})
	if err != nil || len(old) == 0 {
		return 0, err
	}
	_, err = r.update(ctx, by, ActPend, "expired requests", func(t *txn) error {
		n = 0
		for _, p := range old {
			t.dropPending(p)
			n++
		}
		return t.audit(AuditEntry{Action: ActPend, Object: "expired requests", Detail: fmt.Sprintf("%d removed", n)})
	})
	return n, err
}
