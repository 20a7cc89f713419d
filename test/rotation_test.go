package test

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"postern/internal/api"
	"postern/internal/lab"
	"postern/internal/trust"
)

// traffic is phones that enrol, read mail and renew, one after the other, while keys change under them. Nothing of that may fail.
type traffic struct {
	t     *testing.T
	site  *site
	roots *x509.CertPool

	mu     sync.Mutex
	issued map[string]int // certificates by issuing CA
}

// phone is the life of one phone; its first mail comes right behind its certificate.
func (l *traffic) phone(ctx context.Context, user string) error {
	var d trust.Device
	in := api.NewDevice{Issuer: "contoso", Owner: user, SerialNumber: trust.NewID("hw")}
	if err := l.site.client().Call(ctx, http.MethodPost, "/devices", nil, in, &d); err != nil {
		return err
	}
	var c api.Challenge
	if err := l.site.client().Call(ctx, http.MethodPost, "/challenges", nil, api.NewChallenge{Device: d.ID}, &c); err != nil {
		return err
	}
	p := lab.NewPhone(lab.IPhone("phone", ""))
	if err := p.Enrol(ctx, c.URL, c.Challenge); err != nil {
		return err
	}
	for range 2 {
		mail, err := p.Mail("https://mail.contoso.com", l.roots, lab.MailOptions{User: user, Address: l.site.edge})
		if err != nil {
			return err
		}
		mail.SignIn(lab.Basic(user, "secret"))
		got, err := mail.FolderSync(ctx)
		mail.Reconnect()
		if err != nil {
			return err
		}
		if got.Reference != "" || got.HTTPStatus >= 500 {
			return fmt.Errorf("mail with a certificate of %s: %s, reference %q", p.Certificate().Issuer.CommonName, got, got.Reference)
		}
		l.mu.Lock()
		l.issued[p.Certificate().Issuer.CommonName]++
		l.mu.Unlock()
		if err := p.Renew(ctx, c.URL); err != nil {
			return err
		}
	}
	return nil
}

func (l *traffic) count(ca string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.issued[ca]
}

// until waits for n more certificates of a CA.
func (l *traffic) until(ca string, n int) {
	l.t.Helper()
	n += l.count(ca)
	for end := time.Now().Add(patience); l.count(ca) < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) || l.t.Failed() {
			l.t.Fatalf("%s has issued %d certificates, want %d", ca, l.count(ca), n)
		}
	}
}

// TestRotationUnderLoad rotates the RA and the issuing CA of a server that is busy with phones: no enrolment, renewal or first mail may fail.
func TestRotationUnderLoad(t *testing.T) {
	const workers, first, second = 4, "Contoso Device Issuing CA 1", "Contoso Device Issuing CA 2"
	exchange := lab.NewExchange(lab.ExchangeOptions{Personality: lab.OnPremises})
	for i := range workers {
		exchange.AddMailbox(fmt.Sprintf("user%d@contoso.com", i), "secret")
	}
	upstream := httptest.NewServer(exchange.Handler())
	defer upstream.Close()
	s := openSite(t, siteOptions{upstream: upstream.URL})
	l := &traffic{t: t, site: s, roots: x509.NewCertPool(), issued: map[string]int{}}
	root, err := os.ReadFile(filepath.Join(s.dir, "var", "issuers", "contoso", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	l.roots.AppendCertsFromPEM(root)
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer busy.Wait()
	defer cancel()
	for i := range workers {
		busy.Go(func() {
			for ctx.Err() == nil {
				if err := l.phone(ctx, fmt.Sprintf("user%d@contoso.com", i)); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	command := func(args ...string) {
		t.Helper()
		if out, err := s.postern(args...); err != nil {
			t.Fatalf("postern %v: %v\n%s", args, err, out)
		}
	}
	l.until(first, 5)
	command("issuer", "rotate", "contoso", "--what", "ra")
	command("issuer", "activate", "contoso")
	l.until(first, 20)
	command("issuer", "rotate", "contoso", "--what", "issuing")
	l.until(first, 10)
	command("issuer", "activate", "contoso")
	l.until(second, 30)
	for _, name := range []string{"issuing.crl", "issuing-delta.crl", "issuing-2.crl", "issuing-2-delta.crl"} {
		if _, err := fetchCRL(t.Context(), s.crlURL(name)); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%v", l.issued)
}
