package mdm

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/trust"
)

func (w *world) status(c trust.Certificate) trust.CertStatus {
	w.Helper()
	got, err := w.reg.Certificate(w.Context(), c.Issuer, c.Serial)
	w.must(err)
	return got.Status
}

// row is one request for a revocation.
func row(id string, serial trust.Serial) string {
	return `{"requestContext":"` + id + `","serialNumber":"` + strings.ToUpper(string(serial)) + `","issuerName":"Contoso Issuing CA","caConfiguration":"contoso"}`
}

func TestPullRevocations(t *testing.T) {
	w, s := newWorld(t), cloud(t)
	gone, kept, foreign := w.certificate("contoso"), w.certificate("contoso"), w.certificate("fabrikam")
	n := w.intune(s, func(cfg *IntuneConfig) { cfg.MaxRequests, cfg.IssuerName = 500, "Contoso Issuing CA" })
	s.plays(downloadPath, ok(`{"@odata.context":"x","value":[`+strings.Join([]string{
		row("ctx-1", gone.Serial), row("ctx-2", "0badcafe"), row("ctx-3", foreign.Serial),
		`{"requestContext":"ctx-4","serialNumber":"no hex","issuerName":null,"caConfiguration":null}`,
		`{"requestContext":"ctx-5","serialNumber":7}`,
		`{"requestContext":"ctx-6","serialNumber":"` + string(kept.Serial) + `","issuerName":"","caConfiguration":"elsewhere"}`,
		`{"serialNumber":"` + string(kept.Serial) + `"}`,
		row("ctx-1", gone.Serial)}, ",")+`]}`))
	s.plays(uploadPath, ok(`{"value":true}`))
	answered, err := n.PullRevocations(t.Context())
	w.must(err)
	if answered != 7 || w.status(gone) != trust.Revoked || w.status(kept) != trust.Good || w.status(foreign) != trust.Good {
		t.Errorf("%d answered; %s, %s, %s", answered, w.status(gone), w.status(kept), w.status(foreign))
	}
	download, upload := s.one(downloadPath), s.one(uploadPath)
	if want := `{"downloadParameters":{"maxRequests":500,"issuerName":"Contoso Issuing CA"}}`; download.body != want || download.header.Get("api-version") != "5019-05-05" {
		t.Errorf("download %s, api-version %s", download.body, download.header.Get("api-version"))
	}
	failed := func(id, code, text string) string {
		return `{"requestContext":"` + id + `","succeeded":false,"errorCode":"` + code + `","errorMessage":"` + text + `"}`
	}
	done := `{"requestContext":"ctx-1","succeeded":true,"errorCode":"None","errorMessage":null}`
	want := `{"results":[` + strings.Join([]string{done, failed("ctx-2", "CertificateNotFoundError", "no certificate has this serial number"),
		failed("ctx-3", "CertificateNotFoundError", "no certificate has this serial number"),
		failed("ctx-4", "ParameterDataInvalidError", "the serial number is not hex"), failed("ctx-5", "DataSerializationError", "the request cannot be read"),
		failed("ctx-6", "CertificateNotFoundError", "the certificate was issued under another CA configuration"), done}, ",") + `]}`
	if upload.body != want || upload.header.Get("api-version") != "5019-05-05" {
		t.Errorf("upload\n got %s\nwant %s", upload.body, want)
	}
}

func TestPullRevocationsNothing(t *testing.T) {
	w, s := newWorld(t), cloud(t)
	s.plays(downloadPath, ok(`{"value":[]}`))
	n := w.intune(s, nil)
	answered, err := n.PullRevocations(t.Context())
	w.must(err)
	if got := s.one(downloadPath).body; answered != 0 || got != `{"downloadParameters":{"maxRequests":100,"issuerName":null}}` || len(s.taken(uploadPath)) != 0 {
		t.Errorf("%d answered, asked %s", answered, got)
	}
}

