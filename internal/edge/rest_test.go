package edge_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern/internal/edge"
	"postern/internal/trust"
)

// keeper is an upstream that keeps its connections, and counts what comes on each.
type keeper struct {
	ln net.Listener

	mu    sync.Mutex
	conns []net.Conn
	users [][]string // of each connection, command by command
	ended int
	next  string // what it does after its next answer: close, or say something that nobody asked for
	said  bool   // that was said
}

func newKeeper(t *testing.T, config *tls.Config) *keeper {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	k := &keeper{ln: ln}
	go func() {
		for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
			if config != nil {
				c = tls.Server(c, config)
			}
			go k.serve(c)
		}
	}()
	return k
}

func (k *keeper) serve(c net.Conn) {
	k.mu.Lock()
	at := len(k.conns)
	k.conns, k.users = append(k.conns, c), append(k.users, nil)
	k.mu.Unlock()
	defer func() {
		_ = c.Close()
		k.mu.Lock()
		k.ended++
		k.mu.Unlock()
	}()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		user := r.URL.Query().Get("User")
		k.mu.Lock()
		k.users[at] = append(k.users[at], user)
		next := k.next
		k.next = ""
		k.mu.Unlock()
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer")
		switch {
		case next == "close" || r.Close:
			return
		case next != "":
			_, _ = io.WriteString(c, next)
			k.mu.Lock()
			k.said = true
			k.mu.Unlock()
		}
	}
}

// count returns how many connections and commands there were, and how many connections ended.
func (k *keeper) count() (conns, commands, ended int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, u := range k.users {
		commands += len(u)
	}
	return len(k.conns), commands, k.ended
}

func (k *keeper) after(what string) {
	k.mu.Lock()
	k.next = what
	k.mu.Unlock()
}

// TestConnectionsRest: before an upstream that leaves connections open, a user's commands follow each other on one, and nobody else's do; one that was closed
// meanwhile, or that carries what nobody asked for, is not used, and the phone notices nothing.
func TestConnectionsRest(t *testing.T) {
	for name, tt := range map[string]struct {
		secure bool
		then   string
	}{
		"plain, then closed":    {false, "close"},
		"plain, then an answer": {false, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"},
		"TLS, then closed":      {true, "close"},
		"TLS, then an answer":   {true, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newAuthority(t, "localhost")
			config := (*tls.Config)(nil)
			if tt.secure {
				config = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{server.cert.Raw}, PrivateKey: server.key}}}
			}
			k := newKeeper(t, config)
			upstream := "http://" + k.ln.Addr().String()
			if tt.secure {
				upstream = strings.Replace(upstream, "http://127.0.0.1", "https://localhost", 1)
			}
			w := newWorld(t, options{upstream: upstream, config: func(c *edge.Config) { c.UpstreamRoots.AddCert(server.cert) }})
			const shared = "info@contoso.com"
			c := w.enrol(w.addDevice(trust.Owner{Mail: alice, Delegations: []string{shared}}, ""), leaf{}, nil)
			phone := w.phone(&c, false)
			want := 0
			send := func(user string) {
				t.Helper()
				k := command("Sync", user, aliceEAS)
				k.auth = basic(alice)
				if got := w.do(phone, k); phoneSees(got) != mail {
					t.Fatal(phoneSees(got))
				}
				want++
			}
			for range 5 {
				send(alice)
			}
			if conns, commands, _ := k.count(); conns != 5 || commands != 5 {
				t.Errorf("before the upstream has shown what it does: %d connections for %d commands", conns, commands)
			}
			w.eventually(func() bool { _, _, ended := k.count(); return ended == 5 })

			// Now it has shown that it leaves them open.
			for range 20 {
				send(alice)
			}
			if conns, commands, _ := k.count(); conns != 6 || commands != want {
				t.Errorf("%d connections more for 20 commands, %d commands instead of %d", conns-5, commands, want)
			}
			// Another user on the same connection of the phone.
			send(shared)
			send(alice)
			if conns, _, _ := k.count(); conns != 8 {
				t.Errorf("%d connections for two other users", conns-6)
			}
			k.mu.Lock()
			for _, users := range k.users {
				if len(slices.Compact(slices.Clone(users))) > 1 {
					t.Errorf("one connection carried commands of %q", users)
				}
			}
			k.mu.Unlock()
			// Without a next command the rest is short.
			w.eventually(func() bool { conns, _, ended := k.count(); return ended == conns })

			k.after(tt.then)
			before, _, _ := k.count()
			send(alice)
			if tt.then == "close" {
				w.eventually(func() bool { conns, _, ended := k.count(); return ended == conns })
			} else {
				w.eventually(func() bool { k.mu.Lock(); defer k.mu.Unlock(); return k.said })
			}
			send(alice)
			if conns, commands, _ := k.count(); conns != before+2 || commands != want {
				t.Errorf("%d connections more, %d commands instead of %d", conns-before, commands, want)
			}
		})
	}
}
