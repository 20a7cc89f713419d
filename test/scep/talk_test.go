package scep_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/test/scep"
)

// server is who is asked, and what can be done to it besides asking. Only url and applicant are needed.
type server struct {
	url         string
	applicant   func() (scep.Applicant, error)
	again       func(scep.Applicant) (scep.Applicant, error) // another challenge for the same one
	pending     func() (scep.Applicant, error)
	approve     func(scep.Applicant) error
	prepareNext func() error // from then on there is a next CA, which signs nothing
	revoke      func(*big.Int) error
	hold        func(*big.Int) error
	block       func(scep.Applicant) error
	legacy      *server
	oneTime     bool // its challenges can be used once
	names       bool // it takes names from its records
}

// talk is the conversation with one server.
type talk struct {
	t      *testing.T
	server *server
	client *scep.Client
	caps   []string
	chain  []*x509.Certificate
	to     *x509.Certificate // what requests are encrypted to
	ca     *x509.Certificate // what issues
	keys   chan *rsa.PrivateKey
	seen   []*answer // every CertRep so far
}

// stop ends a row whose preparation went wrong.
type stop struct{ error }

func newTalk(t *testing.T, s *server) *talk {
	t.Helper()
	k := &talk{t: t, server: s, client: scep.NewClient(s.url, 4), keys: make(chan *rsa.PrivateKey, 8)}
	t.Cleanup(k.client.Close)
	var err error
	if k.caps, err = k.client.Capabilities(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k.chain, err = k.client.Chain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k.to, err = scep.Recipient(k.chain); err != nil {
		t.Fatal(err)
	}
	k.ca = scep.CA(k.chain)
	go func() {
		for t.Context().Err() == nil {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				panic(err)
			}
			select {
			case k.keys <- key:
			case <-t.Context().Done():
			}
		}
	}()
	return k
}

// try asks one question and fills its cell.
func (k *talk) try(r row) (cell string) {
	defer func() {
		if p := recover(); p != nil {
			s, ok := p.(stop)
			if !ok {
				panic(p)
			}
			cell = "no: " + s.Error()
		}
	}()
	a := r.send(k)
	if err := r.want.check(k, a); err != nil {
		return "no: " + err.Error()
	}
	return "yes"
}

// must ends the row with an error of what comes before its question.
func (k *talk) must(err error) {
	if err != nil {
		k.failf("an earlier step: %w", err)
	}
}

func (k *talk) key() *rsa.PrivateKey { return <-k.keys }

func (k *talk) applicant() scep.Applicant {
	a, err := k.server.applicant()
	k.must(err)
	return a
}

// request is one pkiMessage in the making. Changes are applied before it is built.
type request struct {
	k         *talk
	app       scep.Applicant
	kind      int
	csr       scep.CSR
	content   []byte // instead of the CSR
	signer    *x509.Certificate
	signerKey crypto.Signer
	id        string
	message   []func(*scep.Message)
	der       []func([]byte) []byte
	send      func([]byte) (*scep.Response, error)

	built *scep.Message
	sent  []byte
}

type change func(*request)

// answer is what a server said to a request.
type answer struct {
	request *request
	http    *scep.Response
	reply   *scep.Reply // nil where there is none that can be verified
	err     error
}

// String says what the server did.
func (a *answer) String() string {
	switch {
	case a.http == nil:
		return "no HTTP answer"
	case a.http.Status != http.StatusOK:
		return fmt.Sprintf("HTTP %d", a.http.Status)
	case a.err != nil:
		return a.err.Error()
	case a.reply != nil:
		return a.reply.String()
	}
	return "HTTP 200"
}

// pkcsReq is a first enrolment that nothing is wrong with, and its changes.
func (k *talk) pkcsReq(changes ...change) *answer {
	return k.enrolment(k.applicant(), changes...)
}

func (k *talk) enrolment(app scep.Applicant, changes ...change) *answer {
	return k.do(k.newRequest(app, changes...))
}

func (k *talk) newRequest(app scep.Applicant, changes ...change) *request {
	r := &request{k: k, app: app, kind: scep.PKCSReq}
	r.csr = scep.CSR{Key: k.key(), CommonName: app.Mail, SANEmails: []string{app.Mail}}
	if app.Challenge != "" {
		r.csr.Challenges = []asn1.RawValue{scep.Challenge(app.Challenge)}
	}
	for _, c := range changes {
		c(r)
	}
	return r
}

