package scep

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"postern/internal/ca"
	"postern/internal/trust"
)

// issuer is one issuer at the door.
type issuer struct {
	*ca.Issuer
	id     string
	legacy bool
	log    *slog.Logger

	mu  sync.Mutex // one renewal at a time
	now atomic.Pointer[keys]
}

// keys are what the door answers with between two rotations of the issuer. They never change: a request ends with those with which it began.
type keys struct {
	ras     []recipient // the one in force first
	cas     []*x509.Certificate
	caCert  []byte          // the answer to GetCACert
	nextCA  []byte          // to GetNextCACert; nil if no CA is next
	changed <-chan struct{} // closed when the issuer has other keys
}

// recipient is a registration authority to which a client may have encrypted, and which then signs the reply: that client trusts no other.
type recipient struct {
	ca.RA
	responder *Responder
}

// keys returns what is in force, and takes up a rotation first. If that fails, what was in force is used on: the keys of retired RAs stay usable.
func (is *issuer) keys() *keys {
	k := is.now.Load()
	if !k.old() {
		return k
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	if k = is.now.Load(); !k.old() {
		return k
	}
	if err := is.renew(); err != nil {
		is.log.Error("a rotation cannot be taken up", "error", err)
	}
	return is.now.Load()
}

// old reports whether the issuer has other keys by now.
func (k *keys) old() bool {
	select {
	case <-k.changed:
		return true
	default:
		return false
	}
}

// renew makes the responders and the answers of the keys that the issuer has now. One rotation may follow another meanwhile: the next request sees that.
func (is *issuer) renew() error {
	k := &keys{changed: is.Changed()}
	for _, c := range is.Certificates() {
		k.cas = append(k.cas, c.Cert)
	}
	for _, ra := range is.RAs() {
		var above []*x509.Certificate
		for _, c := range k.cas {
			if ra.Cert.CheckSignatureFrom(c) == nil {
				above = append(above, c)
			}
		}
		r, err := NewResponder(ra.Cert, ra.Key, above...)
		if err != nil {
			return err
		}
		k.ras = append(k.ras, recipient{ra, r})
	}
	// The RA first: a client that takes the first certificate as the one to encrypt to then takes the right one.
	var err error
	if k.caCert, err = CertsOnly(append([]*x509.Certificate{k.ras[0].Cert}, is.Chain()...)...); err != nil {
		return err
	}
	if k.nextCA, err = is.NextCAMessage(); err != nil && !errors.Is(err, trust.ErrNotFound) {
		return err
	}
	is.now.Store(k)
	return nil
}

// open decrypts a request with the key for which it was encrypted, and returns the responder of that key; of the key in force if there is none.
func (k *keys) open(req *Request, legacy bool) (*Responder, error) {
	var err error
	for _, ra := range k.ras {
		if err = req.Open(ra.Cert, ra.Key, legacy, k.cas...); !errors.Is(err, ErrNotRecipient) {
			return ra.responder, err
		}
	}
	return k.ras[0].responder, err
}
