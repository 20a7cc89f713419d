//go:build openssl

package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the default of RSAES-OAEP
	"crypto/sha256"
	"math/big"
	"sync"
	"testing"
)

func nativeKey(t testing.TB, bits int) (*rsa.PrivateKey, *nativeRSA) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	s, err := accelerate(key)
	if err != nil {
		t.Fatal(err)
	}
	native, ok := s.(*nativeRSA)
	if !ok {
		t.Fatalf("a %T", s)
	}
	return key, native
}

// OpenSSL signs what crypto/rsa signs, to the last byte, from many goroutines.
func TestOpenSSLSigns(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{2048, 3072, 4096} {
		key, native := nativeKey(t, bits)
		var wg sync.WaitGroup
		for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			wg.Go(func() {
				digest := make([]byte, h.Size())
				_, _ = rand.Read(digest)
				want, err := key.Sign(rand.Reader, digest, h)
				if err != nil {
					t.Error(err)
				}
				if got, err := native.Sign(rand.Reader, digest, h); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bits, %s: %v", bits, h, err)
				}
			})
		}
		wg.Wait()
		digest := sha256.Sum256(nil)
		sig, err := native.Sign(rand.Reader, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256})
		if err != nil || rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest[:], sig, nil) != nil {
			t.Errorf("%d bits, PSS: %v", bits, err)
		}
		if _, err := native.Sign(rand.Reader, digest[1:], crypto.SHA256); err == nil {
			t.Error("signed half a digest")
		}
	}
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if s, err := accelerate(p256); err != nil || s != crypto.Signer(p256) {
		t.Errorf("P-256: %T %v", s, err)
	}
}

// A session key is what was encrypted, and a random one for every other block, without an error: the caller cannot tell, and so cannot tell anybody.
func TestOpenSSLSessionKeys(t *testing.T) {
	t.Parallel()
	key, native := nativeKey(t, 2048)
	size, session := key.Size(), []byte("0123456789abcdef")
	// raw encrypts a block as it is.
	raw := func(block []byte) []byte {
		m := new(big.Int).SetBytes(block)
		return m.Exp(m, big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, size))
	}
	good := append(append([]byte{0, 2}, bytes.Repeat([]byte{7}, size-3-len(session))...), append([]byte{0}, session...)...)
	edit := func(at int, b byte) []byte {
		block := bytes.Clone(good)
		block[at] = b
		return block
	}
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, session)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		msg  []byte
		read bool
	}{
		"encrypted by crypto/rsa": {sealed, true}, "by hand": {raw(good), true},
		"first byte": {raw(edit(0, 1)), false}, "block type 1": {raw(edit(1, 1)), false}, "zero in the padding": {raw(edit(5, 0)), false},
		"zero before the last of the padding": {raw(edit(size-len(session)-2, 0)), false}, "no separator": {raw(edit(size-len(session)-1, 9)), false},
		"a zero in the key is no separator": {raw(edit(size-3, 0)), false}, "all zero": {make([]byte, size), false},
	} {
		opts := &rsa.PKCS1v15DecryptOptions{SessionKeyLen: len(session)}
		got, err := native.Decrypt(rand.Reader, c.msg, opts)
		again, err2 := native.Decrypt(rand.Reader, c.msg, opts)
		if err != nil || err2 != nil || len(got) != len(session) {
			t.Errorf("%s: %v %v", name, err, err2)
		}
		want := session
		if name == "a zero in the key is no separator" {
			want, c.read = bytes.Clone(session), true
			want[len(want)-3] = 0
		}
		if c.read != bytes.Equal(got, want) || c.read != bytes.Equal(got, again) {
			t.Errorf("%s: %x, then %x", name, got, again)
		}
	}
	if _, err := native.Decrypt(rand.Reader, bytes.Repeat([]byte{255}, size), &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 16}); err == nil {
		t.Error("a number above the modulus was decrypted")
	}
	if got, err := native.Decrypt(rand.Reader, sealed[1:], &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 16}); err == nil && bytes.Equal(got, session) {
		t.Error("a short message was decrypted")
	}
	oaep, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &key.PublicKey, session, nil) //nolint:gosec // as above
	if err != nil {
		t.Fatal(err)
	}
	if got, err := native.Decrypt(rand.Reader, oaep, &rsa.OAEPOptions{Hash: crypto.SHA1}); err != nil || !bytes.Equal(got, session) {
		t.Errorf("OAEP: %v", err)
	}
}

// BenchmarkOpenSSL compares the two operations of an enrolment with crypto/rsa in the same run.
func BenchmarkOpenSSL(b *testing.B) {
	key, native := nativeKey(b, 2048)
	digest := sha256.Sum256(nil)
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, digest[:16])
	if err != nil {
		b.Fatal(err)
	}
	for _, k := range []struct {
		name string
		crypto.Signer
		crypto.Decrypter
	}{{"go", key, key}, {"openssl", native, native}} {
		b.Run("sign/"+k.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("open/"+k.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := k.Decrypt(rand.Reader, sealed, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 16}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
