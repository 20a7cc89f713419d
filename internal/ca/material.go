package ca

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Material is the keys of an issuer and their certificates: root, issuing CA, and the RSA key of the SCEP registration authority, with those that are next
// and those that are retired.
type Material struct {
	root, issuing, ra pair // those in force; the root has no key where it is offline or another's
	cas, ras          []member
	history           history
	rootCRL           []byte // of an offline root
	ring              *keyring
}

// pair is a key and its certificate.
type pair struct {
	cert  *x509.Certificate
	above []*x509.Certificate // of an issuing CA of a company's PKI: what lies between it and the root
	key   crypto.Signer
	uri   string // where the key is; empty: in a file beside the certificate
}

// member is a generation that is not in force.
type member struct {
	pair
	id    string
	state State
	until time.Time
}

// Generate makes new keys and their certificates: P-256 for both CAs and RSA 2048 for the registration authority, since SCEP's key transport needs RSA
// (RFC 8894, section 3.1). Where Spec.Keys asks for no other place they are in memory.
func Generate(spec Spec, now time.Time) (*Material, error) { return generate(spec, now, rootHere) }

func generate(spec Spec, now time.Time, kind rootKind) (*Material, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Second)
	m := &Material{history: firstHistory(spec.ID, kind, now), ring: new(keyring)}
	if err := m.generate(spec, now); err != nil {
		return nil, errors.Join(err, m.ring.Close())
	}
	return m, nil
}

func (m *Material) generate(spec Spec, now time.Time) (err error) {
	if m.root.key, m.root.uri, err = m.ring.make(spec.Keys.Root, 1, caKey); err != nil {
		return fmt.Errorf("make root key: %w", err)
	}
	if m.root.cert, err = sign(rootTemplate(spec, now), nil, m.root.key.Public(), m.root.key); err != nil {
		return err
	}
	if m.issuing.key, m.issuing.uri, err = m.ring.make(spec.Keys.Issuing, 1, caKey); err != nil {
		return fmt.Errorf("make issuing key: %w", err)
	}
	if m.issuing.cert, err = signIssuing(spec, m.root, m.history.Root, issuingName(spec, 1), m.issuing.key.Public(), now); err != nil {
		return err
	}
	m.ra, err = m.makeRA(spec, m.issuing, IssuingCA, 1, now)
	return err
}

// signIssuing signs the certificate of an issuing CA with the root's key.
func signIssuing(spec Spec, root pair, kind rootKind, commonName string, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	t := issuingTemplate(spec, commonName, now)
	if err := spec.point(t, RootCA); err != nil {
		return nil, err
	}
	if kind == rootOffline {
		// Nobody is there to sign a delta CRL or an OCSP answer.
		t.OCSPServer, t.ExtraExtensions = nil, nil
	}
	return sign(t, root.cert, pub, root.key)
}

// makeRA makes the key of a registration authority and has the issuing CA certify it.
func (m *Material) makeRA(spec Spec, issuing pair, caID string, number int, now time.Time) (p pair, err error) {
	if p.key, p.uri, err = m.ring.make(spec.Keys.RA, number, raKey); err != nil {
		return p, fmt.Errorf("make RA key: %w", err)
	}
	t := raTemplate(spec, now)
	if err := spec.point(t, caID); err != nil {
		return p, err
	}
	p.cert, err = sign(t, issuing.cert, p.key.Public(), issuing.key)
	return p, err
}

// Options change what CreateWith makes.
type Options struct {
	// OfflineRoot is a directory that must not exist yet. root.key goes there, with all that SignRootCRLOffline and SignIssuingOffline need, to be taken away
	// from the machine; nothing that Open needs is there.
	OfflineRoot string
}

// Create generates the keys of an issuer and saves them in dir, which must not exist yet.
func Create(dir string, spec Spec, passphrase Passphrase, now time.Time) error {
	return CreateWith(dir, spec, passphrase, now, Options{})
}

// CreateWith is Create with options.
func CreateWith(dir string, spec Spec, passphrase Passphrase, now time.Time, o Options) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("create issuer %s: %w", spec.ID, err)
		}
	}()
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: %w", dir, fs.ErrExist) // before a key is made somewhere else
	}
	kind := rootHere
	if o.OfflineRoot != "" {
		if spec.Keys.Root != "" {
			return errors.New("an offline root is a file that is taken away: leave the URI of its key empty")
		}
		kind = rootOffline
	}
	m, err := generate(spec, now, kind)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.ring.Close()) }()
	if o.OfflineRoot == "" {
		return m.Save(dir, passphrase)
	}
	// The root first: without it the rest would be worth nothing. It is of no use alone, and may be removed.
	if err := m.saveOfflineRoot(o.OfflineRoot, spec, passphrase, now); err != nil {
		return err
	}
	return m.Save(dir, passphrase)
}

