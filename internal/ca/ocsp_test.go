package ca_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/trust"
)

func good(id ca.CertID, at time.Time) ca.OCSPAnswer {
	return ca.OCSPAnswer{ID: id, Status: ca.OCSPGood, ThisUpdate: at, NextUpdate: at.Add(time.Hour)}
}

func certID(t testing.TB, i *ca.Issuer, caID string, hash crypto.Hash, serial *big.Int) ca.CertID {
	t.Helper()
	id, err := i.CertID(caID, hash, serial)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestOCSPAnswers(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	now := time.Now().UTC().Truncate(time.Second)
	for _, caCert := range i.Certificates() {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			req, err := ocsp.CreateRequest(i.RACertificate(), caCert.Cert, &ocsp.RequestOptions{Hash: hash})
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := ca.ParseOCSPRequest(req)
			if err != nil {
				t.Fatal(err)
			}
			id := parsed.IDs[0]
			if got, ok := i.CAOf(id); !ok || got != caCert.ID || id.Hash != hash || id.Serial.Cmp(i.RACertificate().SerialNumber) != 0 {
				t.Fatalf("%s %v: CA %q, %v", caCert.ID, hash, got, id)
			}
			for name, a := range map[string]ca.OCSPAnswer{
				"good":    {Status: ca.OCSPGood},
				"unknown": {Status: ca.OCSPUnknown},
				"held":    {Status: ca.OCSPRevoked, RevokedAt: now.Add(-time.Hour), Reason: trust.CertificateHold},
				"revoked": {Status: ca.OCSPRevoked, RevokedAt: now.Add(-time.Hour), Reason: trust.Unspecified},
			} {
				a.ID, a.ThisUpdate, a.NextUpdate = id, now, now.Add(time.Hour)
				raw, err := i.SignOCSP(t.Context(), caCert.ID, []byte("0123456789abcdef0123456789abcdef"), a)
				if err != nil {
					t.Fatal(err)
				}
				r, err := ocsp.ParseResponse(raw, caCert.Cert)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if r.Status != int(a.Status) || !r.ThisUpdate.Equal(now) || !r.NextUpdate.Equal(a.NextUpdate) || r.RevocationReason != a.Reason.Number() ||
					len(r.ResponderKeyHash) != 20 || r.Certificate.NotAfter.Sub(now) > 14*24*time.Hour {
					t.Errorf("%s: %+v", name, r)
				}
				if a.Status == ca.OCSPRevoked && !r.RevokedAt.Equal(a.RevokedAt) {
					t.Errorf("%s: revoked at %v", name, r.RevokedAt)
				}
				if !bytes.Contains(raw, []byte("0123456789abcdef0123456789abcdef")) {
					t.Errorf("%s: no nonce", name)
				}
			}
		}
	}
}

func TestOCSPResponderIsRenewed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	i := catest.New(t, catest.WithClock(func() time.Time { return now }))
	responder := func() string {
		raw, err := i.SignOCSP(t.Context(), ca.IssuingCA, nil, good(certID(t, i, ca.IssuingCA, crypto.SHA1, big.NewInt(1)), now))
		if err != nil {
			t.Fatal(err)
		}
		r, err := ocsp.ParseResponse(raw, i.Chain()[0])
		if err != nil {
			t.Fatal(err)
		}
		if now.Before(r.Certificate.NotBefore) || now.After(r.Certificate.NotAfter) {
			t.Error("the responder's certificate is not valid")
		}
		return r.Certificate.SerialNumber.String()
	}
	first := responder()
	now = now.Add(9 * 24 * time.Hour)
	if responder() != first {
		t.Error("renewed after 9 days")
	}
	now = now.Add(24 * time.Hour)
	second := responder()
	if second == first {
		t.Error("not renewed after 10 days")
	}
	now = now.Add(-12 * time.Hour)
	if responder() == second {
		t.Error("a responder from the future is used after the clock was put back")
	}
}

func TestOCSPRefusesToSign(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	now := time.Now()
	id := certID(t, i, ca.IssuingCA, crypto.SHA256, big.NewInt(7))
	for what, a := range map[string]ca.OCSPAnswer{
		"another CA":        good(certID(t, i, ca.RootCA, crypto.SHA256, big.NewInt(7)), now),
		"no CertID":         good(ca.CertID{}, now),
		"no next update":    {ID: id, ThisUpdate: now},
		"too long":          {ID: id, ThisUpdate: now, NextUpdate: now.Add(15 * 24 * time.Hour)},
		"no time":           {ID: id, Status: ca.OCSPRevoked, ThisUpdate: now, NextUpdate: now.Add(time.Hour)},
		"status of its own": {ID: id, Status: 3, ThisUpdate: now, NextUpdate: now.Add(time.Hour)},
	} {
		if _, err := i.SignOCSP(t.Context(), ca.IssuingCA, nil, a); err == nil {
			t.Errorf("%s: signed", what)
		}
	}
	if _, err := i.SignOCSP(t.Context(), "other", nil, good(id, now)); err == nil {
		t.Error("signed for a CA that is not there")
	}
	if _, err := i.SignOCSP(t.Context(), ca.IssuingCA, nil); err == nil {
		t.Error("signed nothing")
	}
	if _, err := i.CertID(ca.IssuingCA, crypto.SHA512, big.NewInt(7)); err == nil {
		t.Error("made a CertID with SHA-512")
	}
}

