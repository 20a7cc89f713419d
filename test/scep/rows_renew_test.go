package scep_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"postern/test/scep"
)

// sameAs is SUCCESS with the certificate that was issued before.
func sameAs(first func(*answer) *x509.Certificate) want {
	return success.and("the same certificate", func(_ *talk, a *answer) error {
		if !a.reply.Certificates[0].Equal(first(a)) {
			return fmt.Errorf("a second certificate")
		}
		return nil
	})
}

func retryRows() []row {
	var first *x509.Certificate
	again := sameAs(func(*answer) *x509.Certificate { return first })
	fresh := success.and("a new certificate", func(_ *talk, a *answer) error {
		if a.reply.Certificates[0].Equal(first) {
			return fmt.Errorf("the old certificate")
		}
		return nil
	})
	keep := func(e *enrolled) *enrolled { first = e.cert; return e }
	return []row{
		{section: "5.2", sent: "the same PKCSReq again, byte by byte: the reply was lost", want: again, send: func(k *talk) *answer {
			return k.resend(keep(k.enrol()).request)
		}},
		{section: "5.2", sent: "the same CSR again in a fresh message under the same transactionID", want: again, send: func(k *talk) *answer {
			e := keep(k.enrol())
			r := *e.request
			r.id = e.request.built.TransactionID
			return k.do(&r)
		}},
		{section: "ours", sent: "the same transactionID and challenge, another CSR", want: failure(scep.BadRequest), send: func(k *talk) *answer {
			e := k.enrol()
			return k.enrolment(e.app, transaction(e.request.built.TransactionID))
		}},
		{section: "ours", sent: "another's transactionID with a challenge of one's own", want: fresh, send: func(k *talk) *answer {
			return k.pkcsReq(transaction(keep(k.enrol()).request.built.TransactionID))
		}},
		{section: "ours", sent: "PKCSReq again, as a RenewalReq without certificate", want: failure(), send: func(k *talk) *answer {
			e := k.enrol()
			r := *e.request
			r.kind, r.id = scep.RenewalReq, e.request.built.TransactionID
			return k.do(&r)
		}},
		{section: "ours", sent: "the same RenewalReq again", want: again, send: func(k *talk) *answer {
			a := k.renewal(k.enrol())
			k.must(success.check(k, a))
			first = a.reply.Certificates[0]
			return k.resend(a.request)
		}},
		{section: "ours", sent: "PKCSReq for a second time, with a new challenge and key", want: fresh, send: func(k *talk) *answer {
			e := keep(k.enrol())
			if k.server.again == nil {
				return k.pkcsReq()
			}
			app, err := k.server.again(e.app)
			k.must(err)
			return k.enrolment(app)
		}},
	}
}

// renewedAs checks that a renewal is for who had the old certificate.
func renewedAs(_ *talk, a *answer) error {
	leaf, old := a.reply.Certificates[0], a.request.signer
	if !bytes.Equal(leaf.RawSubject, old.RawSubject) {
		return fmt.Errorf("for %s instead of %s", leaf.Subject, old.Subject)
	}
	return nil
}

