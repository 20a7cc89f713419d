package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/internal/eas"
)

// maxAnswer is the longest answer that is read, in bytes.
const maxAnswer = 16 << 20

// Credential is what a mail profile signs in with: the value of an Authorization header. It cannot be printed or logged.
type Credential struct{ header string }

// Basic is a user name and a password (RFC 7617).
func Basic(user, password string) Credential {
	return Credential{"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

// Bearer is a token (RFC 6750), as [Token] makes one.
func Bearer(token string) Credential { return Credential{"Bearer " + token} }

// String hides the credential.
func (Credential) String() string { return "[credential]" }

// GoString hides the credential.
func (Credential) GoString() string { return "[credential]" }

// LogValue hides the credential.
func (Credential) LogValue() slog.Value { return slog.StringValue("[credential]") }

// MailOptions says how one mail profile of a phone differs from the plainest: the phone's own DeviceId and certificate, a
// plain query, and the highest protocol version that the server offers.
type MailOptions struct {
	User          string           // the mail address; needed
	Version       eas.Version      // zero: what OPTIONS offers, 16.1 before it has been asked
	Base64        bool             // the query in base64 (MS-ASHTTP, section 2.2.1.1.1.1), from 12.1 on
	NoCertificate bool             // present none, as a profile made by hand does
	Identity      *tls.Certificate // present this one instead of the phone's own
	DeviceID      string           // another DeviceId, such as that of a second app; likewise the next two
	DeviceType    string
	UserAgent     string
	Address       string // connect to this host:port whatever the URL says; TLS and Host still use the URL
}

// Mail is one mail profile: one account in one client. Its methods may be called concurrently, as phones do with Ping and Sync;
// each is one request unless it says otherwise. An error means that there was no answer; any answer, also a refusal, is a [Result].
type Mail struct {
	phone *Phone
	opts  MailOptions
	url   *url.URL
	http  *http.Client

	mu         sync.Mutex
	credential Credential
	version    eas.Version
	policyKey  uint32
	folderKey  string
	syncKey    string
	quiet      bool          // the last Sync had an answer without body: the next needs none either
	heartbeat  time.Duration // of the last Ping, which the next need not repeat
}

// Mail sets up a mail profile for a server, such as "https://mail.contoso.com:8443". roots are the CAs trusted for TLS, nil for
// the system's. The error says what is wrong with the arguments; nothing is sent.
func (p *Phone) Mail(edgeURL string, roots *x509.CertPool, opts MailOptions) (*Mail, error) {
	u, err := url.Parse(edgeURL)
	if err != nil {
		return nil, fmt.Errorf("set up mail profile: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || opts.User == "" {
		return nil, errors.New("set up mail profile: an http or https URL and a user are needed")
	}
	if opts.DeviceID == "" {
		opts.DeviceID = p.cfg.DeviceID
	}
	if opts.DeviceType == "" {
		opts.DeviceType = p.cfg.DeviceType
	}
	if opts.UserAgent == "" {
		opts.UserAgent = p.cfg.UserAgent
	}
	if max(len(opts.DeviceID), len(opts.DeviceType), len(opts.User)) > 255 {
		return nil, errors.New("set up mail profile: the user, DeviceId or DeviceType is longer than 255 bytes")
	}
	if opts.Base64 && opts.Version != 0 && !opts.Version.AtLeast(eas.Version121) {
		return nil, fmt.Errorf("set up mail profile: version %s has no base64 query", opts.Version)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("set up mail profile: %w", err)
	}
	m := &Mail{phone: p, opts: opts, url: u, version: opts.Version, folderKey: "0", syncKey: "0"}
	if m.version == 0 {
		m.version = eas.Version161
	}
	m.http = &http.Client{
		Transport:     m.transport(roots),
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return m, nil
}

func (m *Mail) transport(roots *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if m.opts.Address != "" {
				address = m.opts.Address
			}
			return dialer.DialContext(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{
			RootCAs: roots, MinVersion: tls.VersionTLS12,
			// Whatever CAs the server names: a phone presents what its mail profile says.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.certificate(), nil },
		},
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
		IdleConnTimeout:    time.Minute,
	}
}

// certificate gives the one to present, empty for none.
func (m *Mail) certificate() *tls.Certificate {
	switch identity, ok := m.phone.Identity(); {
	case m.opts.NoCertificate:
	case m.opts.Identity != nil:
		return m.opts.Identity
	case ok:
		return &identity
	}
	return &tls.Certificate{}
}

// SignIn makes the following requests carry a credential. Before it, they carry an empty Bearer, which asks how to sign in.
func (m *Mail) SignIn(c Credential) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.credential = c
}

// Reconnect closes the connections that are not in use, so that the next request shows the phone's present certificate.
func (m *Mail) Reconnect() { m.http.CloseIdleConnections() }

// Do sends any command with a body, which may be empty.
func (m *Mail) Do(ctx context.Context, command eas.Command, body []byte) (Result, error) {
	m.mu.Lock()
	version, key, credential := m.version, m.policyKey, m.credential
	m.mu.Unlock()
	q := request{
		what: command.String(), method: http.MethodPost, path: Path,
		header: http.Header{}, credential: credential, body: body,
	}
	switch {
	case command == eas.Options:
		q.method = http.MethodOptions
	case m.opts.Base64:
		q.query = m.base64Query(command, version, key)
	default:
		q.query = m.plainQuery(command)
		q.header.Set("MS-ASProtocolVersion", version.String())
		q.header.Set("X-MS-PolicyKey", strconv.FormatUint(uint64(key), 10))
	}
	switch {
	case len(body) == 0:
	case command == eas.SendMail && !version.AtLeast(eas.Version140):
		q.header.Set("Content-Type", "message/rfc822")
	default:
		q.header.Set("Content-Type", eas.ContentTypeWBXML)
	}
	return m.send(ctx, q)
}

// request is one HTTP request of a mail profile.
type request struct {
	what, method, path, query string
	header                    http.Header
	credential                Credential // the zero value is an empty Bearer
	anonymous                 bool       // no Authorization at all
	body                      []byte
}

// send sends a request and reads the whole answer.
func (m *Mail) send(ctx context.Context, q request) (Result, error) {
	result := Result{Command: q.what}
	u := m.url.JoinPath(q.path)
	u.RawQuery = q.query
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), bytes.NewReader(q.body))
	if err != nil {
		return result, fmt.Errorf("%s: %w", q.what, err)
	}
	req.Header = q.header
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", m.opts.UserAgent)
	}
	switch {
	case q.anonymous:
	case q.credential.header == "":
		req.Header.Set("Authorization", "Bearer")
		req.Header.Set("X-User-Identity", m.opts.User)
	default:
		req.Header.Set("Authorization", q.credential.header)
	}
	start := m.phone.cfg.Now()
	resp, err := m.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		result.HTTPStatus, result.Header = resp.StatusCode, resp.Header
		result.Reference = resp.Header.Get("X-Postern-Reference")
		result.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	result.Duration = m.phone.cfg.Now().Sub(start)
	result.Sent = Sent{Method: q.method, Path: q.path, RawQuery: q.query, Header: req.Header.Clone(), Body: q.body}
	result.Sent.Header.Del("Authorization")
	if err != nil {
		return result, fmt.Errorf("%s: %w", q.what, err)
	}
	return result, result.read()
}