// request builds an OCSPRequest around a CertID of SHA-1 from hex, with requestExtensions from hex.
func request(id, exts string) []byte {
	list := seq(0x30, seq(0x30, id))
	tbs := list
	if exts != "" {
		tbs += seq(0xa2, exts)
	}
	raw, err := hex.DecodeString(seq(0x30, seq(0x30, tbs)))
	if err != nil {
		panic(err)
	}
	return raw
}

// seq wraps hex in a tag.
func seq(tag byte, content string) string {
	n := len(content) / 2
	switch {
	case n < 0x80:
		return hex.EncodeToString([]byte{tag, byte(n)}) + content
	case n < 0x100:
		return hex.EncodeToString([]byte{tag, 0x81, byte(n)}) + content
	default:
		return hex.EncodeToString([]byte{tag, 0x82, byte(n >> 8), byte(n)}) + content
	}
}

const nonceOID = "06092b0601050507300102"

func nonceExt(critical, value string) string {
	return seq(0x30, seq(0x30, nonceOID+critical+seq(0x04, value)))
}

func sha1ID() string {
	return seq(0x30, seq(0x30, "06052b0e03021a0500")+seq(0x04, strings.Repeat("11", 20))+seq(0x04, strings.Repeat("22", 20))+"020107")
}

func TestParseOCSPRequest(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		raw   []byte
		nonce int // -1: malformed
	}{
		"plain":                  {request(sha1ID(), ""), 0},
		"no parameters":          {request(strings.Replace(sha1ID(), "06052b0e03021a0500", "06052b0e03021a", 1), ""), -1}, // lengths no longer fit
		"nonce of 1":             {request(sha1ID(), nonceExt("", "0401aa")), 1},
		"nonce of 32":            {request(sha1ID(), nonceExt("", seq(0x04, strings.Repeat("ab", 32)))), 32},
		"nonce of 128":           {request(sha1ID(), nonceExt("0101ff", seq(0x04, strings.Repeat("ab", 128)))), 128},
		"nonce of 0":             {request(sha1ID(), nonceExt("", "0400")), -1},
		"nonce of 129":           {request(sha1ID(), nonceExt("", seq(0x04, strings.Repeat("ab", 129)))), -1},
		"nonce not wrapped":      {request(sha1ID(), nonceExt("", strings.Repeat("ab", 16))), -1},
		"nonce with a tail":      {request(sha1ID(), nonceExt("", "0401aa00")), -1},
		"two nonces":             {request(sha1ID(), seq(0x30, strings.Repeat(seq(0x30, nonceOID+seq(0x04, "0401aa")), 2))), -1},
		"unknown extension":      {request(sha1ID(), seq(0x30, seq(0x30, "06022a03"+seq(0x04, "0500")))), 0},
		"critical unknown":       {request(sha1ID(), seq(0x30, seq(0x30, "06022a030101ff"+seq(0x04, "0500")))), -1},
		"no extensions in there": {request(sha1ID(), "3000"), -1},
		"empty":                  {nil, -1},
		"no requests":            {[]byte{0x30, 4, 0x30, 2, 0x30, 0}, -1},
		"a tail":                 {append(request(sha1ID(), ""), 0), -1},
		"large":                  {make([]byte, ca.MaxOCSPRequest+1), -1},
		"indefinite length":      {append(append([]byte{0x30, 0x80}, request(sha1ID(), "")[2:]...), 0, 0), -1},
	} {
		r, err := ca.ParseOCSPRequest(c.raw)
		switch {
		case c.nonce < 0:
			if !errors.Is(err, ca.ErrOCSPMalformed) {
				t.Errorf("%s: %v", what, err)
			}
		case err != nil || len(r.IDs) != 1 || r.IDs[0].Hash != crypto.SHA1 || r.IDs[0].Serial.Int64() != 7 || len(r.Nonce) != c.nonce:
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	many, _ := hex.DecodeString(seq(0x30, seq(0x30, seq(0x30, strings.Repeat(seq(0x30, sha1ID()), 9)))))
	if _, err := ca.ParseOCSPRequest(many); !errors.Is(err, ca.ErrOCSPMalformed) {
		t.Errorf("nine requests: %v", err)
	}
}

// An unknown hash is not malformed: no CA has that CertID, and the answer is unauthorized.
func TestOCSPUnknownHash(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	got := issue(t, i, catest.Request(t, i, "alice@contoso.com", ecKey(t, elliptic.P256())))
	raw, err := ocsp.CreateRequest(got.Cert, i.Chain()[0], &ocsp.RequestOptions{Hash: crypto.SHA512})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ca.ParseOCSPRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := i.CAOf(r.IDs[0]); ok {
		t.Errorf("CA %s", id)
	}
	if raw := ca.OCSPErrorResponse(ca.OCSPUnauthorized); !bytes.Equal(raw, ocsp.UnauthorizedErrorResponse) {
		t.Errorf("%x", raw)
	}
}

func FuzzParseOCSPRequest(f *testing.F) {
	f.Add(request(sha1ID(), ""))
	f.Add(request(sha1ID(), nonceExt("0101ff", "0401aa")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := ca.ParseOCSPRequest(raw)
		if err != nil {
			if r != nil || !errors.Is(err, ca.ErrOCSPMalformed) {
				t.Errorf("%v, %v", r, err)
			}
			return
		}
		if len(raw) > ca.MaxOCSPRequest || len(r.IDs) == 0 || len(r.IDs) > 8 || len(r.Nonce) > 128 || (r.Nonce != nil && len(r.Nonce) == 0) {
			t.Errorf("%+v", r)
		}
	})
}
