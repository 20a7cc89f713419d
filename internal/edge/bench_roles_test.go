package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
)

var (
	discardLog     = slog.New(slog.DiscardHandler)
	benchPrincipal = trust.Principal{Kind: "cli", Name: "bench", Role: trust.Root}
)

// The environment of the roles.
const (
	envDir      = "POSTERN_BENCH_DIR_OF_SITE"
	envUpstream = "POSTERN_BENCH_UPSTREAM" // URL
	envGate     = "POSTERN_BENCH_GATE"     // address, for the client; kind, for the gate: policy, shadow, forward or reverseproxy
	envLoad     = "POSTERN_BENCH_LOAD"     // of the client: kind, connections, requests, and every how many-th request has facts that nobody has seen
)

// playUpstream is an Exchange that answers Sync at once and holds every Ping. "drop" cuts all Pings off, "held" says how many there are.
func playUpstream() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	body := []byte(strings.Repeat("x", 480))
	var held atomic.Int64
	var drop atomic.Pointer[chan struct{}]
	fresh := func() { c := make(chan struct{}); drop.Store(&c) }
	fresh()
	go func() {
		_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if strings.Contains(r.URL.RawQuery, "Cmd=Ping") {
				held.Add(1)
				defer held.Add(-1)
				select {
				case <-*drop.Load():
					panic(http.ErrAbortHandler)
				case <-r.Context().Done():
				}
				return
			}
			w.Header().Set("Content-Type", "application/vnd.ms-sync.wbxml")
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body)
		}))
	}()
	fmt.Println("http://" + ln.Addr().String())
	return answerLines(map[string]func() string{
		"held": func() string { return fmt.Sprint(held.Load()) },
		"drop": func() string { old := drop.Load(); fresh(); close(*old); return "dropped" },
	})
}

// answerLines answers every line of the standard input until that ends.
func answerLines(words map[string]func() string) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if do, ok := words[in.Text()]; ok {
			fmt.Println(do())
		} else {
			fmt.Println("what?")
		}
	}
	return nil
}

// playGate is the edge, the edge's forwarder without everything else, or net/http's.
func playGate() error {
	dir := os.Getenv(envDir)
	target, err := url.Parse(os.Getenv(envUpstream))
	if err != nil {
		return err
	}
	store, err := bolt.Open(filepath.Join(dir, "registry.db"), bolt.Options{})
	if err != nil {
		return err
	}
	reg := registry.New(store, time.Now, discardLog)
	index, err := registry.NewIndex(context.Background(), store, time.Now, discardLog)
	if err != nil {
		return err
	}
	go func() { _ = index.Run(context.Background()) }()
	journal, err := bolt.OpenJournal(filepath.Join(dir, fmt.Sprintf("journal%d.db", os.Getpid())), bolt.JournalOptions{})
	if err != nil {
		return err
	}
	active, err := benchPolicy(os.Getenv(envGate) == "shadow")
	if err != nil {
		return err
	}
	var pair keyPair
	if err := readJSON(dir, "server.json", &pair); err != nil {
		return err
	}
	server, err := pair.tls()
	if err != nil {
		return err
	}
	e, err := New(Config{Hosts: map[string]string{benchHost: "contoso"}, Upstream: target, Index: index, Registry: reg, Journal: journal, Policy: active, Now: time.Now,
		Log: discardLog, Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &server, nil }})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = gateOf(os.Getenv(envGate), e, target, ln) }()
	fmt.Println(ln.Addr())
	return answerLines(map[string]func() string{
		"gc": func() string {
			// Each collection halves the stacks that deciding has made deep, and there is one every two minutes at the least.
			for range 6 {
				debug.FreeOSMemory()
			}
			return "done"
		},
		"hits": func() string {
			s := active.Load().CacheStats()
			return fmt.Sprintf("%d %d", s.Hits, s.Misses)
		},
		"shadow": func() string {
			r := active.Shadow().Report()
			return fmt.Sprintf("%d %d %d %d", r.Offered, r.Evaluated, r.Changed, r.Dropped)
		},
		"revoke": func() string { return revokeSome(dir, reg) },
	})
}

func gateOf(kind string, e *Edge, target *url.URL, ln net.Listener) error {
	config := e.TLSConfig()
	config.NextProtos = []string{protocolHTTP1}
	switch kind {
	case "forward":
		g := newGate(ln, config, &e.proxies)
		go func() { _ = g.accept(context.Background(), discardLog) }()
		s := e.server()
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := newCommand(r.Context(), &request{conn: r.Context().Value(connectionKey{}).(*connection)})
			_ = e.read(c.request, r) // which command it is says how long it may take
			e.forward(w, r, c)
		})
		return s.Serve(g.http1)
	case "reverseproxy":
		proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.URL.RawQuery = r.In.URL.RawQuery },
			Transport: &http.Transport{MaxIdleConnsPerHost: 1000}, ErrorLog: slog.NewLogLogger(discardLog.Handler(), slog.LevelDebug)}
		s := &http.Server{Handler: proxy, ErrorLog: slog.NewLogLogger(discardLog.Handler(), slog.LevelDebug)}
		return s.Serve(tls.NewListener(ln, config))
	}
	return e.Run(context.Background(), ln)
}

// revokedAtOnce is how many phones lose their certificate together.
const revokedAtOnce = 200

// revokeSome revokes the certificates of the first phones, and says when the last was committed.
func revokeSome(dir string, reg *registry.Registry) string {
	var pairs []keyPair
	if err := readJSON(dir, "phones.json", &pairs); err != nil {
		return err.Error()
	}
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := worker; i < revokedAtOnce; i += 16 {
				_, err := reg.Revoke(context.Background(), benchPrincipal, "contoso", serialIn(pairs[i]), trust.KeyCompromise, "")
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		})
	}
	wg.Wait()
	return strconv.FormatInt(time.Now().UnixNano(), 10)
}
