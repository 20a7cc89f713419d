package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	mrand "math/rand/v2"
	"slices"
	"testing"
	"time"
)

// pairOf is a CA with that key.
func pairOf(t testing.TB, key crypto.Signer) pair {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Contoso Issuing CA", Organization: []string{"Contoso"}}, NotBefore: time.Now(),
		NotAfter: time.Now().AddDate(5, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign, SubjectKeyId: []byte{1, 2, 3, 200}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return pair{cert: cert, key: key}
}

func newKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	keys := map[string]crypto.Signer{}
	var err error
	if keys["RSA"], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		if keys[curve.Params().Name], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	if _, keys["Ed25519"], err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return keys
}

// someEntries are in ascending order, with serial numbers of every length.
func someEntries(n int, reasons ...int) (list []x509.RevocationListEntry) {
	rng := mrand.New(mrand.NewPCG(1, 2))
	for i := range n {
		raw := make([]byte, 1+i%20)
		for j := range raw {
			raw[j] = byte(rng.Uint32())
		}
		raw[0] |= 1
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Minute)
		if i%50 == 49 {
			at = at.AddDate(30, 0, 0)
		}
		list = append(list, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(raw), RevocationTime: at, ReasonCode: reasons[i%len(reasons)]})
	}
	slices.SortFunc(list, func(a, b x509.RevocationListEntry) int { return a.SerialNumber.Cmp(b.SerialNumber) })
	return slices.CompactFunc(list, func(a, b x509.RevocationListEntry) bool { return a.SerialNumber.Cmp(b.SerialNumber) == 0 })
}

// What is signed here is, octet for octet, what crypto/x509 signs.
func TestCRLIsThatOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	lists := map[string]CRL{
		"empty":      {Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)},
		"base":       {Number: big.NewInt(1 << 40), ThisUpdate: now, NextUpdate: now.AddDate(0, 0, 7), NextPublish: now.AddDate(0, 0, 1), FreshestURL: "http://crl.contoso.com/c/issuing-delta.crl"},
		"delta":      {Number: big.NewInt(129), BaseNumber: big.NewInt(128), ThisUpdate: now, NextUpdate: now.AddDate(0, 0, 1), NextPublish: now.Add(time.Hour)},
		"after 2049": {Number: new(big.Int).Lsh(big.NewInt(1), 158), ThisUpdate: now.AddDate(30, 0, 0), NextUpdate: now.AddDate(30, 0, 1), NextPublish: now.AddDate(30, 0, 1)},
	}
	for name, key := range newKeys(t) {
		p := pairOf(t, key)
		for what, c := range lists {
			for _, n := range []int{0, 1, 300} {
				list := someEntries(n, 0, 1, 4, 9)
				if c.BaseNumber != nil {
					list = someEntries(n, 0, 6, 8)
				}
				var err error
				if c.Entries, err = EncodeEntries(list); err != nil {
					t.Fatal(err)
				}
				got, err := p.signCRL(c)
				if err != nil {
					t.Fatalf("%s, %s, %d entries: %v", name, what, n, err)
				}
				same(t, name+", "+what, got.DER, standard(t, p, c, list), name == "RSA" || name == "Ed25519")
				back(t, got, list)
			}
		}
	}
}

// standard lets crypto/x509 sign.
func standard(t testing.TB, p pair, c CRL, list []x509.RevocationListEntry) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: c.Number, ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate, RevokedCertificateEntries: list}
	add := func(id asn1.ObjectIdentifier, critical bool, v any) {
		raw, ok := v.([]byte)
		if !ok {
			var err error
			if raw, err = asn1.Marshal(v); err != nil {
				t.Fatal(err)
			}
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: raw})
	}
	if c.BaseNumber != nil {
		add(oidDeltaIndicator, true, c.BaseNumber)
	}
	if c.FreshestURL != "" {
		fresh, err := freshestCRL(c.FreshestURL)
		if err != nil {
			t.Fatal(err)
		}
		add(fresh.Id, false, fresh.Value)
	}
	if !c.NextPublish.IsZero() {
		add(oidNextCRLPublish, false, c.NextPublish)
	}
	raw, err := x509.CreateRevocationList(rand.Reader, template, p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func same(t testing.TB, what string, got, want []byte, deterministic bool) {
	t.Helper()
	a, err := x509.ParseRevocationList(got)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	b, err := x509.ParseRevocationList(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.RawTBSRevocationList, b.RawTBSRevocationList) || deterministic && !bytes.Equal(got, want) {
		t.Errorf("%s: it is\n%x\nand would be\n%x", what, got, want)
	}
}

// back compares what is read back entry by entry.
func back(t testing.TB, l *List, want []x509.RevocationListEntry) {
	t.Helper()
	if l.Entries.Count() != len(want) {
		t.Fatalf("%d entries, want %d", l.Entries.Count(), len(want))
	}
	i := 0
	for e := range l.Entries.All() {
		w := want[i]
		if new(big.Int).SetBytes(e.Serial()).Cmp(w.SerialNumber) != 0 || e.Reason() != w.ReasonCode || !e.At().Equal(w.RevocationTime) {
			t.Errorf("entry %d is %x, reason %d, %s; want %x, %d, %s", i, e.Serial(), e.Reason(), e.At(), w.SerialNumber, w.ReasonCode, w.RevocationTime)
		}
		if found, ok := l.Entries.Find(e.Serial()); !ok || !bytes.Equal(found, e) {
			t.Errorf("entry %x is not found", e.Serial())
		}
		if _, ok := l.Entries.Find(append(bytes.Clone(e.Serial()), 1)); ok && len(e.Serial()) > 20 {
			t.Errorf("found what is not there")
		}
		i++
	}
	if _, ok := l.Entries.Find([]byte{0x00}); ok {
		t.Error("found serial number 0")
	}
}

func TestEncodeEntriesRefuses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for what, list := range map[string][]x509.RevocationListEntry{
		"reason 7":    {{SerialNumber: big.NewInt(9), RevocationTime: now, ReasonCode: 7}},
		"reason 11":   {{SerialNumber: big.NewInt(9), RevocationTime: now, ReasonCode: 11}},
		"reason -1":   {{SerialNumber: big.NewInt(9), RevocationTime: now, ReasonCode: -1}},
		"no serial":   {{RevocationTime: now}},
		"two without": {{RevocationTime: now}, {RevocationTime: now}},
		"serial 0":    {{SerialNumber: new(big.Int), RevocationTime: now}},
		"serial -1":   {{SerialNumber: big.NewInt(-1), RevocationTime: now}},
		"long serial": {{SerialNumber: new(big.Int).Lsh(big.NewInt(1), 168), RevocationTime: now}},
		"no time":     {{SerialNumber: big.NewInt(9)}},
		"twice":       {{SerialNumber: big.NewInt(9), RevocationTime: now}, {SerialNumber: big.NewInt(9), RevocationTime: now}},
	} {
		if _, err := EncodeEntries(list); err == nil {
			t.Errorf("%s: encoded", what)
		}
	}
}

