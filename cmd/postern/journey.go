package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/internal/api"
	"postern/internal/lab"
	"postern/internal/server"
	"postern/internal/trust"
)

// journey is the life of a phone, told step by step. Every line that it prints was seen, not assumed: a step that does not go as told is an error.
type journey struct {
	out          io.Writer
	dir, config  string
	data         string
	at           server.Addresses
	exchange     *lab.Exchange
	admin        *api.Client
	roots        *x509.CertPool
	phone        *lab.Phone
	managed      *lab.Mail
	device       trust.DeviceID
	bob          trust.DeviceID
	serial       trust.Serial
	steps        int
	bobsDeviceID string
}

const (
	alice = "alice@contoso.com"
	bob   = "bob@contoso.com"
)

func (j *journey) play(ctx context.Context) error {
	j.admin = api.Local(j.data)
	for _, m := range []string{alice, bob} {
		j.exchange.AddMailbox(m, "")
	}
	if err := j.exchange.Deliver(alice, "Welcome", "Your mail comes through the gate."); err != nil {
		return err
	}
	if err := j.trustEdge(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{j.enrol, j.readMail, j.handMade, j.stranger, j.revoke, j.delta, j.secondPhone} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("step %d of the journey: %w", j.steps, err)
		}
	}
	j.farewell()
	return nil
}

func (j *journey) title(format string, args ...any) {
	j.steps++
	fmt.Fprintf(j.out, "%d. %s\n", j.steps, fmt.Sprintf(format, args...))
}

func (j *journey) say(format string, args ...any) { fmt.Fprintf(j.out, "   "+format+"\n", args...) }

// expect is the journey's assertion.
func expect(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// trustEdge reads the root that signed the edge's certificate; init has put it behind the leaf.
func (j *journey) trustEdge() error {
	b, err := os.ReadFile(filepath.Join(j.dir, "edge.pem"))
	if err != nil {
		return fmt.Errorf("read edge certificate: %w", err)
	}
	j.roots = x509.NewCertPool()
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("read edge certificate: %w", err)
		}
		if c.IsCA {
			j.roots.AddCert(c)
		}
	}
	return nil
}

// add registers a device and makes a challenge for it.
func (j *journey) add(ctx context.Context, owner, serial, model string) (trust.DeviceID, api.Challenge, error) {
	var d trust.Device
	err := j.admin.Call(ctx, http.MethodPost, "/devices", nil, api.NewDevice{Issuer: "contoso", Owner: owner, SerialNumber: serial, Model: model, OS: "ios"}, &d)
	if err != nil {
		return "", api.Challenge{}, err
	}
	var ch api.Challenge
	err = j.admin.Call(ctx, http.MethodPost, "/challenges", nil, api.NewChallenge{Device: d.ID}, &ch)
	return d.ID, ch, err
}

func (j *journey) enrol(ctx context.Context) error {
	j.title("A managed phone enrols")
	id, ch, err := j.add(ctx, alice, "F2LX0001", "iPhone15,4")
	if err != nil {
		return err
	}
	j.device = id
	j.say("The MDM says: device %s belongs to %s. It gets a one-time challenge.", id, alice)
	j.phone = lab.NewPhone(lab.IPhone("Alice's iPhone", ""))
	if err := j.phone.Enrol(ctx, ch.URL, ch.Challenge); err != nil {
		return err
	}
	c := j.phone.Certificate()
	j.serial = trust.SerialOf(c.SerialNumber)
	j.say("SCEP at %s issued certificate %s", ch.URL, j.serial)
	j.say("with the owner's address from the registry, not from the request: CN=%s, SAN %s, until %s.", c.Subject.CommonName,
		strings.Join(c.EmailAddresses, ","), stamp(c.NotAfter))
	err = j.phone.Enrol(ctx, ch.URL, ch.Challenge)
	var refused *lab.RefusedError
	if !errors.As(err, &refused) {
		return fmt.Errorf("the used challenge was not refused: %w", err)
	}
	j.say("The same challenge a second time: %v.\n", refused)
	return nil
}