// A full page is followed by the next at once; what was revoked stays revoked when Intune does not take the result, and is reported the next time.
func TestPullRevocationsPages(t *testing.T) {
	w, s := newWorld(t), cloud(t)
	a, b, c := w.certificate("contoso"), w.certificate("contoso"), w.certificate("contoso")
	n := w.intune(s, func(cfg *IntuneConfig) { cfg.MaxRequests = 2 })
	first, second := ok(`{"value":[`+row("a", a.Serial)+`,`+row("b", b.Serial)+`]}`), ok(`{"value":[`+row("c", c.Serial)+`]}`)
	s.plays(downloadPath, first, second)
	for _, bad := range []reply{ok(`{"value":false}`), ok(`{}`), ok(`true`), ok(``), {status: 400}} {
		s.plays(uploadPath, bad)
		s.plays(downloadPath, first, second)
		answered, err := n.PullRevocations(t.Context())
		fault(t, err)
		if answered != 0 || w.status(a) != trust.Revoked {
			t.Errorf("%d answered", answered)
		}
	}
	s.plays(downloadPath, first, second)
	s.plays(uploadPath, ok(`{"value":true}`))
	answered, err := n.PullRevocations(t.Context())
	w.must(err)
	if answered != 3 || w.status(c) != trust.Revoked {
		t.Errorf("%d answered", answered)
	}
	// One that never ends is left for the next round.
	s.plays(downloadPath, first)
	if answered, err = n.PullRevocations(t.Context()); err != nil || answered != 2*maxPages {
		t.Errorf("%d answered, %v", answered, err)
	}
}

func TestPullRevocationsRefused(t *testing.T) {
	w, s := newWorld(t), cloud(t)
	c := w.certificate("contoso")
	s.plays(uploadPath, ok(`{"value":true}`))
	s.plays(downloadPath, ok(`{"value":[`+row("a", c.Serial)+`]}`))
	n := w.intune(s, func(cfg *IntuneConfig) { cfg.Principal = trust.Principal{Kind: "nobody", Name: "x"} })
	_, err := n.PullRevocations(t.Context())
	w.must(err)
	if body := s.one(uploadPath).body; !strings.Contains(body, `"errorCode":"AuthenticationException"`) || w.status(c) != trust.Good {
		t.Errorf("uploaded %s", body)
	}
	n = w.intune(s, func(cfg *IntuneConfig) { cfg.MaxRequests = 1 })
	for name, bad := range map[string]reply{"more than asked for": ok(`{"value":[` + row("a", c.Serial) + `,` + row("b", c.Serial) + `]}`), "no list": ok(`{}`),
		"no objects": ok(`{"value":["a"]}`), "oversized": ok(`{"value":[],"x":"` + strings.Repeat("x", maxDownload) + `"}`), "forbidden": {status: 403}} {
		s.plays(downloadPath, bad)
		if _, err := n.PullRevocations(t.Context()); err == nil || w.status(c) != trust.Good {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Run goes on after failures, and ends with its context.
func TestIntuneRun(t *testing.T) {
	w, s := newWorld(t), cloud(t)
	c := w.certificate("contoso")
	s.plays(uploadPath, ok(`{"value":true}`))
	s.plays(downloadPath, reply{status: 400}, ok(`nonsense`), ok(`{"value":[`+row("a", c.Serial)+`]}`), ok(`{"value":[]}`))
	n := w.intune(s, func(cfg *IntuneConfig) { cfg.PullInterval = time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); w.status(c) != trust.Revoked; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not revoked")
		}
	}
	cancel()
	w.must(<-ended)
}

func TestPause(t *testing.T) {
	n := &Intune{cfg: IntuneConfig{PullInterval: 5 * time.Minute}}
	for _, c := range []struct {
		last time.Duration
		err  error
		want time.Duration
	}{
		{0, context.Canceled, 5 * time.Minute}, {5 * time.Minute, context.Canceled, 10 * time.Minute}, {50 * time.Minute, context.Canceled, time.Hour},
		{0, fmt.Errorf("x: %w", &httpFault{status: 429, retryAfter: 30 * time.Minute}), 30 * time.Minute},
		{0, &httpFault{status: 429, retryAfter: time.Second}, 5 * time.Minute},
	} {
		if got := n.pause(c.last, c.err); got != c.want {
			t.Errorf("after %s: %s, want %s", c.last, got, c.want)
		}
	}
}