// A CRL that was tampered with, of another CA or of another form is not read.
func TestReadCRLRefuses(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, now := pairOf(t, key), time.Now().UTC().Truncate(time.Second)
	entries, err := EncodeEntries(someEntries(40, 1))
	if err != nil {
		t.Fatal(err)
	}
	good, err := p.signCRL(CRL{Number: big.NewInt(5), ThisUpdate: now, NextUpdate: now.Add(time.Hour), Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	for i := range good.DER {
		bad := bytes.Clone(good.DER)
		bad[i] ^= 1 << (i % 8)
		if l, err := ReadCRL(bad, p.cert); err == nil {
			t.Errorf("octet %d is another: read as number %d", i, l.Number)
		}
	}
	template := func(change func(*x509.RevocationList)) []byte {
		l := &x509.RevocationList{Number: big.NewInt(5), ThisUpdate: now, NextUpdate: now.Add(time.Hour), RevokedCertificateEntries: someEntries(3, 1)}
		change(l)
		raw, err := x509.CreateRevocationList(rand.Reader, l, p.cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if _, err := ReadCRL(template(func(*x509.RevocationList) {}), p.cert); err != nil {
		t.Errorf("a good one of the standard library: %v", err)
	}
	for what, change := range map[string]func(*x509.RevocationList){
		"not sorted": func(l *x509.RevocationList) { slices.Reverse(l.RevokedCertificateEntries) },
		"twice": func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = slices.Repeat(l.RevokedCertificateEntries[:1], 2)
		},
		"removal": func(l *x509.RevocationList) { l.RevokedCertificateEntries[0].ReasonCode = 8 },
		"an IDP": func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
		},
		"not critical": func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: oidDeltaIndicator, Value: []byte{2, 1, 1}}}
		},
		"entry's issuer": func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[1].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}
		},
	} {
		if _, err := ReadCRL(template(change), p.cert); err == nil {
			t.Errorf("%s: read", what)
		}
	}
	if _, err := ReadCRL(good.DER, pairOf(t, newKeys(t)["P-256"]).cert); err == nil {
		t.Error("read as another CA's")
	}
	if _, err := ReadCRL(append(bytes.Clone(good.DER), 0), p.cert); err == nil {
		t.Error("read with something behind it")
	}
}

func FuzzReadEntries(f *testing.F) {
	for _, n := range []int{0, 1, 3, 100} {
		e, err := EncodeEntries(someEntries(n, 0, 1, 8))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.Bytes())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := ReadEntries(raw)
		if err != nil {
			return
		}
		var again []byte
		for one := range e.All() {
			if e, ok := e.Find(one.Serial()); !ok || !bytes.Equal(e, one) {
				t.Fatalf("%x is not found", one.Serial())
			}
			if at := one.At(); at.IsZero() {
				return // the 31st of February: nobody can encode it
			}
			if again, err = AppendEntry(again, new(big.Int).SetBytes(one.Serial()), one.At(), one.Reason()); err != nil {
				t.Fatal(err)
			}
		}
		if again != nil && !bytes.Equal(again, raw) {
			t.Fatalf("read %x, written %x", raw, again)
		}
	})
}

func FuzzReadCRL(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	p, now := pairOf(f, key), time.Now()
	l, err := p.signCRL(CRL{Number: big.NewInt(5), BaseNumber: big.NewInt(4), ThisUpdate: now, NextUpdate: now.Add(time.Hour), NextPublish: now.Add(time.Minute)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.DER)
	f.Add([]byte{0x30, 0x80})
	alg, err := signatureOf(p.cert.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := ReadCRL(raw, p.cert); err == nil && !bytes.Equal(raw, l.DER) {
			t.Fatal("forged")
		}
		_ = new(List).readTBS(raw, p.cert, alg) // as if it had been signed
	})
}
