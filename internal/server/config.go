package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// MaxConfig is the size limit of a configuration file in bytes, before it is parsed.
const MaxConfig = 256 << 10

// maxNesting bounds the nesting of a configuration file; the deepest legal one has four levels.
const maxNesting = 16

// File is a configuration file as written. It is untrusted: Validate turns it into a Config. The doc tags are the comments of the example.
type File struct {
	Data    string          `yaml:"data" doc:"state, keys and the admin socket; relative to this file"`
	Issuers []IssuerSection `yaml:"issuers,omitempty" doc:"the certificate authorities whose keys are on this machine"`
	Public  *PublicSection  `yaml:"public,omitempty" doc:"SCEP, CRLs and OCSP for the world, plain HTTP"`
	CRL     *CRLSection     `yaml:"crl,omitempty,flow" doc:"when CRLs are published; delta_of: newest makes smaller deltas that need the newest base"`
	Edge    *EdgeSection    `yaml:"edge,omitempty" doc:"the gate for phones, in front of Exchange"`
	Admin   *AdminSection   `yaml:"admin,omitempty" doc:"admin API over TCP, with access tokens; the command line uses a socket in the data directory"`
	Renewal *RenewalSection `yaml:"renewal,omitempty" doc:"which certificates renew without a challenge; left out: every good one, of a device that its MDM has heard of for 7 days"`
	Journal *JournalSection `yaml:"journal,omitempty" doc:"what is kept of decisions, for decision show, policy explain and policy replay"`
	Policy  *PolicySection  `yaml:"policy,omitempty" doc:"who gets a certificate and whose mail passes"`

	Revocation *RevocationSection `yaml:"revocation,omitempty" doc:"how much one person may revoke; left out: everything"`

	Lifecycle *LifecycleSection `yaml:"lifecycle,omitempty" doc:"look through all devices now and then, and carry out what the lifecycle policy says of each; left out: only when asked for"`
}

// IssuerSection is one issuer: a root and an issuing CA for the mail domains of one company.
type IssuerSection struct {
	ID            string   `yaml:"id" doc:"short name, in URLs; never change it"`
	Organization  string   `yaml:"organization"`
	Domains       []string `yaml:"domains,flow" doc:"the only mail domains this issuer may certify"`
	URL           string   `yaml:"url" doc:"where the world finds the public listener; it goes into certificates"`
	LegacyClients bool     `yaml:"legacy_clients" doc:"accept SCEP requests in single DES, 3DES or SHA-1, for old devices"`

	Challenges *bool `yaml:"challenges,omitempty" doc:"one-time challenges of Postern's own; false: nobody enrols here but by intune or webhook, which must be there then, and renewals"`

	Profile *ProfileSection `yaml:"profile,omitempty,flow" doc:"what device certificates are like; what is left out stays as reviewed"`
	Keys    *KeysSection    `yaml:"keys,omitempty,flow" doc:"where new keys are made: file: (if left out), or pkcs11:, awskms:, azurekms:, cloudkms: in a binary built with the tag of that name"`
	Intune  *IntuneSection  `yaml:"intune,omitempty,flow" doc:"challenges of Intune's SCEP profiles are validated by Microsoft's service, revocations are pulled from it"`
	Webhook *WebhookSection `yaml:"webhook,omitempty,flow" doc:"a service of yours is asked about challenges that are not Postern's own"`
	NDES    *NDESSection    `yaml:"ndes,omitempty,flow" doc:"for MDMs that know Microsoft's NDES: challenges at /certsrv/mscep_admin/ of the HTTPS listener, SCEP at /certsrv/mscep/mscep.dll; unbound: how many challenges may be open that are made for no device (0: each request names its device; read OPERATIONS.md first)"`
	Jamf    *JamfSection    `yaml:"jamf,omitempty,flow" doc:"Jamf Pro fetches challenges by its SCEPChallenge webhook, at /mdm/jamf/ID of the HTTPS listener"`
}

// ProfileSection changes the profile of device certificates.
type ProfileSection struct {
	Lifetime   Duration `yaml:"lifetime,omitempty"`
	PolicyOIDs []string `yaml:"policy_oids,omitempty,flow"`
	KeyTypes   []string `yaml:"key_types,omitempty,flow"`   // rsa2048, rsa3072, rsa4096 (at least), p256, p384
	ExtraNames []string `yaml:"extra_names,omitempty,flow"` // serial_number, aliases
}

// KeysSection names keys by URI. It matters when keys are made: an issuer keeps the keys it has.
type KeysSection struct {
	Root    string `yaml:"root,omitempty"`
	Issuing string `yaml:"issuing,omitempty"`
	RA      string `yaml:"ra,omitempty"`
}

// IntuneSection is an app registration with the Intune permission scep_challenge_provider.
type IntuneSection struct {
	Tenant     string `yaml:"tenant"`
	Client     string `yaml:"client"`
	SecretFile string `yaml:"secret_file"`
}