func renewalRows() []row {
	renewed := success.and("for the same subject", renewedAs)
	return []row{
		{section: "2.5", sent: "RenewalReq for a new key, signed with the present certificate, no challenge", want: renewed, send: func(k *talk) *answer { return k.renewal(k.enrol()) }},
		{section: "2.5", sent: "RenewalReq for the same key", want: renewed, send: func(k *talk) *answer {
			e := k.enrol()
			return k.renewal(e, func(r *request) { r.csr.Key = e.key })
		}},
		{section: "2.5", sent: "a renewal sent as PKCSReq", want: renewed, send: func(k *talk) *answer { return k.renewal(k.enrol(), kind(scep.PKCSReq)) }},
		{section: "ours", sent: "a renewal under the transactionID of the enrolment, same key", want: renewed.and("a new certificate", func(_ *talk, a *answer) error {
			if a.reply.Certificates[0].Equal(a.request.signer) {
				return fmt.Errorf("the signer's own certificate")
			}
			return nil
		}), send: func(k *talk) *answer {
			e := k.enrol()
			return k.renewal(e, transaction(e.request.built.TransactionID), func(r *request) { r.csr.Key = e.key })
		}},
		{section: "2.4", sent: "RenewalReq with the old, used challenge", want: renewed, send: func(k *talk) *answer {
			e := k.enrol()
			return k.renewal(e, challenge(scep.Challenge(e.app.Challenge)))
		}},
		{section: "2.5", sent: "RenewalReq with a CSR without names", want: renewed, send: func(k *talk) *answer {
			return k.renewal(k.enrol(), csr(func(c *scep.CSR) { c.CommonName, c.SANEmails = "", nil }))
		}},
		{section: "2.5", sent: "a renewal of a renewal", want: renewed, send: func(k *talk) *answer {
			e := k.enrol()
			a := k.renewal(e)
			k.must(success.check(k, a))
			return k.renewal(&enrolled{app: e.app, key: a.request.csr.Key.(*rsa.PrivateKey), cert: a.reply.Certificates[0]})
		}},
		{section: "ours", sent: "a second renewal of one certificate, with another key", want: failure(), send: func(k *talk) *answer {
			e := k.enrol()
			k.must(success.check(k, k.renewal(e)))
			return k.renewal(e)
		}},
		{section: "ours", sent: "after it, a renewal of the first renewal: somebody has a copy of the key", want: failure(), send: func(k *talk) *answer {
			e := k.enrol()
			a := k.renewal(e)
			k.must(success.check(k, a))
			k.renewal(e)
			return k.renewal(&enrolled{app: e.app, key: a.request.csr.Key.(*rsa.PrivateKey), cert: a.reply.Certificates[0]})
		}},
		{section: "2.3", sent: "RenewalReq signed with a revoked certificate", want: failure(scep.BadCertID, scep.BadRequest), needs: admin, send: func(k *talk) *answer {
			e := k.enrol()
			k.must(k.server.revoke(e.cert.SerialNumber))
			return k.renewal(e)
		}},
		{section: "2.3", sent: "RenewalReq signed with a certificate on hold", want: failure(scep.BadCertID, scep.BadRequest), needs: admin, send: func(k *talk) *answer {
			e := k.enrol()
			k.must(k.server.hold(e.cert.SerialNumber))
			return k.renewal(e)
		}},
		{section: "ours", sent: "RenewalReq of a blocked device", want: failure(scep.BadRequest), needs: admin, send: func(k *talk) *answer {
			e := k.enrol()
			k.must(k.server.block(e.app))
			return k.renewal(e)
		}},
		{section: "ours", sent: "PKCSReq of a blocked device", want: failure(scep.BadRequest), needs: admin, send: func(k *talk) *answer {
			a := k.applicant()
			k.must(k.server.block(a))
			return k.enrolment(a)
		}},
	}
}

func accessRows() []row {
	subject := func(e *enrolled) []byte { return e.request.csr.Subject() }
	return []row{
		{section: "4.4", sent: "CertPoll under a transactionID that nobody knows", want: failure(scep.BadCertID, scep.BadRequest), send: func(k *talk) *answer {
			e := k.enrol()
			return k.query(e, scep.CertPoll, scep.IssuerAndSubject(k.ca, subject(e)))
		}},
		{section: "4.4", sent: "CertPoll while nobody has decided", want: waits, needs: pending, send: func(k *talk) *answer {
			app, err := k.server.pending()
			k.must(err)
			a := k.enrolment(app)
			k.must(waits.check(k, a))
			return k.poll(a)
		}},
		{section: "4.4", sent: "CertPoll after approval", want: success, needs: approval, send: func(k *talk) *answer {
			app, err := k.server.pending()
			k.must(err)
			a := k.enrolment(app)
			k.must(waits.check(k, a))
			k.must(k.server.approve(app))
			return k.poll(a)
		}},
		{section: "4.4", sent: "CertPoll of a pending transaction, signed with another key", want: failure(), needs: pending, send: func(k *talk) *answer {
			app, err := k.server.pending()
			k.must(err)
			a := k.enrolment(app)
			k.must(waits.check(k, a))
			other := *a.request
			other.signer, other.signerKey = nil, k.key()
			return k.poll(&answer{request: &other})
		}},
		{section: "4.5", sent: "GetCert for one's own certificate", want: want{"SUCCESS, that certificate", func(_ *talk, a *answer) error {
			if a.err != nil || a.reply == nil || a.reply.Status != scep.Success {
				return got(a)
			}
			if len(a.reply.Certificates) == 0 || !a.reply.Certificates[0].Equal(a.request.signer) {
				return fmt.Errorf("another certificate")
			}
			return nil
		}}, send: func(k *talk) *answer {
			e := k.enrol()
			return k.query(e, scep.GetCert, scep.IssuerAndSerial(e.cert))
		}},
		{section: "4.5", sent: "GetCert for a serial number that was never issued", want: failure(scep.BadCertID), send: func(k *talk) *answer {
			e := k.enrol()
			return k.query(e, scep.GetCert, scep.IssuerAndSerial(foreign(k).cert))
		}},
		{section: "4.6", sent: "GetCRL", want: want{"SUCCESS, a CRL of the CA", func(k *talk, a *answer) error {
			if a.err != nil || a.reply == nil || a.reply.Status != scep.Success {
				return got(a)
			}
			if len(a.reply.CRLs) != 1 {
				return fmt.Errorf("%d CRLs", len(a.reply.CRLs))
			}
			return a.reply.CRLs[0].CheckSignatureFrom(k.ca)
		}}, send: func(k *talk) *answer {
			e := k.enrol()
			return k.query(e, scep.GetCRL, scep.IssuerAndSerial(e.cert))
		}},
		{section: "4.6", sent: "GetCRL for a certificate of another CA", want: failure(scep.BadCertID, scep.BadMessageCheck), send: func(k *talk) *answer {
			other := foreign(k).cert
			other.RawIssuer = []byte{0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, 'x'}
			return k.query(k.enrol(), scep.GetCRL, scep.IssuerAndSerial(other))
		}},
		{section: "3.3.3", sent: "CertPoll with a CSR in it", want: failure(), send: send(kind(scep.CertPoll))},
		{section: "3.3.1", sent: "PKCSReq with an IssuerAndSerialNumber in it", want: failure(), send: func(k *talk) *answer {
			e := k.enrol()
			return k.query(e, scep.PKCSReq, scep.IssuerAndSerial(e.cert))
		}},
	}
}

