package scep

import (
	"bytes"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

func TestScanRefuses(t *testing.T) {
	deep := append(bytes.Repeat([]byte{0x30, 0x80}, maxDepth+1), bytes.Repeat([]byte{0, 0}, maxDepth+1)...)
	many := append([]byte{0x30, 0x80}, bytes.Repeat([]byte{5, 0}, maxElements)...)
	many = append(many, 0, 0)
	for name, test := range map[string]struct {
		ber  []byte
		want string
	}{
		"nothing":                {nil, "cut off"},
		"one byte":               {[]byte{0x30}, "cut off"},
		"two bytes of length":    {[]byte{0x30, 0x82, 1}, "cut off"},
		"length without octets":  {[]byte{0x30, 0x84}, "cut off"},
		"high tag":               {[]byte{0x3f, 0x81}, "tag number"},
		"high tag inside":        {[]byte{0x30, 3, 0x1f, 0x81, 0}, "tag number"},
		"text":                   {[]byte("0,0 of text, not a message"), "longer than"},
		"not a SEQUENCE":         {[]byte{4, 1, 0}, "not a SEQUENCE"},
		"a SET":                  {[]byte{0x31, 0}, "not a SEQUENCE"},
		"primitive SEQUENCE":     {[]byte{0x10, 0}, "primitive with tag"},
		"constructed BOOLEAN":    {[]byte("!!"), "constructed element"},
		"constructed INTEGER":    {[]byte{0x30, 2, 0x22, 0}, "constructed element"},
		"longer than its parent": {[]byte{0x30, 3, 4, 2, 1}, "longer than"},
		"longer than the body":   {[]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}, "longer than"},
		"negative":               {[]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, "longer than"},
		"length of five octets":  {[]byte{0x30, 0x85, 0, 0, 0, 0, 0}, "length of 5 octets"},
		"reserved length":        {append([]byte{0x30, 0xff}, make([]byte, 127)...), "length of 127 octets"},
		"indefinite primitive":   {[]byte{0x30, 0x80, 4, 0x80, 0, 0, 0, 0}, "indefinite length"},
		"end out of place":       {[]byte{0x30, 2, 0, 0}, "end-of-contents"},
		"no end":                 {[]byte{0x30, 0x80, 5, 0}, "cut off"},
		"end beyond the parent":  {[]byte{0x30, 2, 0x30, 0x80, 0, 0}, "cut off"},
		"INTEGER in a string":    {[]byte{0x30, 5, 0x24, 3, 2, 1, 0}, "inside an OCTET STRING"},
		"trailing byte":          {[]byte{0x30, 0, 0}, "after its end"},
		"trailing after BER":     {[]byte{0x30, 0x80, 0, 0, 0, 0}, "after its end"},
		"deep":                   {deep, "nested deeper"},
		"many elements":          {many, "elements"},
		"0x30 all over":          {bytes.Repeat([]byte{0x30}, MaxMessage), "longer than"},
		"0x30 0x80 all over":     {bytes.Repeat([]byte{0x30, 0x80}, MaxMessage/2), "nested deeper"},
		"too large":              {bytes.Repeat([]byte{0x30}, MaxMessage+1), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Scan(test.ber)
			wantMalformed(t, err)
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q", err, test.want)
			}
			if _, err := normalize(test.ber); err == nil {
				t.Error("normalize takes it")
			}
		})
	}
}

func TestScanTakesRealMessages(t *testing.T) {
	der := pkcsReq(t, AES256).encode(t)
	ber := toBER(t, der)
	for name, message := range map[string][]byte{
		"DER": der, "BER": ber,
		"deepest":       append(bytes.Repeat([]byte{0x30, 0x80}, maxDepth), bytes.Repeat([]byte{0, 0}, maxDepth)...),
		"padded length": {0x30, 0x84, 0, 0, 0, 2, 5, 0},
	} {
		if err := Scan(message); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := testing.AllocsPerRun(10, func() { Scan(ber) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	same, err := normalize(der)
	if err != nil || !bytes.Equal(same, der) {
		t.Errorf("DER does not stay the same: %v", err)
	}
}

func TestNormalize(t *testing.T) {
	for name, test := range map[string]struct{ in, want []byte }{
		"empty":      {[]byte{0x30, 0x80, 0, 0}, []byte{0x30, 0}},
		"padded":     {[]byte{0x30, 0x83, 0, 0, 4, 4, 0x82, 0, 0}, []byte{0x30, 2, 4, 0}},
		"segments":   {[]byte{0x30, 0x80, 0x24, 0x80, 4, 1, 'a', 4, 0, 4, 1, 'b', 0, 0, 0, 0}, []byte{0x30, 4, 4, 2, 'a', 'b'}},
		"no segment": {[]byte{0x30, 2, 0x24, 0}, []byte{0x30, 2, 4, 0}},
		"siblings":   {[]byte{0x30, 8, 0x31, 0x80, 5, 0, 0, 0, 0xa0, 0}, []byte{0x30, 6, 0x31, 2, 5, 0, 0xa0, 0}},
	} {
		got, err := normalize(test.in)
		if err != nil || !bytes.Equal(got, test.want) {
			t.Errorf("%s: got % x, %v; want % x", name, got, err, test.want)
		}
	}
}

// The library's reader of BER takes quadratic time and recurses. What Scan lets
// through must be cheap for it. The bound is far off: 100 times what is measured.
func TestWorstAcceptedIsCheap(t *testing.T) {
	inner := append([]byte{0x24, 0x80}, bytes.Repeat([]byte{4, 5, 1, 2, 3, 4, 5}, maxElements-100)...)
	inner = append(inner, 0, 0)
	worst := append(bytes.Repeat([]byte{0x30, 0x80}, maxDepth-1), inner...)
	worst = append(worst, bytes.Repeat([]byte{0, 0}, maxDepth-1)...)
	if err := Scan(worst); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := ParseRequest(worst); err == nil {
		t.Error("it is a message")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzScan(f *testing.F) {
	der := pkcsReq(f, AES128).encode(f)
	f.Add(der)
	f.Add(toBER(f, der))
	f.Add([]byte{0x30, 0x80, 0x24, 0x80, 4, 1, 'a', 0, 0, 0, 0})
	f.Add(bytes.Repeat([]byte{0x30}, 64))
	f.Fuzz(func(t *testing.T, ber []byte) {
		if err := Scan(ber); err != nil {
			wantMalformed(t, err)
			return
		}
		der, err := normalize(ber)
		if err != nil {
			t.Fatalf("Scan takes what normalize refuses: %v", err)
		}
		if len(der) > len(ber) {
			t.Fatalf("%d bytes became %d", len(ber), len(der))
		}
		again, err := normalize(der)
		if err != nil || !bytes.Equal(again, der) {
			t.Fatalf("not stable: %v\n% x\n% x", err, der, again)
		}
		var v asn1.RawValue
		if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 {
			t.Fatalf("not DER: %v", err)
		}
		start := time.Now()
		_, _ = pkcs7.Parse(der)
		_, _ = ParseRequest(ber)
		if took := time.Since(start); took > 2*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}
