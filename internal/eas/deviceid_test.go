package eas

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestOneDeviceOneID(t *testing.T) {
	for want, spellings := range map[DeviceID][]string{
		"v140device":                       {"v140Device", "V140DEVICE", "76313430446576696365", "76313430446576696365"},
		"nine1a2b3c":                       {"nine1a2b3c", "6e696e6531613262" + "3363", "6E696E65316132623363"},
		"androidc1294214553":               {"androidc1294214553", "ANDROIDC1294214553"},
		"ocvu77e6tt7jr3q0h31158ou7c":       {"OCVU77E6TT7JR3Q0H31158OU7C", hex.EncodeToString([]byte("OCVU77E6TT7JR3Q0H31158OU7C"))},
		"e1568c571e684e0fb1724da85d215dc0": {"e1568c571e684e0fb1724da85d215dc0", "E1568C571E684E0FB1724DA85D215DC0"},
		"bf36923991adfba9":                 {"BF36923991ADFBA9"},
		"353918055252525":                  {"353918055252525"},
		"0":                                {"0"},
	} {
		for _, s := range spellings {
			if id, err := ParseDeviceID(s); err != nil || id != want {
				t.Errorf("%s is %q, %v, want %q", s, id, err, want)
			}
		}
	}
}

func TestDeviceIDOfBothEncodings(t *testing.T) {
	for raw, plain := range map[string]string{
		"v140Device": "76313430446576696365",
		"Nine1234":   "nine1234",
		"\xe1\x56\x8c\x57\x1e\x68\x4e\x0f\xb1\x72\x4d\xa8\x5d\x21\x5d\xc0": "E1568C571E684E0FB1724DA85D215DC0",
		"0123456789abcdef": "30313233343536373839616263646566",
	} {
		a, err1 := ParseDeviceIDBytes([]byte(raw))
		b, err2 := ParseDeviceID(plain)
		if err1 != nil || err2 != nil || a != b {
			t.Errorf("%q is %q, %v; %s is %q, %v", raw, a, err1, plain, b, err2)
		}
	}
}

func TestDeviceIDRefusals(t *testing.T) {
	for _, s := range []string{"", "a-b", "ä", "a b", strings.Repeat("z", 33), strings.Repeat("0", 64), strings.Repeat("31", 33)} {
		if id, err := ParseDeviceID(s); err == nil {
			t.Errorf("%q is %q", s, id)
		}
	}
	for _, s := range []string{"", strings.Repeat("z", 33), strings.Repeat("\x00", 17)} {
		if id, err := ParseDeviceIDBytes([]byte(s)); err == nil {
			t.Errorf("bytes %q are %q", s, id)
		}
	}
}
