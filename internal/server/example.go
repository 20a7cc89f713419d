package server

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"postern/internal/decisionlog"
	"postern/internal/registry"
)

// LocalURL is where the public listener of an Example is found.
const LocalURL = "http://127.0.0.1:8080"

// Example returns the configuration of one machine for one issuer, as `postern init` writes it. issuer and domain must be valid.
func Example(issuer, organization, domain string) File {
	return File{
		Data:    "./var",
		Issuers: []IssuerSection{{ID: issuer, Organization: organization, Domains: []string{domain}, URL: LocalURL}},
		Public:  &PublicSection{Listen: "127.0.0.1:8080"},
		Edge: &EdgeSection{Listen: "127.0.0.1:8443", Hostname: "mail." + domain, TLS: TLSSection{Certificate: "edge.pem", Key: "edge.key"},
			Upstream: "https://outlook.office365.com", StaleLimit: Duration(DefaultStaleLimit)},
		Admin:  &AdminSection{Listen: "127.0.0.1:9000"},
		Policy: &PolicySection{MaxException: Duration(registry.DefaultMaxException)},
	}
}

// Write returns the file as YAML with a comment for every key that has one, and every key that is left out as a comment.
func (f File) Write() ([]byte, error) {
	comments := yaml.CommentMap{}
	document(reflect.ValueOf(f), "$", comments)
	b, err := yaml.MarshalWithOptions(f, yaml.Indent(2), yaml.IndentSequence(true), yaml.WithComment(comments))
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	head := "# Postern. Check it with `postern config check`; unknown keys are errors. Every key: `postern config example`.\n"
	return append([]byte(head), b...), nil
}

// JSON returns the file as JSON, with the keys of the YAML.
func (f File) JSON() ([]byte, error) {
	b, err := f.Write()
	if err != nil {
		return nil, err
	}
	return yaml.YAMLToJSON(b)
}

// document collects the doc tags of all keys that are present.
func document(v reflect.Value, path string, comments yaml.CommentMap) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Slice:
		if v.Len() > 0 && v.Index(0).Kind() == reflect.Struct {
			document(v.Index(0), path+"[0]", comments)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			tag := v.Type().Field(i).Tag
			name, opts, _ := strings.Cut(tag.Get("yaml"), ",")
			if strings.Contains(opts, "omitempty") && v.Field(i).IsZero() {
				continue
			}
			key := path + "." + name
			if doc := tag.Get("doc"); doc != "" {
				comments[key] = []*yaml.Comment{yaml.HeadComment(" " + doc)}
			}
			if !strings.Contains(opts, "flow") {
				document(v.Field(i), key, comments)
			}
		}
	}
}

// Complete returns a configuration with every key there is, for `postern config example`.
func Complete() File {
	f := Example("contoso", "Contoso", "contoso.com")
	f.Issuers[0].URL = "http://pki.contoso.com"
	challenges := true
	f.Issuers[0].Challenges = &challenges
	f.Issuers[0].Profile = &ProfileSection{Lifetime: Duration(365 * 24 * time.Hour), PolicyOIDs: []string{"1.3.6.1.4.1.99999.1.1"},
		KeyTypes: []string{"rsa2048", "p256", "p384"}, ExtraNames: []string{"serial_number"}}
	f.Issuers[0].Keys = &KeysSection{Root: "file:/srv/keys/root.key", Issuing: "file:/srv/keys/issuing-{n}.key", RA: "file:/srv/keys/ra-{n}.key"}
	f.Issuers[0].Intune = &IntuneSection{Tenant: "contoso.com", Client: "00000000-0000-0000-0000-000000000000", SecretFile: "intune.secret"}
	f.Issuers[0].Webhook = &WebhookSection{Name: "helpdesk", URL: "https://helpdesk.contoso.com/enrol", SecretFile: "webhook.secret"}
	f.Issuers[0].NDES = &NDESSection{User: `CONTOSO\mdm`, PasswordFile: "ndes.password", TTL: Duration(time.Hour)}
	f.Issuers[0].Jamf = &JamfSection{User: "jamf", PasswordFile: "jamf.password"}
	f.Public.Listen = "0.0.0.0:80"
	f.Public.Directory = "/srv/www/pki"
	f.Public.Networks = "endpoints.json"
	f.Public.Proxies = []string{"10.1.3.7"}
	f.Public.HTTPS = &HTTPSSection{Listen: "0.0.0.0:8444", Certificate: "public.pem", Key: "public.key"}
	f.CRL = &CRLSection{BaseLifetime: Duration(168 * time.Hour), BaseEvery: Duration(24 * time.Hour), DeltaLifetime: Duration(24 * time.Hour), DeltaEvery: Duration(time.Hour),
		DeltaOf: "oldest"}
	f.Edge.Listen = "0.0.0.0:443"
	f.Edge.UpstreamCA = "upstream-roots.pem"
	f.Edge.Hostnames = []HostSection{{Name: "autodiscover.contoso.com", Issuer: "contoso", Certificate: "autodiscover.pem", Key: "autodiscover.key"}}
	f.Edge.UpstreamHosts = []string{"outlook.office.com", "*.prod.outlook.com"}
	f.Edge.EWS = true
	f.Edge.OAuth = &OAuthSection{Authorize: "https://login.microsoftonline.com/common/oauth2/authorize", Token: "https://login.microsoftonline.com/common/oauth2/token",
		TokenCA: "adfs-roots.pem", Resource: "https://mail.contoso.com/", Destination: "https://outlook.office365.com/",
		ClientIDs: []string{"f8d98a96-0999-43f5-8af3-69971c7bb423"}, Scopes: []string{"https://outlook.office365.com/EAS.AccessAsUser.All"}, Tickets: true}
	f.Edge.TrustedProxies, f.Edge.ProxyProtocol = []string{"10.1.2.0/24"}, true
	f.Admin = &AdminSection{Listen: "0.0.0.0:9000", TLS: &TLSSection{Certificate: "admin.pem", Key: "admin.key"}}
	f.Renewal = &RenewalSection{Window: Duration(90 * 24 * time.Hour), MaxRenewals: 10, MaxSilence: Duration(DefaultMaxSilence)}
	f.Journal = &JournalSection{Keep: Duration(DefaultKeep), MaxMB: defaultJournalMB, PlainAllows: "all"}
	f.Policy = &PolicySection{MaxException: Duration(registry.DefaultMaxException), Bundle: &BundleSection{URL: "https://policies.contoso.com/bundles/postern.tar.gz", Every: Duration(time.Minute), TokenFile: "bundle.token",
		KeyFile: "bundle.pub", KeyID: "default", Algorithm: "RS256"},
		DecisionLogs: &DecisionLogsSection{File: "decisions.log", MaxSizeMB: 100, Keep: 5, URL: "https://siem.contoso.com/logs", TokenFile: "siem.token", Every: Duration(10 * time.Second),
			Allows: "new", MaxPerSecond: 1000, Mask: decisionlog.DefaultMask(), Labels: map[string]string{"region": "eu"}}}
	f.Revocation = &RevocationSection{TwoPersons: 20}
	f.Lifecycle = &LifecycleSection{Every: Duration(24 * time.Hour), Share: defaultShare}
	return f
}
