package edge

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"postern/internal/eas"
)

// autodiscoverXML answers POX Autodiscover for the mail domains of the issuers, pointing here (MS-ASCMD, section 2.2.1.1). Other domains are not served: it
// says so, and leads nowhere.
func (e *Edge) autodiscoverXML(w http.ResponseWriter, r *http.Request, tenant string) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer(w, "", http.StatusMethodNotAllowed, "", nil)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, eas.MaxAutodiscover+1))
	if err != nil || len(body) > eas.MaxAutodiscover {
		closeWith(w, http.StatusRequestEntityTooLarge)
		return
	}
	const contentType = "text/xml; charset=utf-8"
	email, err := eas.ParseAutodiscover(body)
	if err == nil && !e.servesMail(tenant, email) {
		err = &eas.AutodiscoverError{Reason: eas.AutodiscoverInvalidAddress}
	}
	if err != nil {
		answer(w, "", http.StatusOK, contentType, eas.AutodiscoverErrorXML(err, e.now()))
		return
	}
	answer(w, "", http.StatusOK, contentType, eas.AutodiscoverXML(email, e.serverURL(r, pathEAS)))
}

// autodiscoverJSON answers the newer form, which iOS asks first.
func (e *Edge) autodiscoverJSON(w http.ResponseWriter, r *http.Request, tenant string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		answer(w, "", http.StatusMethodNotAllowed, "", nil)
		return
	}
	const contentType = "application/json"
	served := []string{eas.ProtocolActiveSync}
	if e.cfg.EWS {
		served = append(served, eas.ProtocolEWS)
	}
	email, protocol, err := eas.ParseAutodiscoverJSON(r.URL.Path, r.URL.RawQuery, served...)
	if err == nil && !e.servesMail(tenant, email) {
		err = &eas.AutodiscoverError{Reason: eas.AutodiscoverInvalidAddress}
	}
	if err != nil {
		answer(w, "", http.StatusBadRequest, contentType, eas.AutodiscoverErrorJSON(err, served...))
		return
	}
	path := pathEAS
	if strings.EqualFold(protocol, eas.ProtocolEWS) {
		path = pathEWSServer
	}
	answer(w, "", http.StatusOK, contentType, eas.AutodiscoverJSON(protocol, e.serverURL(r, path)))
}

func (e *Edge) servesMail(tenant, email string) bool {
	_, domain, _ := strings.Cut(email, "@")
	return e.anchors.Load().serves(tenant, domain)
}

// serverURL is a path of this gate, at the port that the phone used: under the name which it asked, which is one of ours, or under the one that stands for it.
func (e *Edge) serverURL(r *http.Request, path string) string {
	name := hostName(r.Host)
	if known, ok := e.cfg.Names[name]; ok {
		name = known
	}
	return (&url.URL{Scheme: "https", Host: ownAuthority(name, r.Host), Path: path}).String()
}

// ownAuthority is a name of this gate with the port at which it was asked, unless that is the one of https. What a client has put around them, such as the dot
// of the root, is not handed on: certificates do not have it.
func ownAuthority(name, asked string) string {
	port := "443"
	if _, p, err := net.SplitHostPort(asked); err == nil && p != "" {
		port = p
	}
	return strings.TrimSuffix(net.JoinHostPort(name, port), ":443")
}