// build makes the message.
func (r *request) build() []byte {
	content := r.content
	var err error
	if content == nil {
		content, err = r.csr.Build()
		r.k.must(err)
	}
	if r.signer == nil {
		if r.signerKey == nil {
			r.signerKey = r.csr.Key
		}
		r.signer, err = scep.SelfSigned(r.signerKey, r.csr.Subject(), time.Now().Add(-time.Hour), time.Now().Add(240*time.Hour))
		r.k.must(err)
	}
	r.built = scep.NewMessage(r.kind, r.k.to, r.signer, r.signerKey, content)
	if r.id != "" {
		r.built.TransactionID = r.id
	}
	for _, c := range r.message {
		c(r.built)
	}
	der, err := r.built.Build()
	r.k.must(err)
	for _, c := range r.der {
		der = c(der)
	}
	r.sent = der
	return der
}

// do builds a request, sends it and reads the answer.
func (k *talk) do(r *request) *answer {
	r.build()
	return k.resend(r)
}

// resend sends the very bytes that were built before.
func (k *talk) resend(r *request) *answer {
	if r.send == nil {
		r.send = func(der []byte) (*scep.Response, error) { return k.client.Post(k.t.Context(), der) }
	}
	a := &answer{request: r}
	if a.http, a.err = r.send(r.sent); a.err != nil || a.http.Status != http.StatusOK {
		return a
	}
	key, _ := r.signerKey.(*rsa.PrivateKey)
	if a.reply, a.err = scep.ReadReply(a.http.Body, r.signer, key); a.reply == nil {
		return a
	}
	k.seen = append(k.seen, a)
	if a.err == nil {
		a.err = k.acceptable(a)
	}
	return a
}

// acceptable reports why a client must not accept a CertRep: it is not of this server, or not to this request (RFC 8894, section 3.2.1).
func (k *talk) acceptable(a *answer) error {
	switch r := a.reply; {
	case !slices.ContainsFunc(k.chain, r.Signer.Equal):
		return fmt.Errorf("signed by a certificate that GetCACert does not have")
	case r.MessageType != scep.CertRep:
		return fmt.Errorf("messageType %d", r.MessageType)
	case r.TransactionID != a.request.built.TransactionID:
		return fmt.Errorf("another transactionID")
	case !bytes.Equal(r.RecipientNonce, a.request.built.Nonce):
		return fmt.Errorf("recipientNonce is not the request's senderNonce")
	}
	return nil
}

// raw sends bytes that are no pkiMessage.
func (k *talk) raw(body []byte) *answer {
	a := &answer{}
	a.http, a.err = k.client.Post(k.t.Context(), body)
	return a
}

// enrolled is somebody with a certificate.
type enrolled struct {
	app     scep.Applicant
	key     *rsa.PrivateKey
	cert    *x509.Certificate
	request *request
}

// enrol gets a first certificate, or ends the row.
func (k *talk) enrol(changes ...change) *enrolled { return k.enrolAs(k.applicant(), changes...) }

func (k *talk) enrolAs(app scep.Applicant, changes ...change) *enrolled {
	a := k.enrolment(app, changes...)
	if err := success.check(k, a); err != nil {
		panic(stop{fmt.Errorf("a plain enrolment fails: %w", err)})
	}
	return &enrolled{app, a.request.signerKey.(*rsa.PrivateKey), a.reply.Certificates[0], a.request}
}

// renewal is a RenewalReq for a new key, signed with the certificate.
func (k *talk) renewal(e *enrolled, changes ...change) *answer {
	app := e.app
	app.Challenge = ""
	r := k.newRequest(app, append([]change{kind(scep.RenewalReq), signedBy(e.cert, e.key)}, changes...)...)
	return k.do(r)
}

// query is a CertPoll, GetCert or GetCRL, signed with a certificate.
func (k *talk) query(e *enrolled, t int, content []byte, changes ...change) *answer {
	return k.do(k.newRequest(e.app, append([]change{kind(t), signedBy(e.cert, e.key), func(r *request) { r.content = content }}, changes...)...))
}

// The changes.

func kind(n int) change { return func(r *request) { r.kind = n } }

func signedBy(c *x509.Certificate, key crypto.Signer) change {
	return func(r *request) { r.signer, r.signerKey = c, key }
}

func msg(f func(*scep.Message)) change { return func(r *request) { r.message = append(r.message, f) } }

func csr(f func(*scep.CSR)) change { return func(r *request) { f(&r.csr) } }