// WebhookSection is a service that validates enrolments; the secret signs what it is asked.
type WebhookSection struct {
	Name       string `yaml:"name"`
	URL        string `yaml:"url"`
	SecretFile string `yaml:"secret_file"`
	Notify     bool   `yaml:"notify"`
}

// JamfSection is who may fetch challenges, by HTTP Basic authentication.
type JamfSection struct {
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	Unbound      int    `yaml:"unbound"` // challenges made for no device that may be open at once
}

// NDESSection is who may fetch challenges, by HTTP Basic authentication.
type NDESSection struct {
	User         string   `yaml:"user"`
	PasswordFile string   `yaml:"password_file"`
	Unbound      int      `yaml:"unbound"` // challenges made for no device that may be open at once
	TTL          Duration `yaml:"ttl,omitempty"`
}

// RenewalSection is what a certificate has to meet to renew without a challenge. It holds for every issuer; the policy may be stricter.
type RenewalSection struct {
	Window      Duration `yaml:"window" doc:"before its end, in which a certificate may renew; 0s: at any time"`
	MaxRenewals int      `yaml:"max_renewals" doc:"so often in a row; then a challenge made for the device is asked for again; 0: never"`
	MaxSilence  Duration `yaml:"max_silence" doc:"of the device, measured to its MDM's last successful sync, so without effect before there was one; 0s: any"`
}

// PublicSection is the listener for SCEP, CRLs and OCSP.
type PublicSection struct {
	Listen    string        `yaml:"listen"`
	Networks  string        `yaml:"microsoft_networks,omitempty" doc:"file with the networks of Microsoft, to tell its fetches of CRLs: what https://endpoints.office.com/endpoints/worldwide answers; left out: the list that Postern brings along"`
	HTTPS     *HTTPSSection `yaml:"https,omitempty,flow" doc:"SCEP and the pages for MDMs over HTTPS as well; Android through Intune insists on it"`
	Directory string        `yaml:"directory,omitempty" doc:"CRLs and CA certificates are also written here, each file atomically, for another web server or a CDN"`
	Proxies   []string      `yaml:"proxies,omitempty,flow" doc:"addresses or networks of reverse proxies in front: each stands for many, so SCEP has no limit for it, and wrong passwords a wider one; loopback always is one"`
}

