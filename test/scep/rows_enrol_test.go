package scep_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"postern/test/scep"
)

// spells is the challengePassword in a string type.
func spells(tag int, encode func(string) []byte) change {
	return func(r *request) {
		r.csr.Challenges = []asn1.RawValue{{Tag: tag, Bytes: encode(r.app.Challenge)}}
	}
}

func utf8(s string) []byte { return []byte(s) }

func bmp(s string) []byte {
	var b []byte
	for _, c := range []byte(s) {
		b = append(b, 0, c)
	}
	return b
}

func enrolmentRows() []row {
	refuse := failure(scep.BadRequest)
	return []row{
		{section: "3.3.2.1", sent: "PKCSReq with a good challenge", want: success, send: send()},
		{section: "3.3.2.1", sent: "PKCSReq: the certificate", want: success.and("valid now, for clients, no CA", client), send: send()},
		{section: "2.4", sent: "a challenge as UTF8String", want: success, send: send(spells(asn1.TagUTF8String, utf8))},
		{section: "2.4", sent: "a challenge as IA5String", want: success, send: send(spells(asn1.TagIA5String, utf8))},
		{section: "2.4", sent: "a challenge as T61String", want: success, send: send(spells(asn1.TagT61String, utf8))},
		{section: "2.4", sent: "a challenge as BMPString", want: success, send: send(spells(asn1.TagBMPString, bmp))},
		{section: "2.4", sent: "no challenge", want: refuse, send: send(challenge())},
		{section: "2.4", sent: "an empty challenge", want: refuse, send: send(challenge(scep.Challenge("")))},
		{section: "2.4", sent: "a wrong challenge", want: refuse, send: send(challenge(scep.Challenge("WRONGWRONGWRONGWRONGWRONGWRONG22")))},
		{section: "2.4", sent: "two challenges, one of them good", want: refuse, send: func(k *talk) *answer {
			return k.pkcsReq(func(r *request) { r.csr.Challenges = append(r.csr.Challenges, scep.Challenge("other")) })
		}},
		{section: "2.4", sent: "a challenge of 4 kB", want: refuse, send: send(challenge(scep.Challenge(string(bytes.Repeat([]byte("A"), 4096)))))},
		{section: "2.4", sent: "a challenge used for the second time, by another key", want: refuse, send: func(k *talk) *answer { return k.enrolment(k.enrol().app) }},
		{section: "ours", sent: "16 requests at once with one challenge and different keys", want: fact("one certificate"), send: race},
		{section: "ours", sent: "a refused request, then a right one with the same challenge", want: success, send: func(k *talk) *answer {
			a := k.applicant()
			k.enrolment(a, csr(func(c *scep.CSR) { c.Spoil = true }))
			return k.enrolment(a)
		}},
		{section: "2.3", sent: "another CSR key than the signer's", want: refuse, send: func(k *talk) *answer {
			return k.pkcsReq(func(r *request) { r.signerKey = k.key() })
		}},
		{section: "3.3.2.3", sent: "PKCSReq of somebody who has to be approved", want: waits, send: func(k *talk) *answer {
			a, err := k.server.pending()
			k.must(err)
			return k.enrolment(a)
		}, needs: pending},
	}
}

// client checks what a device's certificate is for.
func client(_ *talk, a *answer) error {
	c := a.reply.Certificates[0]
	now := time.Now()
	switch {
	case c.IsCA:
		return fmt.Errorf("it is a CA")
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return fmt.Errorf("it is valid from %s to %s", c.NotBefore, c.NotAfter)
	}
	for _, u := range c.ExtKeyUsage {
		if u != x509.ExtKeyUsageClientAuth {
			return fmt.Errorf("it is good for servers too")
		}
	}
	return nil
}

// race uses one challenge from many sides.
func race(k *talk) *answer {
	app := k.applicant()
	var messages [][]byte
	for range 16 {
		messages = append(messages, k.newRequest(app).build())
	}
	replies := make(chan int, len(messages))
	for _, m := range messages {
		go func() {
			r, err := k.client.Post(k.t.Context(), m)
			if err != nil {
				replies <- -1
				return
			}
			reply, err := scep.ReadReply(r.Body, nil, nil)
			if err != nil {
				replies <- -1
				return
			}
			replies <- reply.Status
		}()
	}
	n := map[int]int{}
	for range messages {
		n[<-replies]++
	}
	if n[scep.Success] != 1 || n[scep.Failure] != len(messages)-1 {
		k.failf("%d certificates", n[scep.Success])
	}
	return nil
}

// nothingOf is FAILURE, or a certificate that does not have the text in it.
func nothingOf(what string, text func(*answer) string) want {
	return want{"FAILURE, or a certificate without " + what, func(k *talk, a *answer) error {
		if a.err == nil && a.reply != nil && a.reply.Status == scep.Failure {
			return nil
		}
		if err := success.check(k, a); err != nil {
			return err
		}
		if t := text(a); bytes.Contains(a.reply.Certificates[0].Raw, []byte(t)) {
			return fmt.Errorf("a certificate for the other")
		}
		return nil
	}}
}

