package mdm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// intuneAppID is Intune's own application, whose service principal in a tenant lists where its services are for that tenant.
const intuneAppID = "0000000a-0000-0000-c000-000000000000"

// service is a part of Intune, with the version of its interface.
type service struct{ name, version string }

var (
	scepService       = service{"ScepRequestValidationFEService", "2018-02-20"}
	revocationService = service{"PkiConnectorFEService", "5019-05-05"}
)

// maxServices bounds the list of services; Intune has some dozens.
const maxServices = 1000

// services remembers where the services are.
type services struct {
	gate  gate              // guards where; one discovery at a time
	where map[string]string // by lower-case name; nil: not known
}

// call posts the body to a service and returns its answer. A failed exchange makes it look anew where the service is, and try once more.
func (n *Intune) call(ctx context.Context, s service, path string, body any, limit int) (object, error) {
	raw, err := encode(body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
	defer cancel()
	what := "intune " + path
	for attempt := 1; ; attempt++ {
		base, err := n.locate(ctx, s)
		if err != nil {
			return nil, err
		}
		answer, err := n.send(ctx, what, base+"/"+path, n.cfg.ResourceURL+"/.default", s.version, raw, limit)
		if err == nil {
			o, err := decodeObject(answer)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
			return o, nil
		}
		var f *httpFault
		if !errors.As(err, &f) {
			return nil, err
		}
		if f.retryAfter == 0 && f.status != http.StatusTooManyRequests { // who is busy has not moved, and a discovery for each request would add to it
			n.relocate(ctx)
		}
		if attempt == 2 || ctx.Err() != nil || !again(f) {
			return nil, err
		}
	}
}

// again reports whether the same request may succeed a moment later, or elsewhere. Who asks for a pause gets it, from the client that tries again.
func again(f *httpFault) bool {
	return f.retryAfter == 0 && (f.status == 0 || f.status == http.StatusNotFound || f.status == http.StatusGone || f.status >= 500)
}

// send makes one request with a token. A refused token is replaced once: it may have been revoked before it expired.
func (n *Intune) send(ctx context.Context, what, target, scope, version string, body []byte, limit int) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		t, err := n.tokens.get(ctx, scope)
		if err != nil {
			return nil, err
		}
		header := http.Header{"Authorization": {"Bearer " + t.reveal()}, "Client-Request-Id": {newGUID()}, "Accept": {"application/json"}}
		if body != nil {
			header.Set("Content-Type", "application/json; charset=utf-8")
			header.Set("Api-Version", version)
		}
		answer, err := exchange(ctx, n.client, what, target, header, body, limit)
		var f *httpFault
		if attempt == 2 || !errors.As(err, &f) || f.status != http.StatusUnauthorized {
			return answer, err
		}
		n.tokens.drop(ctx, scope, t)
	}
}

// locate returns the address of a service without a final slash.
func (n *Intune) locate(ctx context.Context, s service) (string, error) {
	l := n.services
	if err := l.gate.enter(ctx); err != nil {
		return "", fmt.Errorf("find %s: %w", s.name, err)
	}
	defer l.gate.leave()
	if l.where == nil {
		where, err := n.discover(ctx)
		if err != nil {
			return "", err
		}
		l.where = where
	}
	address := l.where[strings.ToLower(s.name)]
	if address == "" {
		l.where = nil
		return "", fmt.Errorf("find %s: the tenant does not list it: is Intune licensed here, and has an administrator consented?", s.name)
	}
	// The address gets our token: it must not be readable on the way.
	if err := safeURL(address); err != nil {
		l.where = nil
		return "", fmt.Errorf("find %s: %w", s.name, err)
	}
	return address, nil
}

// relocate forgets where the services are.
func (n *Intune) relocate(ctx context.Context) {
	if n.services.gate.enter(ctx) != nil {
		return
	}
	defer n.services.gate.leave()
	n.services.where = nil
}

// discover asks Microsoft Graph.
func (n *Intune) discover(ctx context.Context) (map[string]string, error) {
	const what = "discover services of Intune"
	target := n.cfg.GraphURL + "/v1.0/servicePrincipals/appId=" + intuneAppID + "/endpoints"
	answer, err := n.send(ctx, what, target, n.cfg.GraphURL+"/.default", "", nil, maxAnswer)
	if err != nil {
		return nil, err
	}
	o, err := decodeObject(answer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	list, err := o.list("value", maxServices)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	where := map[string]string{}
	for _, e := range list {
		uri, err := e.text("uri", 2048)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		for _, field := range []string{"serviceName", "providerName"} { // it has had both names
			name, err := e.text(field, 256)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
			if name != "" && uri != "" {
				where[strings.ToLower(name)] = strings.TrimRight(uri, "/")
			}
		}
	}
	return where, nil
}

// newGUID returns a random GUID (RFC 9562, section 5.4), by which Microsoft's support finds a request.
func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
