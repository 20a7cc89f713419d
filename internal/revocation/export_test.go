package revocation

import (
	"fmt"
	"net/http"
	"time"

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