// mail opens a mail profile at the edge.
func (j *journey) mail(p *lab.Phone, opts lab.MailOptions) (*lab.Mail, error) {
	opts.Address = j.at.Edge
	return p.Mail("https://mail.contoso.com", j.roots, opts)
}

func token(user string) lab.Credential {
	return lab.Bearer(lab.Token(user, time.Now(), nil))
}

func (j *journey) readMail(ctx context.Context) (err error) {
	j.title("It reads mail through the edge")
	if j.managed, err = j.mail(j.phone, lab.MailOptions{User: alice}); err != nil {
		return err
	}
	results, err := j.managed.SetUp(ctx, token(alice))
	if err != nil {
		return err
	}
	messages := 0
	for _, r := range results {
		j.say("%s", r)
		messages += len(r.Messages)
	}
	if err := expect(messages == 1, "want one message, got %d", messages); err != nil {
		return err
	}
	j.say("Discovery and sign-in passed untouched, and the message arrived.\n")
	return nil
}

// explain prints what the help desk would read.
func (j *journey) explain(ctx context.Context, r lab.Result, want string) error {
	if err := expect(r.Status == 129 && r.Reference != "", "want Status 129 with a reference, got %s", r); err != nil {
		return err
	}
	j.say("Answer: %s. No password prompt, no mail.", r)
	var d api.Decision
	if err := j.admin.Call(ctx, http.MethodGet, "/decisions/"+url.PathEscape(r.Reference), nil, nil, &d); err != nil {
		return err
	}
	found := false
	j.say("`postern decision show %s` says:", r.Reference)
	for _, reason := range d.Reasons {
		found = found || reason.Code == want
		j.say("  %s: %s", reason.Code, reason.Text)
		if reason.Remedy != "" {
			j.say("    What would change it: %s", reason.Remedy)
		}
	}
	fmt.Fprintln(j.out)
	return expect(found, "want reason %s", want)
}

func (j *journey) handMade(ctx context.Context) error {
	j.title("A second profile, made by hand on the same phone")
	j.say("Same phone, same DeviceId, same user and a valid token, but without the certificate.")
	m, err := j.mail(j.phone, lab.MailOptions{User: alice, NoCertificate: true})
	if err != nil {
		return err
	}
	m.SignIn(token(alice))
	r, err := m.FolderSync(ctx)
	if err != nil {
		return err
	}
	return j.explain(ctx, r, "duplicate_profile_without_certificate")
}

func (j *journey) stranger(ctx context.Context) error {
	j.title("A phone that nobody manages")
	m, err := j.mail(lab.NewPhone(lab.GmailAndroid("somebody's phone", "")), lab.MailOptions{User: alice})
	if err != nil {
		return err
	}
	r, err := m.Discover(ctx)
	if err != nil {
		return err
	}
	if err := expect(r.HTTPStatus == http.StatusUnauthorized, "want the challenge, got %s", r); err != nil {
		return err
	}
	j.say("While it is being set up it learns how to sign in: %s.", r)
	m.SignIn(token(alice))
	if r, err = m.FolderSync(ctx); err != nil {
		return err
	}
	return j.explain(ctx, r, "no_certificate")
}

