package lab

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
)

// The challenges of Exchange Online and of a server with hybrid modern authentication.
const (
	bearerChallenge = `Bearer client_id="00000002-0000-0ff1-ce00-000000000000", trusted_issuers="%s", ` +
		`token_types="app_asserted_user_v1 service_asserted_app_v1", authorization_uri="%s"`
	onlineIssuers    = "00000001-0000-0000-c000-000000000000@*"
	onlineAuthorize  = "https://login.microsoftonline.com/common/oauth2/authorize"
	hybridAuthorize  = "https://login.windows.net/common/oauth2/authorize"
	basicChallenge   = `Basic realm="mail"`
	certificateAuth  = "https://outlook-cba.office365.com" + Path
	invalidTokenText = `2000001;reason="The token is invalid.";error_category="invalid_token"`
)

// authenticate finds the mailbox that a request signs in to, or gives the answer that asks it to.
func (e *Exchange) authenticate(r *http.Request) (*mailbox, answer) {
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	credential = strings.TrimSpace(credential)
	switch {
	case scheme == "" && e.online:
		a := bare(451)
		a.header.Set("X-MS-Location", certificateAuth)
		return nil, a
	case scheme == "":
		a := bare(http.StatusUnauthorized)
		a.header.Add("WWW-Authenticate", basicChallenge)
		return nil, a
	case strings.EqualFold(scheme, "Bearer") && credential != "":
		if box := e.byToken(credential); box != nil {
			return box, answer{}
		}
		a := e.challenge()
		a.header.Set("x-ms-diagnostics", invalidTokenText)
		return nil, a
	case strings.EqualFold(scheme, "Basic") && !e.online:
		if user, password, ok := r.BasicAuth(); ok {
			if box := e.byPassword(user, password); box != nil {
				return box, answer{}
			}
		}
		a := bare(http.StatusUnauthorized)
		a.header.Add("WWW-Authenticate", basicChallenge)
		return nil, a
	}
	return nil, e.challenge()
}

// challenge is HTTP 401 with where to get a token.
func (e *Exchange) challenge() answer {
	a := bare(http.StatusUnauthorized)
	if e.online {
		a.header.Add("WWW-Authenticate", fmt.Sprintf(bearerChallenge+`, error="invalid_token"`, onlineIssuers, onlineAuthorize))
		return a
	}
	issuers := "00000001-0000-0000-c000-000000000000@" + TenantID
	a.header.Add("WWW-Authenticate", fmt.Sprintf(bearerChallenge+`, issuer_kind="AzureAD"`, issuers, hybridAuthorize))
	a.header.Add("WWW-Authenticate", basicChallenge)
	return a
}

func (e *Exchange) byToken(token string) *mailbox {
	e.mu.Lock()
	defer e.mu.Unlock()
	if box := e.tokens[token]; box != nil {
		return box
	}
	return e.mailboxes[tokenUser(token, e.now())]
}

// byPassword takes the address, DOMAIN\name or name alone; the last two only where one mailbox answers to the name.
func (e *Exchange) byPassword(user, password string) *mailbox {
	e.mu.Lock()
	defer e.mu.Unlock()
	box := e.mailboxes[strings.ToLower(user)]
	if box == nil {
		if _, name, ok := strings.Cut(user, `\`); ok {
			user = name
		}
		box = e.byName(user)
	}
	if box == nil || box.password == "" || subtle.ConstantTimeCompare([]byte(box.password), []byte(password)) != 1 {
		return nil
	}
	return box
}

func (e *Exchange) byName(name string) *mailbox {
	var found *mailbox
	for mail, box := range e.mailboxes {
		if local, _, _ := strings.Cut(mail, "@"); strings.EqualFold(local, name) {
			if found != nil {
				return nil
			}
			found = box
		}
	}
	return found
}
