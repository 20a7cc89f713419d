package edge

import (
	"net/http"
	"testing"
)

// Every header that must not be said is removed, also in a form that net/http does not make; names that only begin alike stay.
func TestCleanHeader(t *testing.T) {
	h := http.Header{"X-Ms-Policykey": {"1"}, "User-Agent": {"a"}, "Ssl": {"a"}, "Content-Type": {"b"}, "Xa": {"c"}}
	left := len(h)
	for _, prefix := range droppedPrefixes {
		if c := prefix[0] | 0x20; c != 'x' && c != 's' {
			t.Errorf("%s is not looked for", prefix)
		}
		h[prefix+"Anything"], h["x"+prefix[1:]+"small"] = []string{"1"}, []string{"1"}
		if prefix[0] == 'S' {
			delete(h, "x"+prefix[1:]+"small")
			h["s"+prefix[1:]+"small"] = []string{"1"}
		}
	}
	for name := range droppedHeaders {
		h[name] = []string{"1"}
	}
	h["X_Forwarded_For"], h[""] = []string{"1"}, []string{"1"}
	if cleanHeader(h); len(h) != left {
		t.Errorf("left: %v", h)
	}
}
