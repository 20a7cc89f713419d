// Package probe looks at published CRLs from outside, as Entra ID does when a user signs in with a certificate, and says which error the sign-in would get.
//
// It shares no code with the publisher, and so not its mistakes. What it fetches is hostile: everything has a limit before it is read, and is parsed only then.
package probe

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// Limits are how much a cloud of Microsoft's takes while a user waits.
type Limits struct {
	Size int           // of a CRL, octets
	Time time.Duration // for fetching it
}

// Public returns the limits of the public cloud and of GCC: 20 MB in 10 seconds. Mega is taken as a million, the smaller reading.
func Public() Limits { return Limits{Size: 20_000_000, Time: 10 * time.Second} }

// USGovernment returns those of GCC High and DoD: 45 MB in 10 seconds.
func USGovernment() Limits { return Limits{Size: 45_000_000, Time: 10 * time.Second} }

// Target is one CA as it is registered in a tenant.
type Target struct {
	Name        string            // what the report calls it
	URL         string            // of the base CRL
	DeltaURL    string            // of the delta CRL; empty for none
	Follow      bool              // where DeltaURL is empty, look at the delta that the base CRL names (freshestCRL)
	Certificate *x509.Certificate // of the CA; nil to fetch it
	From        string            // URL of the CA's certificate, DER or PEM, for a nil Certificate
}

// Severity says whether something stands in the way.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // sign-ins fail, or the tenant does not take the URL
	Warning Severity = "warning" // they work, and will not for long, or not for everybody
)

// Finding is something that is wrong.
type Finding struct {
	Severity Severity `json:"severity"`
	About    string   `json:"about"`           // "ca", "base", "delta" or "pair"
	Code     string   `json:"error,omitempty"` // what the user who signs in gets, such as AADSTS500173; empty where Microsoft names none
	Text     string   `json:"text"`
	Remedy   string   `json:"remedy"`
}

// CRL is what was found at a URL.
type CRL struct {
	URL         string    `json:"url"`
	Status      int       `json:"status,omitempty"` // of HTTP
	Size        int       `json:"size"`             // octets
	Millis      int64     `json:"ms"`               // how long it took
	Number      string    `json:"number,omitempty"`
	BaseNumber  string    `json:"base_number,omitempty"` // of a delta
	ThisUpdate  time.Time `json:"this_update,omitzero"`
	NextUpdate  time.Time `json:"next_update,omitzero"`
	NextPublish time.Time `json:"next_publish,omitzero"`
	Entries     int       `json:"entries"`
}

// Report is what was seen of a target.
type Report struct {
	Name     string    `json:"name"`
	Subject  string    `json:"subject,omitempty"` // of the CA
	SKI      string    `json:"ski,omitempty"`     // its subject key identifier, lower-case hex
	Base     *CRL      `json:"base,omitempty"`
	Delta    *CRL      `json:"delta,omitempty"`
	Findings []Finding `json:"findings"`
	OK       bool      `json:"ok"` // no finding is an error
}

// Prober fetches. Make it with New; it may be used by several goroutines.
type Prober struct {
	limits Limits
	now    func() time.Time
	client *http.Client
}

// New returns a prober that keeps to the limits. It goes through the proxy of the environment, if there is one.
func New(limits Limits, now func() time.Time) *Prober {
	dialer := &net.Dialer{Timeout: limits.Time}
	return &Prober{limits: limits, now: now, client: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true,
			MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// look is a probe that goes on.
type look struct {
	*Prober
	target Target
	ca     *x509.Certificate // nil if there is none to compare with
	report Report
}

// Probe looks at a target. What is wrong is in the report; it takes at most three times the limit of time.
func (p *Prober) Probe(ctx context.Context, t Target) Report {
	l := &look{Prober: p, target: t, report: Report{Name: t.Name, Findings: []Finding{}}}
	l.certificate(ctx)
	var base, delta *list
	if t.URL == "" {
		l.fail("base", noBase, "there is no URL of a base CRL")
	} else {
		l.report.Base, base = l.crl(ctx, "base", t.URL)
	}
	if t.DeltaURL == "" && t.Follow && base != nil {
		t.DeltaURL = base.freshest
	}
	if t.DeltaURL != "" {
		l.report.Delta, delta = l.crl(ctx, "delta", t.DeltaURL)
	}
	l.pair(base, delta, t.DeltaURL)
	l.report.OK = true
	for _, f := range l.report.Findings {
		l.report.OK = l.report.OK && f.Severity != Error
	}
	return l.report
}

// fail and warn add findings.
func (l *look) fail(about string, f fault, format string, args ...any) {
	l.report.Findings = append(l.report.Findings, Finding{Error, about, f.code, fmt.Sprintf(format, args...), f.remedy})
}

func (l *look) warn(about, remedy, format string, args ...any) {
	l.report.Findings = append(l.report.Findings, Finding{Severity: Warning, About: about, Text: fmt.Sprintf(format, args...), Remedy: remedy})
}

// certificate gets the CA's certificate and looks at what relying parties need of it.
func (l *look) certificate(ctx context.Context) {
	l.ca = l.target.Certificate
	if l.ca == nil && l.target.From != "" {
		l.ca = l.fetchCertificate(ctx, l.target.From)
	}
	if l.ca == nil {
		l.warn("ca", "name the CA's certificate, the one that is uploaded to the tenant", "without the CA's certificate nobody can tell whether a CRL is signed by it")
		return
	}
	l.report.Subject, l.report.SKI = l.ca.Subject.String(), fmt.Sprintf("%x", l.ca.SubjectKeyId)
	now := l.now()
	switch {
	case now.After(l.ca.NotAfter):
		l.fail("ca", notValid, "the CA's certificate has expired on %s", stamp(l.ca.NotAfter))
	case now.Before(l.ca.NotBefore):
		l.fail("ca", notValid, "the CA's certificate is valid from %s", stamp(l.ca.NotBefore))
	}
	if !l.ca.IsCA || l.ca.KeyUsage&x509.KeyUsageCRLSign == 0 {
		l.fail("ca", badSigner, "the certificate is not of a CA that may sign CRLs (basicConstraints, keyUsage cRLSign)")
	}
	if len(l.ca.SubjectKeyId) == 0 {
		l.fail("ca", badSigner, "the CA's certificate has no subject key identifier, by which Entra ID finds the issuer of a CRL")
	}
	if len(l.ca.Raw) > maxCAObject {
		l.warn("ca", "make a smaller certificate", "the CA's certificate has %d octets: a trust store takes 8 KB", len(l.ca.Raw))
	}
}

// maxCAObject is what Entra's trust store takes for one CA, in octets.
const maxCAObject = 8 << 10

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// sizeText renders octets for people.
func sizeText(n int) string {
	switch {
	case n >= 1_000_000:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/1_000_000), ".0") + " MB"
	case n >= 1000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d octets", n)
}
