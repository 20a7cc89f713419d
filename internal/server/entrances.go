package server

import (
	"net/http"
	"strings"

	"postern/internal/scep"
)

// entrances are what enrols on the public listeners: SCEP, the pages on which MDMs fetch challenges, and both under the paths of Microsoft's Network Device
// Enrollment Service. There is no ServeMux: its redirects would confuse SCEP clients.
type entrances struct {
	scep  *scep.Door
	pages pages
	ndes  map[string]http.Handler // pages of challenges by issuer
}

// plain is the listener without TLS, in front of what is published. No password is asked for there.
func (e *entrances) plain(published http.Handler) http.Handler { return e.handler(published, false) }

// secure is the one with TLS. CRLs and OCSP stay on plain HTTP: fetching them over TLS would need a CRL.
func (e *entrances) secure() http.Handler { return e.handler(e.pages, true) }

func (e *entrances) handler(rest http.Handler, secure bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/scep/") {
			e.scep.ServeHTTP(w, r)
			return
		}
		issuer, below := e.certsrv(r.URL.Path)
		switch {
		case issuer == "":
			rest.ServeHTTP(w, r)
		case strings.HasPrefix(below, "mscep_admin"):
			if !secure {
				http.Error(w, "challenges are fetched over HTTPS", http.StatusForbidden)
				return
			}
			e.ndes[issuer].ServeHTTP(w, r)
		case strings.HasPrefix(below, "mscep"):
			asked, at := *r, *r.URL
			at.Path, at.RawPath, asked.URL = "/scep/"+issuer, "", &at
			e.scep.ServeHTTP(w, &asked)
		default:
			http.NotFound(w, r)
		}
	})
}

// certsrv splits a path of NDES, whatever its case, as IIS does: /certsrv/... is the only issuer that has the page, /ID/certsrv/... the one that is named.
func (e *entrances) certsrv(path string) (issuer, below string) {
	const dir = "certsrv/"
	path = strings.ToLower(strings.TrimPrefix(path, "/"))
	if below, ok := strings.CutPrefix(path, dir); ok && len(e.ndes) == 1 {
		for id := range e.ndes {
			return id, below
		}
	}
	id, rest, _ := strings.Cut(path, "/")
	if below, ok := strings.CutPrefix(rest, dir); ok && e.ndes[id] != nil {
		return id, below
	}
	return "", ""
}

// pages are handlers by exact path.
type pages map[string]http.Handler

// ServeHTTP implements http.Handler.
func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := p[r.URL.Path]; ok {
		h.ServeHTTP(w, r)
		return
	}
	http.Error(w, "there is nothing here", http.StatusNotFound)
}
