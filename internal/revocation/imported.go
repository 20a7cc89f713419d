package revocation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"postern/internal/registry"
)

// mirror serves the imported CRL, and every newer one that the issuer takes up, until ctx ends.
func (a *authority) mirror(ctx context.Context) {
	t := time.NewTicker(patience) // it may expire
	defer t.Stop()
	for {
		changed := a.issuer.Changed()
		a.take(ctx)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// take serves the CRL that was imported last. One that has expired stays served: it is all there is, and Status says that a new one is needed.
func (a *authority) take(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, err := a.latest(ctx)
	if err == nil && a.now().After(s.record.NextUpdate) {
		err = fmt.Errorf("the imported CRL has expired on %s: sign one where the key of the CA is, and import it", s.record.NextUpdate.Format(time.RFC3339))
	}
	if err == nil {
		a.status.idle()
		return
	}
	a.log.ErrorContext(ctx, "no valid CRL of a CA whose key is not here", "error", err)
	a.status.failed(a.now(), err)
}

func (a *authority) latest(ctx context.Context) (*signed, error) {
	der, err := a.issuer.StoredCRL(a.id)
	if err != nil {
		return nil, err
	}
	if p := a.served.Load(); p != nil && bytes.Equal(p.base.der, der) {
		return p.base, nil
	}
	s, err := a.readImported(der)
	if err != nil {
		return nil, err
	}
	s.since = a.now()
	a.served.Store(&pair{base: s})
	a.log.InfoContext(ctx, "serve an imported CRL", "number", s.record.Number, "entries", s.record.Entries)
	if err := a.files.save(s); err != nil {
		a.log.WarnContext(ctx, "CRL is served from memory only", "error", err)
	} else if err := a.files.serve(s); err != nil {
		a.log.WarnContext(ctx, "CRL is served from memory only", "error", err)
	} else if err := a.files.tidy(s); err != nil {
		a.log.WarnContext(ctx, "old CRLs stay on disk", "error", err)
	}
	return s, nil
}

// readImported reads and verifies a CRL that was signed elsewhere, whatever its form. Its entries are nobody's business here.
func (a *authority) readImported(der []byte) (*signed, error) {
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("parse CRL: %w", err)
	}
	if err := l.CheckSignatureFrom(a.cert); err != nil {
		return nil, fmt.Errorf("verify CRL: %w", err)
	}
	if !bytes.Equal(l.RawIssuer, a.cert.RawSubject) || !bytes.Equal(l.AuthorityKeyId, a.cert.SubjectKeyId) {
		return nil, errors.New("verify CRL: it names another issuer")
	}
	if l.Number == nil || !l.Number.IsUint64() {
		return nil, errors.New("parse CRL: its number does not fit 64 bits")
	}
	sum := hash(sha256.Sum256(der))
	return &signed{der: der, etag: `"` + sum + `"`, record: registry.CRL{Issuer: a.name, CA: a.id, Kind: registry.Base, Number: l.Number.Uint64(),
		ThisUpdate: l.ThisUpdate.UTC(), NextUpdate: l.NextUpdate.UTC(), NextPublish: l.NextUpdate.UTC(), Hash: sum, Size: len(der), Entries: len(l.RevokedCertificateEntries)}}, nil
}
