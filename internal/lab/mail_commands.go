package lab

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"postern/internal/eas"
	"postern/internal/trust"
)

// Discover asks how to sign in, as the settings of an iPhone do: GET with an empty Bearer, whether signed in or not. The
// challenge is in the Header of the result.
func (m *Mail) Discover(ctx context.Context) (Result, error) {
	h := http.Header{"User-Agent": {m.phone.cfg.SetUpAgent}}
	return m.send(ctx, request{what: "Discover", method: http.MethodGet, path: Path, header: h})
}

// Autodiscover asks the same host, without signing in, where the mailbox is (Autodiscover version 2): the body of the answer is JSON
// with "Url".
func (m *Mail) Autodiscover(ctx context.Context) (Result, error) {
	query := url.Values{"Email": {m.opts.User}, "Protocol": {"ActiveSync"}}.Encode()
	return m.send(ctx, request{
		what: "Autodiscover", method: http.MethodGet, path: "/autodiscover/autodiscover.json", query: query,
		header: http.Header{}, anonymous: true,
	})
}

// Options asks what the server offers; the profile then uses the highest protocol version, unless its options name one. Before
// [Mail.SignIn] it carries an empty Bearer.
func (m *Mail) Options(ctx context.Context) (Result, error) {
	r, err := m.Do(ctx, eas.Options, nil)
	if err != nil || r.HTTPStatus != http.StatusOK || m.opts.Version != 0 {
		return r, err
	}
	if v := highestVersion(r.Header.Get("MS-ASProtocolVersions")); v != 0 {
		m.mu.Lock()
		m.version = v
		m.mu.Unlock()
	}
	return r, nil
}

// Provision describes the device, takes the EAS policy, and with a second request acknowledges it (MS-ASPROV, section 3.1.5.1).
// The result is that of the second request, or of the first if that was refused.
func (m *Mail) Provision(ctx context.Context) (Result, error) {
	r, err := m.askPolicy(ctx)
	if err != nil || !r.OK() {
		return r, err
	}
	return m.acknowledgePolicy(ctx, r)
}

func (m *Mail) askPolicy(ctx context.Context) (Result, error) {
	m.mu.Lock()
	m.policyKey = 0
	version := m.version
	m.mu.Unlock()
	enc := eas.NewEncoder().Start(eas.PageProvision, "Provision")
	if version.AtLeast(eas.Version141) {
		m.deviceInformation(enc)
	}
	enc.Start(eas.PageProvision, "Policies").Start(eas.PageProvision, "Policy").
		Element(eas.PageProvision, "PolicyType", policyType(version)).End().End().End()
	return m.encoded(ctx, eas.Provision, enc)
}

// acknowledgePolicy says that the policy of the answer to askPolicy is applied, and keeps the key.
func (m *Mail) acknowledgePolicy(ctx context.Context, offer Result) (Result, error) {
	key := offer.Document.Value("Policies", "Policy", "PolicyKey")
	m.mu.Lock()
	version := m.version
	m.mu.Unlock()
	enc := eas.NewEncoder().Start(eas.PageProvision, "Provision").
		Start(eas.PageProvision, "Policies").Start(eas.PageProvision, "Policy").
		Element(eas.PageProvision, "PolicyType", policyType(version)).
		Element(eas.PageProvision, "PolicyKey", key).Element(eas.PageProvision, "Status", "1").
		End().End().End()
	r, err := m.encoded(ctx, eas.Provision, enc)
	if err != nil || !r.OK() {
		return r, err
	}
	n, err := strconv.ParseUint(r.Document.Value("Policies", "Policy", "PolicyKey"), 10, 32)
	if err != nil {
		return r, fmt.Errorf("Provision: read policy key: %w", err)
	}
	m.mu.Lock()
	m.policyKey = uint32(n)
	m.mu.Unlock()
	return r, nil
}

func policyType(v eas.Version) string {
	if v.AtLeast(eas.Version120) {
		return policyTypeWBXML
	}
	return policyTypeXML
}

// deviceInformation writes what the phone says of itself (MS-ASCMD, section 2.2.3.45).
func (m *Mail) deviceInformation(enc *eas.Encoder) {
	cfg := m.phone.cfg
	enc.Start(eas.PageSettings, "DeviceInformation").Start(eas.PageSettings, "Set").
		Element(eas.PageSettings, "Model", cfg.Model).Element(eas.PageSettings, "OS", cfg.OS).
		Element(eas.PageSettings, "OSLanguage", "en-US").Element(eas.PageSettings, "FriendlyName", cfg.Name).
		Element(eas.PageSettings, "UserAgent", cfg.InformationAgent).End().End()
}

// Settings describes the device and asks for the user's addresses (MS-ASCMD, section 2.2.1.18).
func (m *Mail) Settings(ctx context.Context) (Result, error) {
	enc := eas.NewEncoder().Start(eas.PageSettings, "Settings").Start(eas.PageSettings, "UserInformation").
		Empty(eas.PageSettings, "Get").End()
	m.deviceInformation(enc)
	return m.encoded(ctx, eas.Settings, enc.End())
}