// HTTPSSection is a listener with TLS.
type HTTPSSection struct {
	Listen      string `yaml:"listen"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// EdgeSection is the gate in front of Exchange.
type EdgeSection struct {
	Listen   string     `yaml:"listen"`
	Hostname string     `yaml:"hostname" doc:"the host name that phones use"`
	TLS      TLSSection `yaml:"tls,flow" doc:"replace what init has made by a certificate that your phones trust"`

	Hostnames []HostSection `yaml:"hostnames,omitempty" doc:"more names of the gate, such as autodiscover.DOMAIN; issuer: whose certificates are asked for there, with several issuers"`

	Upstream   string   `yaml:"upstream" doc:"Exchange; plain http only on loopback"`
	UpstreamCA string   `yaml:"upstream_ca" doc:"PEM file of roots to verify Exchange with; empty: the system's"`
	StaleLimit Duration `yaml:"stale_limit" doc:"how long to decide from the last known state when the registry does not answer"`

	UpstreamHosts  []string `yaml:"upstream_hosts,omitempty,flow" doc:"where Exchange may send a mailbox's requests on to (451, redirects): HOST, HOST:PORT or *.DOMAIN; the gate goes there itself, and nowhere else"`
	TrustedProxies []string `yaml:"trusted_proxies,omitempty,flow" doc:"networks of load balancers in front; without client certificate on the connection, their X-Forwarded-For is believed"`
	ProxyProtocol  bool     `yaml:"proxy_protocol,omitempty" doc:"every connection from trusted_proxies begins with a header of the PROXY protocol (version 1 or 2)"`

	EWS   bool          `yaml:"ews,omitempty" doc:"let Exchange Web Services (/EWS/) through too, guarded like ActiveSync; without it they are not there"`
	OAuth *OAuthSection `yaml:"oauth,omitempty" doc:"let phones sign in at the gate: for OAuthSignInURL and OAuthTokenRequestURL of a mail profile"`
}

// HostSection is one more name of the gate. Certificate and key are left out where those of the section tls are good for it.
type HostSection struct {
	Name        string `yaml:"name"`
	Issuer      string `yaml:"issuer,omitempty"`
	Certificate string `yaml:"certificate,omitempty"`
	Key         string `yaml:"key,omitempty"`
}

// TLSSection names a certificate chain and its key, both PEM.
type TLSSection struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// AdminSection is the admin API over TCP.
type AdminSection struct {
	Listen string      `yaml:"listen"`
	TLS    *TLSSection `yaml:"tls,omitempty,flow" doc:"required unless listen is a loopback address"`
}

// RevocationSection says how much one person may revoke.
type RevocationSection struct {
	TwoPersons int `yaml:"two_persons" doc:"certificates that one person may revoke for good in an hour; more is a proposal until another person agrees to it; 0: any number"`
}

// LifecycleSection says when the lifecycle policy is carried out.
type LifecycleSection struct {
	Every Duration `yaml:"every" doc:"how often"`
	Share int      `yaml:"share" doc:"per cent of the devices that one sweep may suspend or retire; where it would be more, nothing is done and health says so"`
}

// PolicySection selects the policies.
type PolicySection struct {
	Path         string               `yaml:"path" doc:"directory with your team's *.rego, taken up whenever it changes; empty: the version that postern policy activate has stored, or the built-in policies alone"`
	Replace      bool                 `yaml:"replace" doc:"your files replace the built-in policies instead of extending them: only if you know why"`
	Bundle       *BundleSection       `yaml:"bundle,omitempty" doc:"instead of path: an OPA bundle that is polled"`
	TwoPersons   bool                 `yaml:"two_persons" doc:"what one person activates is a proposal until another one activates it too"`
	MaxException Duration             `yaml:"max_exception" doc:"how long an exception that is granted by command may last"`
	DecisionLogs *DecisionLogsSection `yaml:"decision_logs,omitempty" doc:"tell decisions to others, in the form of Open Policy Agent's decision logs"`
}

// BundleSection is a bundle server, as Open Policy Agent polls it.
type BundleSection struct {
	URL       string   `yaml:"url"`
	Every     Duration `yaml:"every,omitempty" doc:"how often to ask; 1m if left out"`
	TokenFile string   `yaml:"token_file,omitempty" doc:"file with a bearer token for the server"`
	KeyFile   string   `yaml:"key_file,omitempty" doc:"public key (PEM) or shared secret with which every bundle must be signed"`
	KeyID     string   `yaml:"key_id,omitempty"`
	Algorithm string   `yaml:"algorithm,omitempty" doc:"RS256, PS256, ES256, HS256, ...; RS256 if left out"`
	Scope     string   `yaml:"scope,omitempty"`
	Unsigned  bool     `yaml:"unsigned,omitempty" doc:"take bundles without a key_file: whoever can answer for the server decides who reads mail"`
}

// Duration is a time.Duration written as in Go: 90s, 15m, 8760h.
type Duration time.Duration

// UnmarshalYAML reads a duration.
func (d *Duration) UnmarshalYAML(b []byte) error {
	var s string
	if err := yaml.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("duration %q: write it like 90s, 15m or 8760h", s)
	}
	*d = Duration(v)
	return nil
}

// MarshalYAML writes a duration.
func (d Duration) MarshalYAML() ([]byte, error) {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(strings.TrimSuffix(text, "0s"), "h0m")
		if !strings.HasSuffix(text, "m") {
			text += "h"
		}
	}
	return []byte(text), nil
}

// ReadFile reads and validates the configuration file. Errors name line and column, or the path of the key.
func ReadFile(path string) (*Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no configuration file %s: make one with `postern init DIR --issuer ID --domain DOMAIN`, or name it with -c", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	file, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	abs, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	cfg, err := file.Validate(abs)
	if err != nil {
		return nil, fmt.Errorf("%s:\n%w", path, err)
	}
	return cfg, nil
}

// Parse decodes a configuration. Unknown and duplicate keys, anchors and aliases are errors with line and column.
func Parse(b []byte) (f *File, err error) {
	if len(b) > MaxConfig {
		return nil, fmt.Errorf("configuration is larger than %d bytes", MaxConfig)
	}
	defer func() {
		// The library is a third party's parser of hostile input: whatever it does, the answer is a refusal.
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("configuration is not YAML that can be read: %v", r)
		}
	}()
	if err := scan(b); err != nil {
		return nil, err
	}
	f = &File{}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(f); errors.Is(err, io.EOF) {
		return nil, errors.New("configuration is empty")
	} else if err != nil {
		return nil, errors.New(readable(yaml.FormatError(err, false, true)))
	}
	return f, nil
}

// readable makes what an error quotes of the file fit for a terminal: what cannot be printed is a question mark, and lines are cut.
func readable(s string) string {
	const most = 160
	var out strings.Builder
	n := 0
	for _, r := range s {
		switch n++; {
		case r == '\n':
			n = 0
			out.WriteRune(r)
		case n > most:
		case unicode.IsPrint(r) && r != utf8.RuneError:
			out.WriteRune(r)
		default:
			out.WriteByte('?')
		}
	}
	return out.String()
}

// scan refuses what would make a small file a large document, before the parser recurses into it.
func scan(b []byte) error {
	depth := 0
	for _, t := range lexer.Tokenize(string(b)) {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType:
			return fmt.Errorf("line %d, column %d: anchors, aliases and tags are not used here", t.Position.Line, t.Position.Column)
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType:
			// Block nesting shows as indentation; a legal file has its deepest entry far to the left of this.
			if t.Position.Column > 4*maxNesting {
				depth = maxNesting + 1
			}
		}
		if depth > maxNesting {
			return fmt.Errorf("line %d, column %d: nested deeper than %d levels", t.Position.Line, t.Position.Column, maxNesting)
		}
	}
	return nil
}
