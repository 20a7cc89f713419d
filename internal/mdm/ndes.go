package mdm

import (
	"crypto/sha1" //nolint:gosec // how devices show a CA's fingerprint, not a protection
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf16"

	"postern/internal/registry"
	"postern/internal/trust"
)

// NDESPath is where MDMs look for the page.
const NDESPath = "/certsrv/mscep_admin/"

// NDESUser is an MDM that may fetch challenges. Its name is that of a Windows account (DOMAIN\user, user@domain, user), in any case and any of these forms.
type NDESUser struct {
	Name     string
	Password Secret // 8 characters or more
	// Unbound allows challenges that are made for no device: MDMs made for NDES cannot say for which they ask. See registry.CreateUnbound.
	Unbound bool
}

// NDESConfig is one issuer's page of challenges.
type NDESConfig struct {
	Name      string // of this source; default "ndes"
	Issuer    string // whose devices may enrol. Required
	Users     []NDESUser
	CA        func() *x509.Certificate // whose thumbprint the page shows: the issuing CA in force. Required
	Registry  *registry.Registry
	Principal trust.Principal // who makes challenges; default: Kind "mdm", Name as above
	TTL       time.Duration   // of a challenge; default registry.DefaultChallengeTTL, as with NDES
	Unbound   int             // challenges for no device that may be open at once; required if a user may have them
	Log       *slog.Logger
	Attempts  *Attempts // wrong passwords of all pages; nil: those of this one alone
}

// NDES is the page on which Microsoft's Network Device Enrollment Service shows challenge passwords, for MDMs that read them from it.
//
// The page has NDES's wording, spacing and encoding (UTF-16, little-endian, with a byte order mark), because its readers are patterns over text. The
// thumbprint is the CA's SHA-1. Authentication is Basic only: clients that insist on NTLM are not served, so the page belongs behind HTTPS. A request
// names its device in the query, as device=, serial= or udid=; one that does not is answered for users that may have unbound challenges.
type NDES struct {
	requester
	users []NDESUser
	ca    func() *x509.Certificate
}

// NewNDES checks the configuration.
func NewNDES(cfg NDESConfig) (*NDES, error) {
	if cfg.Name == "" {
		cfg.Name = "ndes"
	}
	if cfg.TTL == 0 {
		cfg.TTL = registry.DefaultChallengeTTL
	}
	if cfg.Principal == (trust.Principal{}) {
		cfg.Principal = trust.Principal{Kind: "mdm", Name: cfg.Name}
	}
	if cfg.Attempts == nil {
		cfg.Attempts = NewAttempts(time.Now)
	}
	n := &NDES{requester{cfg.Name, cfg.Issuer, cfg.Registry, cfg.Principal, cfg.TTL, cfg.Unbound, cfg.Log, cfg.Attempts}, cfg.Users, cfg.CA}
	logins, unbound := []login{}, false
	for _, u := range cfg.Users {
		logins, unbound = append(logins, login{u.Name, u.Password}), unbound || u.Unbound
	}
	err := n.check(logins)
	if cfg.CA == nil {
		err = errors.Join(err, errors.New("a CA certificate is required"))
	}
	if unbound != (cfg.Unbound > 0) {
		err = errors.Join(err, errors.New("challenges for no device need a user who may have them, and a limit"))
	}
	if err != nil {
		return nil, fmt.Errorf("ndes: %w", err)
	}
	return n, nil
}

// thumbprint is the CA's SHA-1 in groups of eight digits.
func (n *NDES) thumbprint() string {
	sum := sha1.Sum(n.ca().Raw) //nolint:gosec // as above
	var groups []string
	for i := 0; i < len(sum); i += 4 {
		groups = append(groups, fmt.Sprintf("%08X", binary.BigEndian.Uint32(sum[i:])))
	}
	return strings.Join(groups, " ")
}

// ServeHTTP answers GET, and POST as some scripts do; a body is not read.
func (n *NDES) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		plainText(w, http.StatusMethodNotAllowed, "use GET")
		return
	}
	var user NDESUser
	if !n.authenticate(w, r, func(name, password string) (ok bool) {
		user, ok = n.user(name, password)
		return ok
	}) {
		return
	}
	var names []string
	query := r.URL.Query()
	for _, key := range []string{"device", "serial", "udid"} {
		for _, v := range query[key] {
			if len(names) < 8 { // of one device
				names = append(names, v)
			}
		}
	}
	secret, err := n.challenge(r.Context(), names, user.Unbound)
	if err != nil {
		status, text := n.problem(r, err)
		if status == http.StatusServiceUnavailable {
			plainText(w, status, text)
			return
		}
		// The first sentence is the one by which MDMs tell this case from others.
		first := "You do not have sufficient permission to enroll with SCEP."
		if errors.Is(err, registry.ErrUnboundFull) {
			first = "The password cache is full."
		}
		page(w, status, "<P> "+first+" <P> "+html.EscapeString(text)+". </P>")
		return
	}
	page(w, http.StatusOK, "<P> To complete certificate enrollment for your network device you will need the following information: "+
		"<P> The thumbprint (hash value) for the CA certificate is: <B> "+n.thumbprint()+" </B> "+
		"<P> The enrollment challenge password is: <B> "+html.EscapeString(secret)+" </B> "+
		fmt.Sprintf("<P> This password can be used only once and will expire within %d minutes. ", max(1, int(n.ttl/time.Minute)))+
		"<P> Each enrollment requires a new challenge password. You can refresh this web page to obtain a new challenge password. </P>")
}

// page writes a page of NDES in UTF-16LE with a byte order mark, which every reader of the real page understands.
func page(w http.ResponseWriter, status int, body string) {
	const title = "Network Device Enrollment Service"
	text := `<HTML><Head><Meta HTTP-Equiv="Content-Type" Content="text/html; charset=UTF-16"><Title>` + title + `</Title></Head><Body>` +
		`<P> ` + title + ` allows you to obtain certificates for routers or other network devices using the Simple Certificate Enrollment Protocol (SCEP). </P>` +
		body + `</Body></HTML>`
	out := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(text)) {
		out = binary.LittleEndian.AppendUint16(out, unit)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-16")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(out)
}
