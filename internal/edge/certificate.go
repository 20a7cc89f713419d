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
	digest      [sha256.Size]byte // of the DER
	fingerprint string            // the same in lower-case hex
	serial      trust.Serial
	upstream    resting
	known       [knownCommands]atomic.Pointer[known]
	owner       atomic.Pointer[ownersFacts] // of the certificate's device

	next atomic.Uint32 // the place in known to be taken next

	mu    sync.Mutex
	chain chain
}

// chain is the outcome of verifying a certificate, true for as long as the anchors are the same.
type chain struct {
	anchors *anchors
	tenant  string
	issuer  string // empty: untrusted
	named   string // the certificate, as changes in the registry name it
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
		c.digest = sha256.Sum256(c.leaf.Raw)
		c.fingerprint = hex.EncodeToString(c.digest[:])
		if c.leaf.SerialNumber.Sign() > 0 {
			c.serial = trust.SerialOf(c.leaf.SerialNumber)
		}
	}
	return c
}

// issuer returns the issuer at tenant ("": at any) whose CA signed the certificate, empty for a stranger's, and how changes name the certificate. The signature and the CA are checked at a
// time within the certificate's validity, so that one of ours that has expired is told from one that never was ours.
func (c *connection) issuer(a *anchors, tenant string, now time.Time) (issuer, named string) {
	if c.leaf == nil || c.serial == "" {
		return "", noCertificate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chain.anchors == a && c.chain.tenant == tenant {
		return c.chain.issuer, c.chain.named
	}
	c.chain = chain{anchors: a, tenant: tenant, named: noCertificate}
	at := now
	if at.Before(c.leaf.NotBefore) {
		at = c.leaf.NotBefore
	} else if at.After(c.leaf.NotAfter) {
		at = c.leaf.NotAfter
	}
	chains, err := c.leaf.Verify(x509.VerifyOptions{Roots: a.pool(tenant), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err == nil && len(chains) > 0 && len(chains[0]) == 2 {
		if c.chain.issuer = a.issuerOf(chains[0][1]); c.chain.issuer != "" {
			c.chain.named = c.chain.issuer + "/" + string(c.serial)
		}
	}
	return c.chain.issuer, c.chain.named
}

// certificate fills in the facts of the client certificate at a moment. It returns how changes name it, and its own standing, which a certificate that is not in the
// registry has none of.
func (e *Edge) certificate(x *registry.Reading, f *policy.CertFacts, c *connection, tenant string, now time.Time) (named string, own registry.Standing) {
	f.Status = "none"
	if c.leaf == nil {
		return noCertificate, own
	}
	f.Present = true
	if f.Issuer, named = c.issuer(e.anchors.Load(), tenant, now); f.Issuer == "" {
		f.Problem = "untrusted"
		return named, own
	}
	f.Serial, f.NotAfter = string(c.serial), c.leaf.NotAfter.Unix()
	known, ok := x.Standing(f.Issuer, c.serial)
	if !ok || !known.Is(&c.digest) {
		// Signed by our CA, and not in the registry: the signature alone admits nobody.
		f.Problem = "unknown"
		return named, own
	}
	f.Status, f.Device, f.Reason, f.ChangedAt = string(known.Status), string(known.Device), string(known.Reason), known.ChangedAt
	last := superseded(x, f, &known)
	if known.Status == trust.Superseded && (last.Status == trust.Held || last.Status == trust.Revoked) {
		// Accepted for a grace only for the sake of its successor: on hold or revoked with it.
		f.Status, f.Reason, f.ChangedAt = string(last.Status), string(last.Reason), last.ChangedAt
	}
	switch {
	case !slices.Contains(c.leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		f.Problem = "wrong_usage"
	case now.Before(c.leaf.NotBefore):
		f.Problem = "not_yet_valid"
	case !now.Before(c.leaf.NotAfter):
		f.Problem = "expired"
	}
	return named, known
}

// maxSuccessors bounds how far a chain of renewals is followed.
const maxSuccessors = 16

// superseded follows the successors of a certificate and returns the last, which may be itself. It fills in when the first of them was used: one that was renewed
// before it was ever used must not leave its predecessor without an end.
func superseded(x *registry.Reading, f *policy.CertFacts, c *registry.Standing) (last registry.Standing) {
	last = *c
	for range maxSuccessors {
		next, ok := x.Successor(&last)
		if !ok {
			break
		}
		if next.FirstUsed != 0 && (f.SuccessorFirstUse == 0 || next.FirstUsed < f.SuccessorFirstUse) {
			f.SuccessorFirstUse = next.FirstUsed
		}
		last = next
	}
	return last
}