func (j *journey) revoke(ctx context.Context) error {
	j.title("The phone is lost: its certificate is revoked while a long poll is open")
	type answer struct {
		lab.Result
		err error
		at  time.Time
	}
	done := make(chan answer, 1)
	go func() {
		r, err := j.managed.Ping(ctx, 10*time.Minute)
		done <- answer{r, err, time.Now()}
	}()
	for range 200 {
		if j.exchange.Waiting() > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := expect(j.exchange.Waiting() == 1, "the Ping did not reach Exchange"); err != nil {
		return err
	}
	j.say("A Ping of ten minutes is held at Exchange.")
	start := time.Now()
	if err := j.admin.Call(ctx, http.MethodPost, "/certificates/"+string(j.serial)+"/revoke", nil, api.Revoke{Reason: "keyCompromise", Comment: "phone lost"}, nil); err != nil {
		return err
	}
	select {
	case a := <-done:
		if a.err != nil {
			j.say("The open Ping was cut %s after the command: %v.", a.at.Sub(start).Round(time.Millisecond), a.err)
		} else {
			j.say("The open Ping ended %s after the command: %s.", a.at.Sub(start).Round(time.Millisecond), a.Result)
		}
	case <-time.After(time.Second):
		return errors.New("the Ping is still open a second after the revocation")
	}
	r, err := j.managed.Sync(ctx)
	if err != nil {
		return err
	}
	return j.explain(ctx, r, "certificate_revoked")
}

func (j *journey) delta(ctx context.Context) error {
	j.title("The world learns of it")
	where := "http://" + j.at.Public + "/contoso/issuing-delta.crl"
	start := time.Now()
	for time.Since(start) < 3*time.Second {
		l, err := fetchCRL(ctx, where)
		if err != nil {
			return err
		}
		for _, e := range l.RevokedCertificateEntries {
			if trust.SerialOf(e.SerialNumber) == j.serial {
				j.say("Delta CRL number %s at %s lists %s (reason %d).\n", l.Number, where, j.serial, e.ReasonCode)
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the delta CRL does not list the certificate after three seconds")
}

func fetchCRL(ctx context.Context, where string) (*x509.RevocationList, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch CRL: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch CRL: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 20<<20))
	if err != nil {
		return nil, fmt.Errorf("fetch CRL: %w", err)
	}
	return x509.ParseRevocationList(b)
}

// secondPhone leaves something to play with: a managed phone whose certificate and key are files.
func (j *journey) secondPhone(ctx context.Context) error {
	j.title("Another phone stays managed, for you to try")
	id, ch, err := j.add(ctx, bob, "F2LX0002", "iPhone16,1")
	if err != nil {
		return err
	}
	j.bob = id
	p := lab.NewPhone(lab.IPhone("Bob's iPhone", ""))
	if err := p.Enrol(ctx, ch.URL, ch.Challenge); err != nil {
		return err
	}
	j.bobsDeviceID = p.Config().DeviceID
	cert, key, err := p.PEM()
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"bob.pem": cert, "bob.key": key, "bob.token": []byte(lab.Token(bob, time.Now(), nil))} {
		if err := os.WriteFile(filepath.Join(j.dir, name), b, 0o600); err != nil {
			return fmt.Errorf("keep Bob's certificate: %w", err)
		}
	}
	j.say("Its certificate, key and a token are %s/bob.pem, bob.key and bob.token.\n", j.dir)
	return nil
}

func (j *journey) farewell() {
	fmt.Fprintf(j.out, `The journey is over; everything stays up until you press Ctrl-C.

  SCEP, CRLs, OCSP   http://%[1]s
  edge               https://%[2]s   (as mail.contoso.com)
  admin API          http://%[3]s/api/v1
  configuration      %[4]s
  log                %[5]s/postern.log

Try, in another terminal:

  bin/postern -c %[4]s device list
  bin/postern -c %[4]s decision list
  bin/postern -c %[4]s audit list
  curl -s --cacert %[5]s/edge.pem --cert %[5]s/bob.pem --key %[5]s/bob.key -X OPTIONS -i \
    -H "Authorization: Bearer $(cat %[5]s/bob.token)" --resolve mail.contoso.com:%[6]s:127.0.0.1 \
    "https://mail.contoso.com:%[6]s/Microsoft-Server-ActiveSync?User=%[7]s&DeviceId=%[8]s&DeviceType=iPhone"
  curl -s http://%[1]s/contoso/issuing.crl | openssl crl -inform DER -noout -text
  bin/postern -c %[4]s device block %[9]s

The gate is open until direct access to Exchange Online is closed: README.md says how.
`, j.at.Public, j.at.Edge, j.at.Admin, j.config, j.dir, j.at.Edge[strings.LastIndexByte(j.at.Edge, ':')+1:], bob, j.bobsDeviceID, j.bob)
}
