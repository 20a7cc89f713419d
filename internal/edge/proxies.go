package edge

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// proxies are the load balancers before the gate, whose word on a phone's address counts.
type proxies struct {
	networks []netip.Prefix
	protocol bool // their connections begin with a header of the PROXY protocol
}

// trusts reports whether an address is one of theirs.
func (p *proxies) trusts(a netip.Addr) bool {
	for _, n := range p.networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// remote returns the address of the phone: that of the connection, or, where that is one of the load balancers', the last in X-Forwarded-For that is not.
// What is left of that was said by the phone itself. So was all of it where the connection came with a client certificate: then the load balancer passed TLS
// through, and can have written nothing into it.
func (p *proxies) remote(r *http.Request) string {
	host := remoteIP(r.RemoteAddr)
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		return host
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || len(p.networks) == 0 || !p.trusts(addr.Unmap()) {
		return host
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && p.trusts(addr.Unmap()); i-- {
		hop, err := hopAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop
	}
	return addr.Unmap().WithZone("").String()
}

// hopAddr reads an address, which some proxies write with its port.
func hopAddr(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr(), nil
	}
	return netip.ParseAddr(strings.Trim(s, "[]"))
}

func remoteIP(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// proxyHeaderTimeout is how long a load balancer may take for its header, which comes in one packet.
const proxyHeaderTimeout = 5 * time.Second

// greet reads the header of the PROXY protocol where a connection has to begin with one, and takes the phone's address from it.
func (p *proxies) greet(c *counted) error {
	tcp, ok := c.Conn.RemoteAddr().(*net.TCPAddr)
	if !p.protocol || !ok || !p.trusts(tcp.AddrPort().Addr().Unmap()) {
		return nil
	}
	if err := c.SetReadDeadline(time.Now().Add(proxyHeaderTimeout)); err != nil {
		return err
	}
	from, err := readProxyHeader(c.Conn)
	if err != nil {
		return err
	}
	if from.IsValid() {
		c.from = net.TCPAddrFromAddrPort(from)
	}
	return c.SetReadDeadline(time.Time{})
}

// Limits of a header of the PROXY protocol.
const (
	maxProxyLine = 107     // version 1, with its line end
	maxProxyTLVs = 2 << 10 // version 2: bytes after the first 16
)

var errProxyHeader = errors.New("the connection does not begin with a header of the PROXY protocol")

const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// readProxyHeader reads a header of the PROXY protocol, version 1 or 2, and not a byte more. The address is not valid where the proxy speaks for itself, as for
// a health check, or does not say whom it speaks for.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	// Both versions are at least as long as "PROXY UNKNOWN\r\n".
	head := make([]byte, 15, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return netip.AddrPort{}, errProxyHeader
	}
	if strings.HasPrefix(string(head), "PROXY ") {
		return readProxyLine(r, head)
	}
	head = head[:16]
	if _, err := io.ReadFull(r, head[15:]); err != nil || string(head[:12]) != proxySignature || head[12]>>4 != 2 {
		return netip.AddrPort{}, errProxyHeader
	}
	n := int(binary.BigEndian.Uint16(head[14:]))
	if n > maxProxyTLVs {
		return netip.AddrPort{}, errProxyHeader
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return netip.AddrPort{}, errProxyHeader
	}
	const local, proxy = 0, 1
	const stream4, stream6 = 0x11, 0x21
	switch command, family := head[12]&0xF, head[13]; {
	case command == local:
		return netip.AddrPort{}, nil
	case command != proxy:
	case family == stream4 && n >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:])), nil
	case family == stream6 && n >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[:16])).Unmap(), binary.BigEndian.Uint16(body[32:])), nil
	case family != stream4 && family != stream6:
		return netip.AddrPort{}, nil
	}
	return netip.AddrPort{}, errProxyHeader
}

// readProxyLine reads the rest of version 1, byte by byte, because what follows is the phone's.
func readProxyLine(r io.Reader, line []byte) (netip.AddrPort, error) {
	for b := make([]byte, 1); !strings.HasSuffix(string(line), "\r\n"); line = append(line, b[0]) {
		if len(line) >= maxProxyLine {
			return netip.AddrPort{}, errProxyHeader
		}
		if _, err := io.ReadFull(r, b); err != nil {
			return netip.AddrPort{}, errProxyHeader
		}
	}
	f := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
	if f[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return netip.AddrPort{}, errProxyHeader
	}
	from, err := netip.ParseAddrPort(net.JoinHostPort(f[2], f[4]))
	if err != nil || from.Addr().Is4() != (f[1] == "TCP4") || from.Addr().Zone() != "" {
		return netip.AddrPort{}, errProxyHeader
	}
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), nil
}
