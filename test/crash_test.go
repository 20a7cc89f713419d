package test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/api"
	"postern/internal/lab"
	"postern/internal/trust"
)

// ledger holds what Postern has acknowledged, and so may never forget.
type ledger struct {
	mu               sync.Mutex
	devices          []trust.DeviceID
	enrolled, revoke []trust.Serial
	acknowledged     chan struct{} // one for each enrolment and revocation
}

func (l *ledger) add(f func()) {
	l.mu.Lock()
	f()
	l.mu.Unlock()
}

// work adds devices, enrols phones and revokes two of three certificates, until something fails: the server is killed under it.
func (l *ledger) work(ctx context.Context, s *site, worker int) {
	for i := 0; ctx.Err() == nil; i++ {
		var d trust.Device
		in := api.NewDevice{Issuer: "contoso", Owner: fmt.Sprintf("user%d@contoso.com", worker), SerialNumber: trust.NewID("hw")}
		if s.client().Call(ctx, http.MethodPost, "/devices", nil, in, &d) != nil {
			return
		}
		l.add(func() { l.devices = append(l.devices, d.ID) })
		var c api.Challenge
		if s.client().Call(ctx, http.MethodPost, "/challenges", nil, api.NewChallenge{Device: d.ID}, &c) != nil {
			return
		}
		p := lab.NewPhone(lab.IPhone("phone", ""))
		if p.Enrol(ctx, c.URL, c.Challenge) != nil {
			return
		}
		serial := trust.SerialOf(p.Certificate().SerialNumber)
		l.add(func() { l.enrolled = append(l.enrolled, serial) })
		l.acknowledged <- struct{}{}
		if i%3 == 0 {
			continue
		}
		if s.client().Call(ctx, http.MethodPost, "/certificates/"+string(serial)+"/revoke", nil, api.Revoke{Reason: "keyCompromise"}, nil) != nil {
			return
		}
		l.add(func() { l.revoke = append(l.revoke, serial) })
		l.acknowledged <- struct{}{}
	}
}

// TestCrash kills the server in the middle of 200 enrolments and revocations, four times, and starts it again. Whatever it had acknowledged must be there,
// and CRL numbers, watched from outside all the while, must never go back.
func TestCrash(t *testing.T) {
	const rounds, each, workers = 4, 50, 6
	s := openSite(t, siteOptions{})
	l := &ledger{acknowledged: make(chan struct{})}
	watched, stopWatching := context.WithCancel(t.Context())
	var watchers sync.WaitGroup
	for _, name := range []string{"issuing.crl", "issuing-delta.crl"} {
		watchers.Go(func() { watchNumbers(watched, t, s.crlURL(name)) })
	}
	for range rounds {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var busy sync.WaitGroup
		for worker := range workers {
			busy.Go(func() { l.work(ctx, s, worker) })
		}
		for range each {
			select {
			case <-l.acknowledged:
			case <-ctx.Done():
				t.Fatal("the phones do not get on")
			}
		}
		s.crash()
		ended := make(chan struct{})
		go func() {
			busy.Wait()
			close(ended)
		}()
		for open := true; open; { // what was acknowledged just before
			select {
			case <-l.acknowledged:
			case <-ended:
				open = false
			}
		}
		cancel()
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		l.verify(t, s)
	}
	stopWatching()
	watchers.Wait()
	t.Logf("%d devices, %d enrolments and %d revocations acknowledged over %d crashes", len(l.devices), len(l.enrolled), len(l.revoke), rounds)
}

// verify compares the ledger with the registry and with what is published.
func (l *ledger) verify(t *testing.T, s *site) {
	t.Helper()
	var devices []trust.Device
	var certificates []api.Certificate
	page := url.Values{"limit": {"1000"}}
	for path, out := range map[string]any{"/devices": &devices, "/certificates": &certificates} {
		if err := s.client().Call(t.Context(), http.MethodGet, path, page, nil, out); err != nil {
			t.Fatal(err)
		}
	}
	known := map[trust.DeviceID]bool{}
	for _, d := range devices {
		known[d.ID] = true
	}
	for _, id := range l.devices {
		if !known[id] {
			t.Errorf("device %s is forgotten", id)
		}
	}
	status := map[trust.Serial]string{}
	for _, c := range certificates {
		status[c.Serial] = c.Status
	}
	for _, serial := range l.enrolled {
		if status[serial] == "" {
			t.Errorf("certificate %s is forgotten", serial)
		}
	}
	for _, serial := range l.revoke {
		if status[serial] != "revoked" {
			t.Errorf("the revocation of %s is forgotten: it is %q", serial, status[serial])
		}
	}
	var missing []trust.Serial
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		published := map[trust.Serial]bool{}
		for _, name := range []string{"issuing.crl", "issuing-delta.crl"} {
			list, err := fetchCRL(t.Context(), s.crlURL(name))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list.RevokedCertificateEntries {
				published[trust.SerialOf(e.SerialNumber)] = true
			}
		}
		missing = nil
		for _, serial := range l.revoke {
			if !published[serial] {
				missing = append(missing, serial)
			}
		}
		if missing == nil {
			return
		}
	}
	t.Errorf("revoked, and in no CRL: %v", missing)
}

// crlURL is where a CRL is published.
func (s *site) crlURL(name string) string { return "http://" + s.public + "/contoso/" + name }

func fetchCRL(ctx context.Context, from string) (*x509.RevocationList, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	der, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", from, resp.Status)
	}
	return x509.ParseRevocationList(der)
}

// watchNumbers fetches a CRL over and over. While the server is down it hears nothing, and goes on.
func watchNumbers(ctx context.Context, t *testing.T, from string) {
	last := new(big.Int)
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		list, err := fetchCRL(ctx, from)
		if err != nil {
			if strings.Contains(err.Error(), "x509") {
				t.Errorf("%s: %v", from, err)
			}
			continue
		}
		if list.Number.Cmp(last) < 0 {
			t.Errorf("%s: the number goes back from %s to %s", from, last, list.Number)
		}
		last = list.Number
	}
	if last.Sign() == 0 {
		t.Errorf("%s: never seen", from)
	}
}
