// Package microsoft knows Microsoft's services from the outside: so far the networks from which Entra ID and Exchange Online come.
package microsoft

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"
)

// Limits of a file of networks.
const (
	maxNetworksFile = 4 << 20 // bytes
	maxNetworks     = 20_000
)

//go:embed networks.txt
var known []byte

// Networks says which networks are Microsoft's.
type Networks struct {
	Source string // where the list is from
	Date   string // what day it is of, for people
	all    []network
}

type network struct {
	prefix  netip.Prefix
	service string
}

// KnownNetworks returns the list that Postern brings along. It is as old as its Date says.
func KnownNetworks() (*Networks, error) { return parseNetworks(known) }

// ReadNetworks reads a list from a file: the JSON that Microsoft's web service gives (https://endpoints.office.com/endpoints/worldwide), of which everything
// with addresses counts and the date is the file's, or lines of the form "SERVICE: PREFIX PREFIX..." with "source:" and "date:".
func ReadNetworks(path string) (*Networks, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read networks: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxNetworksFile+1))
	if err != nil {
		return nil, fmt.Errorf("read networks: %w", err)
	}
	n, err := parseNetworks(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if n.Source == "" {
		n.Source = path
	}
	if info, err := f.Stat(); err == nil && n.Date == "" {
		n.Date = info.ModTime().UTC().Format(time.DateOnly)
	}
	return n, nil
}

func parseNetworks(raw []byte) (*Networks, error) {
	if len(raw) > maxNetworksFile {
		return nil, fmt.Errorf("list of networks is larger than %d bytes", maxNetworksFile)
	}
	n, err := &Networks{}, error(nil)
	if raw = bytes.TrimPrefix(raw, []byte("\ufeff")); bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
		err = n.endpoints(raw)
	} else {
		err = n.lines(string(raw))
	}
	if err == nil && len(n.all) == 0 {
		err = errors.New("list of networks is empty")
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

// endpoints reads what Microsoft's web service answers.
func (n *Networks) endpoints(raw []byte) error {
	var sets []struct {
		ID      int      `json:"id"`
		Service string   `json:"serviceAreaDisplayName"`
		IPs     []string `json:"ips"`
	}
	if err := json.Unmarshal(raw, &sets); err != nil {
		return fmt.Errorf("list of endpoints: %w", err)
	}
	const identity = 56 // the endpoint set of sign-in, among what all services have in common
	for _, s := range sets {
		if s.ID == identity {
			s.Service = "Microsoft Entra ID"
		}
		for _, ip := range s.IPs {
			if err := n.add(s.Service, ip); err != nil {
				return fmt.Errorf("endpoint set %d: %w", s.ID, err)
			}
		}
	}
	return nil
}

func (n *Networks) lines(text string) error {
	line := 0
	for s := range strings.Lines(text) {
		line++
		if s = strings.TrimSpace(s); s == "" || s[0] == '#' {
			continue
		}
		service, rest, ok := strings.Cut(s, ": ")
		if !ok {
			return fmt.Errorf("line %d: want a service, a colon and networks", line)
		}
		switch service {
		case "source":
			n.Source = rest
			continue
		case "date":
			n.Date = rest
			continue
		}
		for prefix := range strings.FieldsSeq(rest) {
			if err := n.add(service, prefix); err != nil {
				return fmt.Errorf("line %d: %w", line, err)
			}
		}
	}
	return nil
}

// add takes a network. One as large as a whole continent is a mistake: it would make everybody Microsoft.
func (n *Networks) add(service, prefix string) error {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		return fmt.Errorf("network %q: %w", clip(prefix), err)
	}
	if p != p.Masked() || p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 16 || p.Addr().Is4In6() {
		return fmt.Errorf("network %s: want the first address of a network of at least 8 (IPv4) or 16 (IPv6) bits", p)
	}
	if len(n.all) == maxNetworks {
		return fmt.Errorf("more than %d networks", maxNetworks)
	}
	n.all = append(n.all, network{p, clip(service)})
	return nil
}

// clip bounds what is shown of a text.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 80)], "")
}

// Service returns the service of Microsoft to which a network belongs, in part at least, or "". Receipts keep no whole addresses, so the networks of Microsoft
// that are smaller than theirs count as a whole.
func (n *Networks) Service(of string) string {
	p, err := netip.ParsePrefix(of)
	if err != nil {
		return ""
	}
	for _, m := range n.all {
		if m.prefix.Overlaps(p) {
			return m.service
		}
	}
	return ""
}