// FolderSync asks for the folders, or for what has changed among them since it was last asked.
func (m *Mail) FolderSync(ctx context.Context) (Result, error) {
	m.mu.Lock()
	key := m.folderKey
	m.mu.Unlock()
	r, err := m.encoded(ctx, eas.FolderSync, eas.NewEncoder().Start(eas.PageFolderHierarchy, "FolderSync").
		Element(eas.PageFolderHierarchy, "SyncKey", key).End())
	if err != nil {
		return r, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case r.Status == 9: // start again
		m.folderKey = "0"
	case r.OK() && r.Document != nil:
		m.folderKey = r.Document.Value("SyncKey")
	}
	return r, nil
}

// Sync fetches what is new in the inbox, up to 100 messages. The first time it is two requests, of which the first makes the
// folder known; when the last answer had nothing to say, the request has no body.
func (m *Mail) Sync(ctx context.Context) (Result, error) {
	m.mu.Lock()
	first := m.syncKey == "0"
	m.mu.Unlock()
	if first {
		if r, err := m.syncOnce(ctx); err != nil || !r.OK() {
			return r, err
		}
	}
	return m.syncOnce(ctx)
}

func (m *Mail) syncOnce(ctx context.Context) (Result, error) {
	m.mu.Lock()
	key, quiet, version := m.syncKey, m.quiet, m.version
	m.mu.Unlock()
	var r Result
	var err error
	if quiet {
		r, err = m.Do(ctx, eas.Sync, nil)
	} else {
		r, err = m.encoded(ctx, eas.Sync, syncRequest(version, key))
	}
	if err != nil {
		return r, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quiet = r.OK() && r.Document == nil
	collection := r.Document.Find("Collections", "Collection")
	switch {
	case r.Status == 3: // the key is not known: start again
		m.syncKey = "0"
	case r.OK() && collection != nil:
		m.syncKey = collection.Value("SyncKey")
	}
	return r, nil
}

// syncRequest asks for the inbox (MS-ASCMD, section 2.2.1.21).
func syncRequest(v eas.Version, key string) *eas.Encoder {
	enc := eas.NewEncoder().Start(eas.PageAirSync, "Sync").Start(eas.PageAirSync, "Collections").Start(eas.PageAirSync, "Collection")
	if !v.AtLeast(eas.Version121) {
		enc.Element(eas.PageAirSync, "Class", "Email")
	}
	enc.Element(eas.PageAirSync, "SyncKey", key).Element(eas.PageAirSync, "CollectionId", inboxID)
	if key != "0" {
		enc.Element(eas.PageAirSync, "GetChanges", "1").Element(eas.PageAirSync, "WindowSize", "100")
		if v.AtLeast(eas.Version120) {
			enc.Start(eas.PageAirSync, "Options").
				Start(eas.PageAirSyncBase, "BodyPreference").Element(eas.PageAirSyncBase, "Type", "1").
				Element(eas.PageAirSyncBase, "TruncationSize", "32768").End().End()
		}
	}
	return enc.End().End().End()
}

// Ping waits for news in the inbox: Status 2 says that there is some, Status 1 that the heartbeat, in whole seconds, is over. A Ping
// with the heartbeat of the one before has no body. The result has its Duration also where the connection was cut, which is an error.
func (m *Mail) Ping(ctx context.Context, heartbeat time.Duration) (Result, error) {
	m.mu.Lock()
	same := m.heartbeat == heartbeat
	m.mu.Unlock()
	var r Result
	var err error
	if same {
		r, err = m.Do(ctx, eas.Ping, nil)
	} else {
		r, err = m.encoded(ctx, eas.Ping, eas.NewEncoder().Start(eas.PagePing, "Ping").
			Element(eas.PagePing, "HeartbeatInterval", strconv.Itoa(int(heartbeat/time.Second))).
			Start(eas.PagePing, "Folders").Start(eas.PagePing, "Folder").
			Element(eas.PagePing, "Id", inboxID).Element(eas.PagePing, "Class", "Email").End().End().End())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heartbeat = 0
	if err == nil && r.OK() {
		m.heartbeat = heartbeat
	}
	return r, err
}

// Send sends a plain text message (MS-ASCMD, section 2.2.1.17).
func (m *Mail) Send(ctx context.Context, to, subject, body string) (Result, error) {
	message := []byte("From: " + m.opts.User + "\r\nTo: " + to + "\r\nSubject: " + mime.QEncoding.Encode("utf-8", subject) +
		"\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body)
	m.mu.Lock()
	version := m.version
	m.mu.Unlock()
	if !version.AtLeast(eas.Version140) {
		return m.Do(ctx, eas.SendMail, message)
	}
	return m.encoded(ctx, eas.SendMail, eas.NewEncoder().Start(eas.PageComposeMail, "SendMail").
		Element(eas.PageComposeMail, "ClientId", trust.NewID("mail")).Empty(eas.PageComposeMail, "SaveInSentItems").
		Start(eas.PageComposeMail, "Mime").Opaque(message).End().End())
}

// encoded sends a document.
func (m *Mail) encoded(ctx context.Context, command eas.Command, enc *eas.Encoder) (Result, error) {
	body, err := enc.Bytes()
	if err != nil {
		return Result{Command: command.String()}, fmt.Errorf("%s: %w", command, err)
	}
	return m.Do(ctx, command, body)
}
