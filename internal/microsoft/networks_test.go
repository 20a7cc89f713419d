package microsoft

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKnownNetworks(t *testing.T) {
	n, err := KnownNetworks()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.DateOnly, n.Date); err != nil || !strings.HasPrefix(n.Source, "https://learn.microsoft.com/") {
		t.Errorf("date %q, source %q", n.Date, n.Source)
	}
	for network, want := range map[string]string{
		"20.190.160.0/24": "Microsoft Entra ID", "40.126.1.0/24": "Microsoft Entra ID", "2603:1026:3000::/48": "Microsoft Entra ID",
		"52.97.1.0/24": "Exchange Online", "131.253.33.0/24": "Exchange Online", "2603:1026:1::/48": "Exchange Online",
		"192.0.2.0/24": "", "127.0.0.0/24": "", "2001:db8::/48": "", "": "", "20.190.160.1": "", "nonsense": "",
	} {
		if got := n.Service(network); got != want {
			t.Errorf("%s: %q, want %q", network, got, want)
		}
	}
}

func TestReadNetworks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`[{"id":1,"serviceArea":"Exchange","serviceAreaDisplayName":"Exchange Online","urls":["outlook.office.com"],"ips":["192.0.2.0/25","2001:db8::/36"],"tcpPorts":"80,443"},
		{"id":8,"serviceAreaDisplayName":"Exchange Online","urls":["*.outlook.com"]},{"id":56,"serviceAreaDisplayName":"Microsoft 365 Common","ips":["198.51.100.0/24"]}]`)
	when := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	n, err := ReadNetworks(path)
	if err != nil {
		t.Fatal(err)
	}
	if n.Date != "2026-05-04" || n.Source != path || n.Service("192.0.2.0/24") != "Exchange Online" || n.Service("198.51.100.0/24") != "Microsoft Entra ID" {
		t.Errorf("%+v", n)
	}
	for name, text := range map[string]string{
		"empty": "", "comments": "# none\n", "no sets": "[]", "no addresses": `[{"id":1}]`, "half a list": `[{"id":1,"ips":["192.0.2.0/24"]`, "other JSON": `{"ips":["192.0.2.0/24"]}`,
		"everybody": "All: 0.0.0.0/0\n", "half of everybody": "All: ::/1\n", "an address": "One: 192.0.2.1\n", "not the first": "One: 192.0.2.1/24\n",
		"mapped": "One: ::ffff:192.0.2.0/120\n", "no service": "192.0.2.0/24\n", "too long": strings.Repeat("#", maxNetworksFile+1),
		"too many": func() string {
			var b strings.Builder
			for i := range maxNetworks + 1 {
				fmt.Fprintf(&b, "Many: 10.%d.%d.0/24\n", i/256, i%256)
			}
			return b.String()
		}(),
	} {
		write(text)
		if n, err := ReadNetworks(path); err == nil || n != nil {
			t.Errorf("%s: was read", name)
		}
	}
	if _, err := ReadNetworks(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}

// FuzzNetworks: whatever the file holds, what comes of it can be asked and is not everybody.
func FuzzNetworks(f *testing.F) {
	f.Add([]byte("date: 2026-01-01\nOne: 192.0.2.0/24 2001:db8::/32\n"), "192.0.2.0/24")
	f.Add([]byte(`[{"id":56,"ips":["192.0.2.0/24"]}]`), "2001:db8::/48")
	f.Fuzz(func(t *testing.T, raw []byte, of string) {
		n, err := parseNetworks(raw)
		if err != nil {
			return
		}
		_ = n.Service(of)
		for _, m := range n.all {
			if m.prefix.Bits() < 8 || len(m.service) > 80 {
				t.Errorf("%s of %q", m.prefix, m.service)
			}
		}
	})
}
