package revocation_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"postern/internal/revocation"
	"postern/internal/trust"
)

// asked returns the octets of an answer over POST, and what they say.
func (l *lab) asked(serial *big.Int) ([]byte, *ocsp.Response) {
	l.t.Helper()
	issuing := l.issuer.Chain()[0]
	raw := l.do("POST", "/ocsp/contoso", nil, l.ask(issuing, serial, crypto.SHA256)).Body.Bytes()
	resp, err := ocsp.ParseResponseForCert(raw, &x509.Certificate{SerialNumber: serial}, issuing)
	l.must(err)
	return raw, resp
}

// at sets the clock so far ahead, and lets the index hear of the registry then.
func (l *lab) at(ahead time.Duration) {
	l.t.Helper()
	l.skew.Store(int64(ahead))
	l.newDevice()
	l.must(l.index.CatchUp(l.t.Context(), l.revision()))
}

// A signed answer is used again as long as it says what is true, and no longer than half its life.
func TestOCSPAnswersAreSignedOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	serial := l.leaf().SerialNumber
	l.start()
	first, resp := l.asked(serial)
	if again, _ := l.asked(serial); !bytes.Equal(first, again) || resp.Status != ocsp.Good {
		t.Error("signed twice")
	}
	for _, step := range []struct {
		name   string
		change func(trust.Serial)
		status int
		reason int
	}{
		{"held", l.hold, ocsp.Revoked, ocsp.CertificateHold},
		{"released", l.release, ocsp.Good, 0},
		{"held again", l.hold, ocsp.Revoked, ocsp.CertificateHold},
		{"revoked", l.revoke, ocsp.Revoked, ocsp.KeyCompromise},
	} {
		step.change(trust.SerialOf(serial))
		raw, resp := l.asked(serial)
		if resp.Status != step.status || resp.RevocationReason != step.reason || bytes.Equal(raw, first) {
			t.Errorf("%s: status %d, reason %d", step.name, resp.Status, resp.RevocationReason)
		}
	}
	last, _ := l.asked(serial)
	l.at(29 * time.Minute)
	if raw, _ := l.asked(serial); !bytes.Equal(raw, last) {
		t.Error("signed anew before half its life")
	}
	l.at(31 * time.Minute)
	raw, resp := l.asked(serial)
	if bytes.Equal(raw, last) || resp.NextUpdate.Sub(l.now()) < 59*time.Minute {
		t.Errorf("used beyond half its life: until %s", resp.NextUpdate)
	}
	l.at(0) // the clock goes back: thisUpdate would lie in the future
	if _, resp := l.asked(serial); resp.ThisUpdate.After(l.now()) {
		t.Errorf("from the future: %s", resp.ThisUpdate)
	}
}

// What nobody has issued, and what has a nonce, leaves nothing behind; what was issued leaves a bounded number of answers.
func TestOCSPCacheIsBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	for n := range 200 {
		l.asked(big.NewInt(int64(n) + 1))
	}
	if n := l.pub.OCSPCached(); n != 0 {
		t.Errorf("%d answers for invented serial numbers", n)
	}
	c := l.leaf()
	l.settle(l.revision(), nil)
	l.must(l.index.CatchUp(l.t.Context(), l.revision()))
	l.asked(c.SerialNumber)
	l.asked(c.SerialNumber)
	raw := l.ask(l.issuer.Chain()[0], c.SerialNumber, crypto.SHA1)
	l.do("GET", "/ocsp/contoso/"+base64.StdEncoding.EncodeToString(raw), nil, nil)
	if n := l.pub.OCSPCached(); n != 2 {
		t.Errorf("%d answers for one certificate in two hashes", n)
	}
	if revocation.FillOCSPCache(3*revocation.OCSPCacheLimit) != revocation.OCSPCacheLimit {
		t.Error("the cache is not full, or too large")
	}
}

func TestOCSPConditional(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c := l.leaf()
	l.start()
	path := "/ocsp/contoso/" + base64.StdEncoding.EncodeToString(l.ask(l.issuer.Chain()[0], c.SerialNumber, crypto.SHA1))
	first := l.do("GET", path, nil, nil)
	tag := http.Header{"If-None-Match": {first.Header().Get("ETag")}}
	if w := l.do("GET", path, tag, nil); w.Code != http.StatusNotModified || w.Body.Len() != 0 || w.Header().Get("Cache-Control") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	l.revoke(trust.SerialOf(c.SerialNumber))
	if w := l.do("GET", path, tag, nil); w.Code != http.StatusOK || w.Header().Get("ETag") == tag.Get("If-None-Match") {
		t.Errorf("%d %v after a revocation", w.Code, w.Header())
	}
}
