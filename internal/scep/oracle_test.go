package scep

import (
	"bytes"
	"net/http"
	"testing"
)

// TestDoorIsNoOracle: whatever an envelope holds once it is decrypted, the answer looks the same over HTTP. A server that tells the one from the other
// decrypts a captured envelope, with the challenge in it, for whoever asks often enough.
func TestDoorIsNoOracle(t *testing.T) {
	g := newGate(t)
	envelope := func(content []byte) []byte {
		e, err := seal(content, g.issuer.RACertificate(), AES128)
		g.must(err)
		return e
	}
	broken := envelope(bytes.Repeat([]byte("x"), 64))
	broken[len(broken)-1] ^= 1 // bad padding
	csr := csrWith(g, rsaKeys()[0], ask{}.subject)
	csr[len(csr)-1] ^= 1 // the CSR's own signature
	for name, e := range map[string][]byte{
		"bad padding": broken, "no DER": envelope([]byte("no DER at all")), "empty": envelope(nil), "nested": envelope(bytes.Repeat([]byte{0x30, 0x80}, 500)),
		"other DER": envelope([]byte{0x30, 3, 2, 1, 1}), "CSR with a bad signature": envelope(csr),
	} {
		m := newMessage(PKCSReq, selfSignedOnce(rsaKeys()[0]), e)
		a := g.post(m.encode(g), ask{}.party())
		if a.code != http.StatusOK || a.rep.status != "2" || a.rep.failInfo != "1" || a.rep.failText != "the message cannot be decrypted, or what is in it is damaged" {
			t.Errorf("%s: HTTP %d, status %q, failInfo %q, %q", name, a.code, a.rep.status, a.rep.failInfo, a.rep.failText)
		}
	}
}