// Save writes root.crt, root.key, issuing.crt, issuing.key, ra.crt and ra.key into dir: all of them or, whatever happens, none. The keys are encrypted
// PKCS #8 in PEM; of a key that is elsewhere, its URI is in a file .uri in its place. When Save returns nil they survive the death of the machine. A dir with
// something in it is never touched: fs.ErrExist.
func (m *Material) Save(dir string, passphrase Passphrase) error {
	err := makeDir(dir, func(tmp string) error {
		for _, p := range m.named() {
			if p.name == RootCA && m.history.Root != rootHere {
				if err := writeNew(filepath.Join(tmp, "root.crt"), encodeCertificates(p.cert), 0o644); err != nil {
					return err
				}
				if m.rootCRL != nil {
					if err := writeNew(filepath.Join(tmp, rootCRLName), m.rootCRL, 0o644); err != nil {
						return err
					}
				}
				continue
			}
			if err := p.save(tmp, p.name, passphrase); err != nil {
				return err
			}
		}
		return m.history.write(tmp)
	})
	if err != nil {
		return fmt.Errorf("save keys: %w", err)
	}
	return nil
}

// makeDir makes dir with what fill writes, all or nothing.
func makeDir(dir string, fill func(tmp string) error) (err error) {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, ".new-*") // mode 0700
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if err := fill(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil { // fails if dir is there, unless it is empty
		return err
	}
	return errors.Join(syncDir(parent), syncDir(filepath.Dir(parent)))
}

// save writes key, or where it is, and certificate. The certificate comes last: where it is, its key is.
func (p pair) save(dir, name string, passphrase Passphrase) error {
	if err := p.saveKey(dir, name, passphrase); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, name+".crt"), encodeCertificates(append([]*x509.Certificate{p.cert}, p.above...)...), 0o644)
}

func (p pair) saveKey(dir, name string, passphrase Passphrase) error {
	path := filepath.Join(dir, name+".key")
	if p.uri != "" {
		if err := writeNew(filepath.Join(dir, name+".uri"), []byte(p.uri+"\n"), 0o600); err != nil {
			return err
		}
		var err error
		if path, err = filePath(p.uri); err != nil {
			return nil // it is where it was made
		}
	}
	key, err := encryptKey(p.key, passphrase)
	if err != nil {
		return err
	}
	return writeNew(path, key, 0o600)
}

type namedPair struct {
	*pair
	name string
}

// named returns every pair with the name of its files.
func (m *Material) named() []namedPair {
	list := []namedPair{{&m.root, RootCA}, {&m.issuing, generationName(IssuingCA, current(m.history.Issuing).Number)},
		{&m.ra, generationName(raName, current(m.history.RA).Number)}}
	for _, others := range [][]member{m.cas, m.ras} {
		for i := range others {
			list = append(list, namedPair{&others[i].pair, others[i].id})
		}
	}
	return list
}

// Load reads what Save and the rotations have written. New checks that it is all of one piece.
func Load(dir string, passphrase Passphrase) (*Material, error) {
	return load(dir, passphrase, time.Time{}, new(keyring))
}

// load reads what is in force, what is next, and what is retired and not over at the time.
func load(dir string, passphrase Passphrase, now time.Time, ring *keyring) (*Material, error) {
	h, err := readHistory(dir)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	m := &Material{history: h, ring: ring, cas: members(h.Issuing, IssuingCA, now), ras: members(h.RA, raName, now)}
	pairs := m.named()
	done := make(chan error, len(pairs))
	for _, p := range pairs {
		go func() { done <- p.load(dir, passphrase, ring, p.name == RootCA && h.Root != rootHere) }() // deriving a key from a passphrase is slow on purpose
	}
	for range pairs {
		err = errors.Join(err, <-done)
	}
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	return m, nil
}

func members(list []Generation, first string, now time.Time) (out []member) {
	for _, g := range list {
		if g.State == Next || g.State == Retired && !now.After(g.Until) {
			out = append(out, member{id: generationName(first, g.Number), state: g.State, until: g.Until})
		}
	}
	return out
}

func (p namedPair) load(dir string, passphrase Passphrase, ring *keyring, certOnly bool) error {
	data, err := readFile(filepath.Join(dir, p.name+".crt"))
	if err != nil {
		return err
	}
	certs, err := decodeCertificates(data)
	if err != nil {
		return fmt.Errorf("%s.crt: %w", p.name, err)
	}
	p.cert, p.above = certs[0], certs[1:]
	if certOnly {
		return nil
	}
	if p.key, p.uri, err = loadKey(dir, p.name, passphrase, ring); err != nil {
		return fmt.Errorf("%s.key: %w", p.name, err)
	}
	return nil
}

// loadKey opens the key of that name, in its file or where the file .uri says.
func loadKey(dir, name string, passphrase Passphrase, ring *keyring) (crypto.Signer, string, error) {
	data, err := readSecret(filepath.Join(dir, name+".uri"))
	if err == nil {
		uri := strings.TrimSpace(string(data))
		key, err := ring.load(uri, passphrase)
		return key, uri, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	if data, err = readSecret(filepath.Join(dir, name+".key")); err != nil {
		return nil, "", err
	}
	key, err := openKey(data, passphrase)
	return key, "", err
}