func impersonationRows() []row {
	const ceo = "ceo@contoso.com"
	others := nothingOf("it", func(*answer) string { return ceo })
	wish := func(f func(*scep.CSR)) func(*talk) *answer { return send(csr(f)) }
	return []row{
		{section: "7.3", sent: "one's own challenge, another's address as CN", want: others, send: wish(func(c *scep.CSR) { c.CommonName = ceo })},
		{section: "7.3", sent: "one's own challenge, another's address in the SAN", want: others, send: wish(func(c *scep.CSR) { c.SANEmails = []string{ceo} })},
		{section: "7.3", sent: "one's own challenge, another's UPN in the SAN", want: others, send: wish(func(c *scep.CSR) { c.SANUPNs = []string{ceo} })},
		{section: "7.3", sent: "one's own challenge, another's emailAddress in the subject", want: others, send: wish(func(c *scep.CSR) { c.Email = ceo })},
		{section: "7.3", sent: "one's own challenge, another's device as CN", want: nothingOf("its serial number", victims), send: func(k *talk) *answer {
			victim := k.applicant()
			return k.pkcsReq(csr(func(c *scep.CSR) { c.CommonName, c.Serial = victim.SerialNumber, victim.SerialNumber }))
		}},
		{section: "ours", sent: "a CSR that wants to be a CA and a server", want: success.and("neither", client), send: wish(func(c *scep.CSR) {
			c.Extensions = []pkix.Extension{
				{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}},
				{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte{0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01}},
			}
		})},
		{section: "7.6", sent: "a captured envelope in a message of one's own", want: want{"FAILURE, and its owner can still enrol", func(k *talk, a *answer) error {
			if err := failure().check(k, a); err != nil {
				return err
			}
			return success.check(k, k.do(a.request))
		}}, send: captured},
		{section: "2.3", sent: "RenewalReq signed with a self-signed certificate", want: failure(), send: send(kind(scep.RenewalReq), challenge())},
		{section: "2.3", sent: "RenewalReq, self-signed, with a good challenge", want: failure(), send: send(kind(scep.RenewalReq))},
		{section: "2.3", sent: "RenewalReq signed with a forged certificate: same issuer, subject and serial number", want: failure(), send: func(k *talk) *answer {
			return k.renewal(forge(k, k.enrol()))
		}},
		{section: "2.3", sent: "the same as PKCSReq without a challenge", want: failure(), send: func(k *talk) *answer { return k.renewal(forge(k, k.enrol()), kind(scep.PKCSReq)) }},
		{section: "2.3", sent: "RenewalReq signed by a certificate of another CA", want: failure(), send: func(k *talk) *answer { return k.renewal(foreign(k)) }},
		{section: "2.3", sent: "RenewalReq with a certificate of one's own, the message signed with another key", want: failure(scep.BadMessageCheck), send: func(k *talk) *answer {
			return k.renewal(k.enrol(), msg(func(m *scep.Message) { m.SignerKey = k.key() }))
		}},
		{section: "7.6", sent: "RenewalReq for a key that one does not have", want: failure(), send: func(k *talk) *answer {
			return k.renewal(k.enrol(), func(r *request) { r.csr.SignedBy = k.key() })
		}},
		{section: "7.3", sent: "RenewalReq with another's address in the CSR", want: others, send: func(k *talk) *answer {
			return k.renewal(k.enrol(), csr(func(c *scep.CSR) { c.CommonName, c.SANEmails = ceo, []string{ceo} }))
		}},
		{section: "7.3", sent: "RenewalReq with another's challenge", want: nothingOf("the other's address", func(a *answer) string { return a.request.app.Mail }), send: func(k *talk) *answer {
			e, victim := k.enrol(), k.applicant()
			a := k.do(k.newRequest(victim, kind(scep.RenewalReq), signedBy(e.cert, e.key), csr(func(c *scep.CSR) { c.CommonName, c.SANEmails = "x", nil })))
			return a
		}},
	}
}

// victims is the serial number that the CSR of the answer names.
func victims(a *answer) string { return a.request.csr.Serial }

// captured puts the envelope of one applicant into the message of another, who has a key of his own; the answer's request is the first one's.
func captured(k *talk) *answer {
	victim := k.newRequest(k.applicant())
	victim.build()
	thief := k.newRequest(victim.app, func(r *request) { r.content, r.csr = mustBuild(k, victim.csr), scep.CSR{Key: k.key(), CommonName: "x"} })
	a := *k.do(thief)
	a.request = victim
	return &a
}

func mustBuild(k *talk, c scep.CSR) []byte {
	der, err := c.Build()
	k.must(err)
	return der
}

// forge makes a certificate with all that is in another one, and a key that the forger has.
func forge(k *talk, e *enrolled) *enrolled {
	key := k.key()
	return &enrolled{app: e.app, key: key, cert: k.copyOf(e.cert, k.ca, key, k.key())}
}

// copyOf makes a certificate with the contents of another one and another key, signed in the name of an issuer with a key that is not the issuer's.
func (k *talk) copyOf(c, issuer *x509.Certificate, public, by *rsa.PrivateKey) *x509.Certificate {
	template, parent := *c, *issuer
	template.SignatureAlgorithm, parent.PublicKey = 0, nil
	twin, err := scep.Certify(&template, &parent, public.Public(), by)
	k.must(err)
	return twin
}

// foreign makes a certificate by a CA that calls itself like the server's.
func foreign(k *talk) *enrolled {
	app, caKey, key := k.applicant(), k.key(), k.key()
	ca := &x509.Certificate{SerialNumber: big.NewInt(77), RawSubject: k.ca.RawSubject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	cert, err := scep.Certify(ca, ca, caKey.Public(), caKey)
	k.must(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(78), Subject: pkix.Name{CommonName: app.Mail}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	own, err := scep.Certify(leaf, cert, key.Public(), caKey)
	k.must(err)
	return &enrolled{app: app, key: key, cert: own}
}