// poll asks how a pending request stands.
func (k *talk) poll(a *answer) *answer {
	r := *a.request
	r.kind, r.content = scep.CertPoll, scep.IssuerAndSubject(k.ca, a.request.csr.Subject())
	r.id = a.request.built.TransactionID
	return k.do(&r)
}

// replyRows look back at every CertRep of the run.
func replyRows() []row {
	all := func(check func(*answer) error) func(*talk) *answer {
		return func(k *talk) *answer {
			for _, a := range k.seen {
				if err := check(a); err != nil {
					k.failf("%w", err)
				}
			}
			return nil
		}
	}
	nonces := map[string]bool{}
	return []row{
		{section: "3.2.1.5", sent: "every CertRep", want: fact("a fresh senderNonce of 16 bytes"), send: all(func(a *answer) error {
			n := a.reply.SenderNonce
			if len(n) != 16 || bytes.Equal(n, a.reply.RecipientNonce) || nonces[string(n)] {
				return fmt.Errorf("it is missing, or the request's own")
			}
			nonces[string(n)] = true
			return nil
		})},
		{section: "3.2.1.5", sent: "every CertRep", want: fact("recipientNonce and transactionID of the request"), send: all(func(a *answer) error {
			if a.reply.TransactionID != a.request.built.TransactionID {
				return fmt.Errorf("another transactionID")
			}
			return nil
		})},
		{section: "3.3.2.2", sent: "every FAILURE", want: fact("failInfo, and no envelope"), send: all(func(a *answer) error {
			if a.reply.Status == scep.Failure && (a.reply.FailInfo < 0 || a.reply.FailInfo > 4 || a.reply.Enveloped) {
				return fmt.Errorf("a FAILURE with an envelope or without failInfo")
			}
			return nil
		})},
		{section: "3.2.1.4", sent: "every FAILURE", want: fact("failInfoText that says why"), send: all(func(a *answer) error {
			if a.reply.Status == scep.Failure && a.reply.FailInfoText == "" {
				return fmt.Errorf("a FAILURE without failInfoText")
			}
			return nil
		})},
		{section: "2.9", sent: "every CertRep", want: fact("signed over SHA-256 or better"), send: all(func(a *answer) error {
			if d := a.reply.Digest.Name; d == "SHA-1" || d == "MD5" {
				return fmt.Errorf("signed over %s", d)
			}
			return nil
		})},
		{section: "ours", sent: "every CertRep", want: fact("rsaEncryption in the SignerInfo: some clients know nothing else"), send: all(func(a *answer) error {
			if !a.reply.SignatureOID.Equal(scep.OIDRSA) {
				return fmt.Errorf("another algorithm identifier")
			}
			return nil
		})},
		{section: "4.3.1", sent: "every CertRep", want: fact("application/x-pki-message"), send: all(func(a *answer) error {
			if a.http.ContentType != "application/x-pki-message" {
				return fmt.Errorf("%s", a.http.ContentType)
			}
			return nil
		})},
	}
}