func der(f func([]byte) []byte) change { return func(r *request) { r.der = append(r.der, f) } }

func challenge(all ...asn1.RawValue) change {
	return func(r *request) { r.csr.Challenges = all }
}

func using(c scep.Cipher) change { return msg(func(m *scep.Message) { m.Seal.Cipher = c }) }

func digest(d scep.Digest) change { return msg(func(m *scep.Message) { m.Digest = d }) }

func transaction(id string) change { return func(r *request) { r.id = id } }

// without takes a signed attribute away.
func without(oid asn1.ObjectIdentifier) change {
	return msg(func(m *scep.Message) {
		m.Attributes = func(all []scep.Attribute) []scep.Attribute {
			return slices.DeleteFunc(all, func(a scep.Attribute) bool { return a.Type.Equal(oid) })
		}
	})
}

// with replaces a signed attribute, or adds one.
func with(a scep.Attribute) change {
	return msg(func(m *scep.Message) {
		before := m.Attributes
		m.Attributes = func(all []scep.Attribute) []scep.Attribute {
			if before != nil {
				all = before(all)
			}
			return append(slices.DeleteFunc(all, func(b scep.Attribute) bool { return b.Type.Equal(a.Type) }), a)
		}
	})
}

// twice adds a second attribute of the same type.
func twice(a scep.Attribute) change {
	return msg(func(m *scep.Message) {
		m.Attributes = func(all []scep.Attribute) []scep.Attribute { return append(all, a) }
	})
}

// What is expected.

type want struct {
	text  string
	check func(*talk, *answer) error
}

// got is the complaint about anything else.
func got(a *answer) error { return fmt.Errorf("%s", a) }

// success is a certificate for the CSR's key, by the CA, first in the message.
var success = want{"SUCCESS", func(k *talk, a *answer) error {
	if a.err != nil || a.reply == nil || a.reply.Status != scep.Success {
		return got(a)
	}
	if len(a.reply.Certificates) == 0 {
		return fmt.Errorf("SUCCESS without a certificate")
	}
	leaf := a.reply.Certificates[0]
	if key, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || a.request.csr.Key != nil && !key.Equal(a.request.csr.Key.Public()) {
		return fmt.Errorf("the first certificate is for another key")
	}
	if err := leaf.CheckSignatureFrom(k.ca); err != nil {
		return fmt.Errorf("the certificate is not signed by the CA of GetCACert")
	}
	return nil
}}

// failure is a CertRep with one of these reasons; none means any.
func failure(reasons ...int) want {
	names := make([]string, len(reasons))
	for i, n := range reasons {
		names[i] = scep.FailName(n)
	}
	return want{strings.TrimSpace("FAILURE " + strings.Join(names, " or ")), func(_ *talk, a *answer) error {
		if a.err != nil || a.reply == nil || a.reply.Status != scep.Failure || len(reasons) > 0 && !slices.Contains(reasons, a.reply.FailInfo) {
			return got(a)
		}
		return nil
	}}
}

// refused is FAILURE, or an HTTP error that blames the client: no CertRep can answer what has no readable transactionID.
var refused = want{"FAILURE or HTTP 4xx", func(_ *talk, a *answer) error {
	if a.http != nil && a.http.Status >= 400 && a.http.Status < 500 || a.err == nil && a.reply != nil && a.reply.Status == scep.Failure {
		return nil
	}
	return got(a)
}}

// rejected is an HTTP error that blames the client.
var rejected = want{"HTTP 4xx", func(_ *talk, a *answer) error {
	if a.http != nil && a.http.Status >= 400 && a.http.Status < 500 {
		return nil
	}
	return got(a)
}}

var waits = want{"PENDING", func(_ *talk, a *answer) error {
	if a.err != nil || a.reply == nil || a.reply.Status != scep.Pending {
		return got(a)
	}
	return nil
}}

// and adds a condition.
func (w want) and(text string, check func(*talk, *answer) error) want {
	return want{w.text + ", " + text, func(k *talk, a *answer) error {
		if err := w.check(k, a); err != nil {
			return err
		}
		return check(k, a)
	}}
}

// fact is an expectation about something else than one answer; the row's own function checks it.
func fact(text string) want { return want{text, func(*talk, *answer) error { return nil }} }

func send(changes ...change) func(*talk) *answer {
	return func(k *talk) *answer { return k.pkcsReq(changes...) }
}

// failf ends the row.
func (k *talk) failf(format string, args ...any) { panic(stop{fmt.Errorf(format, args...)}) }
