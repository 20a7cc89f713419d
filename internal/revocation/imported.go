package revocation

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// follow serves the imported CRL, and every newer one that the issuer takes up, until ctx ends.
func (a *authority) follow(ctx context.Context) {
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
	s, err := readCRL(der, a.name, a.id, a.cert)
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
