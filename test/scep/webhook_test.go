package scep_test

import (
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"postern/test/scep"
)

const webhookSecret = "a secret of sixteen bytes or more"

// attestedPolicy certifies no key of which there is no proof that it cannot be copied.
const attestedPolicy = `package postern.enroll.team.keys

deny contains "key_not_attested" if input.key.attested == false
`

// vouching is a company's service that allows everybody, and says of keys what the challenge says: WORD-NAME. It answers only what is signed.
func vouching(t *testing.T) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte(webhookSecret))
		fmt.Fprintf(mac, "%s.%s", r.Header.Get("Postern-Timestamp"), body)
		var in struct{ Challenge string }
		if err != nil || r.Header.Get("Postern-Signature") != "v1="+hex.EncodeToString(mac.Sum(nil)) || json.Unmarshal(body, &in) != nil {
			http.Error(w, "not signed", http.StatusForbidden)
			return
		}
		asked.Add(1)
		word, name, _ := strings.Cut(in.Challenge, "-")
		out := map[string]any{"allow": true, "owner": name + "@" + scep.Domain, "serial_number": name}
		switch word {
		case "attested":
			out["key_attested"] = true
		case "copied":
			out["key_attested"] = false
		}
		_ = json.NewEncoder(w).Encode(out)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

// What a signed webhook says about a key is a fact for the policy, and decides; it holds for renewals with that key and for no other. The issuer takes no
// one-time challenges: nobody makes them there, and the webhook is asked about all.
func TestAttestedKeys(t *testing.T) {
	url, asked := vouching(t)
	policy, dir := shortDir(t), shortDir(t)
	if err := os.WriteFile(filepath.Join(policy, "keys.rego"), []byte(attestedPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := scep.NewPostern(dir, scep.PosternOptions{Binary: posternBinary(t), Policy: policy,
		Issuer: []string{"challenges: false", "webhook: {name: desk, url: " + url + ", secret_file: webhook.secret}"}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "webhook.secret"), []byte(webhookSecret), 0o600)
	}
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	k := newTalk(t, &server{url: p.URL})
	enrol := func(challenge string) *answer {
		name := challenge[strings.IndexByte(challenge, '-')+1:]
		return k.enrolment(scep.Applicant{Challenge: challenge, Mail: name + "@" + scep.Domain, SerialNumber: name})
	}
	denied := func(what string, a *answer) {
		t.Helper()
		if err := failure(scep.BadRequest).check(k, a); err != nil || !strings.Contains(a.reply.FailInfoText, "key_not_attested") {
			t.Errorf("%s: %v, %s", what, err, a)
		}
	}
	denied("a key of which the service says that it can be copied", enrol("copied-bob"))
	denied("a key of which the service says nothing", enrol("silent-carol"))
	first := enrol("attested-alice")
	if err := success.check(k, first); err != nil {
		t.Fatalf("an attested key: %v", err)
	}
	key := first.request.signerKey.(*rsa.PrivateKey)
	alice := &enrolled{app: first.request.app, key: key, cert: first.reply.Certificates[0]}
	again := k.renewal(alice, func(r *request) { r.csr.Key = key })
	if err := success.check(k, again); err != nil {
		t.Fatalf("a renewal with the attested key: %v", err)
	}
	alice.cert = again.reply.Certificates[0]
	denied("a renewal with another key", k.renewal(alice))
	if n := asked.Load(); n != 3 {
		t.Errorf("the service was asked %d times", n)
	}
	if _, err := p.Add("phone"); err == nil || !strings.Contains(err.Error(), "issuer contoso takes no one-time challenges") {
		t.Errorf("a challenge was made: %v", err)
	}
}