// plainQuery writes the parameters in an iPhone's order (MS-ASHTTP, section 2.2.1.1.1.2).
func (m *Mail) plainQuery(command eas.Command) string {
	return "User=" + url.QueryEscape(m.opts.User) + "&DeviceId=" + url.QueryEscape(m.opts.DeviceID) +
		"&DeviceType=" + url.QueryEscape(m.opts.DeviceType) + "&Cmd=" + command.String()
}

// base64Query writes the same in binary (MS-ASHTTP, section 2.2.1.1.1.1), the user as a command parameter.
func (m *Mail) base64Query(command eas.Command, version eas.Version, key uint32) string {
	const localeUS, tagUser = 0x0409, 8
	code, _ := command.Code()
	b := []byte{byte(version), code}
	b = binary.LittleEndian.AppendUint16(b, localeUS)
	b = append(append(b, byte(len(m.opts.DeviceID))), m.opts.DeviceID...)
	if key == 0 {
		b = append(b, 0)
	} else {
		b = binary.LittleEndian.AppendUint32(append(b, 4), key)
	}
	b = append(append(b, byte(len(m.opts.DeviceType))), m.opts.DeviceType...)
	b = append(append(b, tagUser, byte(len(m.opts.User))), m.opts.User...)
	return base64.StdEncoding.EncodeToString(b)
}

// highestVersion picks from MS-ASProtocolVersions, zero where nothing is known.
func highestVersion(list string) eas.Version {
	var all []eas.Version
	for text := range strings.SplitSeq(list, ",") {
		if v, err := eas.ParseVersion(strings.TrimSpace(text)); err == nil {
			all = append(all, v)
		}
	}
	if all == nil {
		return 0
	}
	return slices.Max(all)
}
