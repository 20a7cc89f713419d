package revocation

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
)

// HandlerOf serves one CRL, whatever it says, as the distribution point does.
func (p *Publisher) HandlerOf(body []byte) http.Handler {
	h := &handler{p: p}
	now := p.cfg.Now()
	d := document{body: body, contentType: typeCRL, etag: `"x"`, since: now.Add(-time.Hour), maxAge: baseMaxAge,
		record: registry.CRL{Number: 1, NextPublish: now.Add(time.Hour), NextUpdate: now.Add(time.Hour)}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, d) })
}

// OCSPCached is how many signed OCSP answers are kept.
func (p *Publisher) OCSPCached() int { return p.ocsp.size() }

// OCSPCacheLimit is how many there can be.
const OCSPCacheLimit = ocspShards * ocspShardLimit

// FillOCSPCache puts answers for n certificates into a cache, and returns how many are in it then.
func FillOCSPCache(n int) int {
	var c ocspCache
	for i := range n {
		c.put(append(fmt.Appendf(nil, "%d", i), byte(i)), &ocspAnswer{})
	}
	return c.size()
}

func (p *Publisher) authority(id string) *authority {
	for _, a := range p.authorities() {
		if a.id == id {
			return a
		}
	}
	return nil
}

// Step publishes what is due of a CA.
func (p *Publisher) Step(ctx context.Context, id string) error {
	_, _, err := p.authority(id).step(ctx, nil)
	return err
}

// DraftBase makes, signs and checks a base of a CA, and publishes nothing.
func (p *Publisher) DraftBase(ctx context.Context, id string) error {
	a := p.authority(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	known, err := a.registry.CRLs(ctx, a.name, a.id)
	if err != nil {
		return err
	}
	d := &draft{known: known, after: greatestNumber(known), old: a.served.Load()}
	d.next = *d.old
	for _, c := range known {
		d.rise(c)
	}
	if err := a.signBase(ctx, d); err != nil {
		return err
	}
	if gone := d.suspects(a.ledger); len(gone) > 0 {
		return fmt.Errorf("%d entries vanished", len(gone))
	}
	return nil
}

// RequestedBase publishes a base of a CA now.
func (p *Publisher) RequestedBase(ctx context.Context, id string) error {
	a := p.authority(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.publish(ctx, true)
}

// BreakDisk lets every CRL that is written fail in the middle with err, until it is called with nil.
func (p *Publisher) BreakDisk(id string, err error) {
	a := p.authority(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files.write = (*os.File).Write
	if err != nil {
		a.files.write = func(f *os.File, b []byte) (int, error) {
			n, _ := f.Write(b[:len(b)/2])
			return n, err
		}
	}
}

// BreakSigner lets every signature of CRLs fail with err, until it is called with nil.
func (p *Publisher) BreakSigner(id string, err error) {
	a := p.authority(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.signCRL = a.issuer.SignCRL
	if err != nil {
		a.signCRL = func(context.Context, string, ca.CRL) (*ca.List, error) { return nil, err }
	}
}
