package edge

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// connection is what the edge remembers of a TLS connection: the client certificate and whether it chains to our CAs. Its standing is
// remembered only together with what says that it is still the same, see known.
type connection struct {
	leaf        *x509.Certificate // nil without one
	fingerprint string            // SHA-256 of the DER, lower-case hex
	serial      trust.Serial
	upstream    resting
	known       [knownCommands]atomic.Pointer[known]

	next atomic.Uint32 // the place in known to be taken next

	mu    sync.Mutex
	chain chain
}

// chain is the outcome of verifying a certificate, true for as long as the anchors are the same.
type chain struct {
	anchors *anchors
	tenant  string
	issuer  string // empty: untrusted
}

type connectionKey struct{}

// withConnection puts what is known of a connection into the context of its requests.
func withConnection(ctx context.Context, state tls.ConnectionState) context.Context {
	return context.WithValue(ctx, connectionKey{}, newConnection(&state))
}

func newConnection(state *tls.ConnectionState) *connection {
	c := &connection{}
	if state != nil && len(state.PeerCertificates) > 0 {
		c.leaf = state.PeerCertificates[0]
		sum := sha256.Sum256(c.leaf.Raw)
		c.fingerprint = hex.EncodeToString(sum[:])
		if c.leaf.SerialNumber.Sign() > 0 {
			c.serial = trust.SerialOf(c.leaf.SerialNumber)
		}
	}
	return c
}

// issuer returns the issuer at tenant ("": at any) whose CA signed the certificate; empty for a stranger's. The signature and the CA are checked at a
// time within the certificate's validity, so that one of ours that has expired is told from one that never was ours.
func (c *connection) issuer(a *anchors, tenant string, now time.Time) string {
	if c.leaf == nil || c.serial == "" {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chain.anchors == a && c.chain.tenant == tenant {
		return c.chain.issuer
	}
	c.chain = chain{anchors: a, tenant: tenant}
	at := now
	if at.Before(c.leaf.NotBefore) {
		at = c.leaf.NotBefore
	} else if at.After(c.leaf.NotAfter) {
		at = c.leaf.NotAfter
	}
	chains, err := c.leaf.Verify(x509.VerifyOptions{Roots: a.pool(tenant), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err == nil && len(chains) > 0 && len(chains[0]) == 2 {
		c.chain.issuer = a.issuerOf(chains[0][1])
	}
	return c.chain.issuer
}

// certificate returns the facts of the client certificate at a moment, and when it was first used; the zero time for not yet.
func (e *Edge) certificate(x *registry.Reading, c *connection, tenant string, now time.Time) (f policy.CertFacts, used time.Time) {
	f.Status = "none"
	if c.leaf == nil {
		return f, used
	}
	f.Present = true
	f.Issuer = c.issuer(e.anchors.Load(), tenant, now)
	if f.Issuer == "" {
		f.Problem = "untrusted"
		return f, used
	}
	f.Serial, f.NotAfter = string(c.serial), c.leaf.NotAfter.Unix()
	known, ok := x.Certificate(f.Issuer, c.serial)
	if !ok || known.Fingerprint != c.fingerprint {
		// Signed by our CA, and not in the registry: the signature alone admits nobody.
		f.Problem = "unknown"
		return f, used
	}
	f.Status, f.Device, f.Reason = string(known.Status), string(known.Device), string(known.Reason)
	f.ChangedAt = policy.Seconds(known.ChangedAt)
	f.SuccessorFirstUse = successorFirstUse(x, f.Issuer, known.Successor)
	if known.Status == trust.Superseded {
		// Accepted for a grace only for the sake of its successor: on hold or revoked with it.
		if next, ok := x.Certificate(f.Issuer, current(x, f.Issuer, known)); ok && (next.Status == trust.Held || next.Status == trust.Revoked) {
			f.Status, f.Reason = string(next.Status), string(next.Reason)
			f.ChangedAt = policy.Seconds(next.ChangedAt)
		}
	}
	switch {
	case !slices.Contains(c.leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		f.Problem = "wrong_usage"
	case now.Before(c.leaf.NotBefore):
		f.Problem = "not_yet_valid"
	case !now.Before(c.leaf.NotAfter):
		f.Problem = "expired"
	}
	return f, known.FirstUsed
}

// current follows the successors of a certificate to the last.
func current(x *registry.Reading, issuer string, c registry.CertFact) trust.Serial {
	for range maxSuccessors {
		next, ok := x.Certificate(issuer, c.Successor)
		if !ok || c.Successor == "" {
			break
		}
		c = next
	}
	return c.Serial
}

// maxSuccessors bounds how far a chain of renewals is followed.
const maxSuccessors = 16

// successorFirstUse returns when the first of a certificate's successors was used: one that was renewed before it was ever used must not leave its
// predecessor without an end.
func successorFirstUse(x *registry.Reading, issuer string, s trust.Serial) int64 {
	var first time.Time
	for range maxSuccessors {
		next, ok := x.Certificate(issuer, s)
		if s == "" || !ok {
			break
		}
		if !next.FirstUsed.IsZero() && (first.IsZero() || next.FirstUsed.Before(first)) {
			first = next.FirstUsed
		}
		s = next.Successor
	}
	return policy.Seconds(first)
}
