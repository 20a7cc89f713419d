package edge

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/internal/peertest"
)

// measuredOnce ends the loop of a benchmark that measures by itself. It comes first, because the loop forgets what was reported before it.
func measuredOnce(b *testing.B) {
	for b.Loop() {
	}
}

// contestant is a gate with its client.
type contestant struct {
	name         string
	gate, client *process
	every        int  // requests until one has facts that nobody has seen; 0: none has
	logs         bool // of the peer: it keeps what it has decided, as ours does
	cost, rate   []float64
}

// contest lets all contestants take turns, after one round that does not count and the time after which our forwarder trusts the upstream to leave connections
// open, and says what a request cost the gate's processor.
func contest(b *testing.B, requests int, all ...*contestant) {
	b.Helper()
	for round := range benchRounds + 1 {
		if round == 1 {
			time.Sleep(proofTime + time.Second)
		}
		for _, c := range all {
			spent := c.gate.cpu()
			took, err := strconv.ParseFloat(c.client.ask(fmt.Sprint(requests, c.every)), 64)
			fatal(b, err)
			if round > 0 {
				c.cost = append(c.cost, float64((c.gate.cpu()-spent).Microseconds())/float64(requests))
				c.rate = append(c.rate, float64(requests)/took)
			}
		}
	}
	for _, c := range all {
		b.Logf("%-32s %7.1f us of processor a request, %7.0f requests/s (medians of %.0f)", c.name, middle(c.cost), middle(c.rate), c.rate)
	}
}

// ratio reports how many times less of a processor's time a request costs than at a peer, beside the ratio of the rates.
func ratio(b *testing.B, name string, c, peer *contestant) {
	b.Helper()
	b.Logf("%s: %.2f by processor time, %.2f by rate", name, middle(peer.cost)/middle(c.cost), middle(c.rate)/middle(peer.rate))
	b.ReportMetric(middle(peer.cost)/middle(c.cost), name)
}

// gate starts a gate of ours.
func (s *site) gate(b *testing.B, kind, upstream string) (p *process, addr string) {
	b.Helper()
	return role(b, 0, "gate", envDir+"="+s.copy(b).dir, envUpstream+"="+upstream, envGate+"="+kind, "GOMAXPROCS=1", "GOGC=400")
}

// client starts a load.
func (s *site) client(b *testing.B, addr, load string) *process {
	b.Helper()
	p, _ := role(b, 1, "client", envDir+"="+s.dir, envGate+"="+addr, envLoad+"="+load, "GOMAXPROCS=1", "GOGC=400")
	return p
}

// BenchmarkKeptConnections: 32 phones with one connection each, before an upstream without TLS.
func BenchmarkKeptConnections(b *testing.B) {
	measuredOnce(b)
	const phones, requests = 32, 4000
	s := newSite(b, phones, 0)
	_, upstream := role(b, 1, "upstream", "GOMAXPROCS=1")
	load := fmt.Sprint("keep ", phones)
	var all []*contestant
	for _, c := range []*contestant{{name: "edge, 95% of decisions remembered", every: 20}, {name: "edge, none remembered", every: 1}, {name: "its forwarder without policy"}} {
		kind := "policy"
		if c.every == 0 {
			kind = "forward"
		}
		var addr string
		c.gate, addr = s.gate(b, kind, upstream)
		c.client = s.client(b, addr, load)
		all = append(all, c)
	}
	for _, c := range []*contestant{{name: "nginx, auth_request, opa run"}, {name: "the same, with decision log", logs: true}} {
		var addr string
		c.gate, addr = s.nginxOPA(b, upstream, c.logs)
		c.client = s.client(b, addr, load)
		all = append(all, c)
	}
	contest(b, requests, all...)
	for _, c := range all[:2] {
		var hits, misses float64
		_, _ = fmt.Sscan(c.gate.ask("hits"), &hits, &misses)
		b.Logf("%s: %.1f%% of %0.f decisions", c.name, 100*hits/(hits+misses), hits+misses)
	}
	ratio(b, "cached/forwarder", all[0], all[2])
	ratio(b, "cached/nginx+opa", all[0], all[3])
	ratio(b, "missed/nginx+opa", all[1], all[3])
	ratio(b, "missed/nginx+opa+log", all[1], all[4])
}

// BenchmarkFullHandshakes: each request on a new connection, with 400,000 revoked certificates.
func BenchmarkFullHandshakes(b *testing.B) {
	measuredOnce(b)
	const phones, requests, revoked = 16, 320, 400_000
	nginx := peertest.Find(b, "nginx")
	s := newSite(b, phones, revoked)
	_, upstream := role(b, 1, "upstream", "GOMAXPROCS=1")
	load := fmt.Sprint("handshake ", phones)
	ours, theirs := &contestant{name: "edge"}, &contestant{name: "nginx with ssl_crl"}
	var addr string
	ours.gate, addr = s.gate(b, "policy", upstream)
	ours.client = s.client(b, addr, load)
	theirs.gate, addr = s.nginx(b, nginx, upstream, "ssl_crl "+filepath.Join(s.dir, "crl.pem")+";", "")
	theirs.client = s.client(b, addr, load)
	contest(b, requests, ours, theirs)
	ratio(b, "edge/nginx", ours, theirs)
}

// BenchmarkIdlePing: resident memory for each phone that holds a Ping, after a collection of garbage.
func BenchmarkIdlePing(b *testing.B) {
	measuredOnce(b)
	const phones = 4000
	s := newSite(b, phones, 0)
	kinds := []string{"policy", "forward", "reverseproxy"}
	if !testing.Short() {
		kinds = append(kinds, "nginx")
	}
	for _, kind := range kinds {
		held, upstream := role(b, 1, "upstream")
		var gate *process
		var addr string
		if kind == "nginx" {
			gate, addr = s.nginx(b, peertest.Find(b, "nginx"), upstream, "", "")
		} else {
			gate, addr = role(b, 0, "gate", envDir+"="+s.copy(b).dir, envUpstream+"="+upstream, envGate+"="+kind)
		}
		settle := func() int64 {
			if kind != "nginx" {
				gate.ask("gc")
			}
			return gate.rss()
		}
		before := settle()
		client := s.client(b, addr, fmt.Sprint("hold ", phones))
		waitFor(b, 3*time.Minute, func() bool { return held.ask("held") == strconv.Itoa(phones) })
		raw, after := gate.rss(), settle()
		b.Logf("%-13s %5.1f kB a phone, %5.1f before garbage is collected", kind, float64(after-before)/phones/1000, float64(raw-before)/phones/1000)
		b.ReportMetric(float64(after-before)/phones/1000, kind+"-kB")
		for _, p := range []*process{client, gate, held} {
			p.stop()
		}
	}
}

// copy gives a gate a registry of its own, which only one process can open.
func (s *site) copy(b *testing.B) *site {
	b.Helper()
	to := &site{dir: b.TempDir()}
	fatal(b, os.CopyFS(to.dir, os.DirFS(s.dir)))
	return to
}

func waitFor(b *testing.B, limit time.Duration, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("did not happen within %v", limit)
		}
	}
}

// BenchmarkPhones: as many phones with a Ping open as descriptors allow, up to POSTERN_BENCH_PHONES or 8,000. 200 lose their certificate at once, and then the
// upstream is restarted. It takes two minutes.
func BenchmarkPhones(b *testing.B) {
	measuredOnce(b)
	phones := 8000
	if n, err := strconv.Atoi(os.Getenv("POSTERN_BENCH_PHONES")); err == nil {
		phones = n
	}
	phones = min(phones, maxConnections()-100)
	s := newSite(b, phones, 0)
	held, upstream := role(b, 1, "upstream")
	gate, addr := role(b, 0, "gate", envDir+"="+s.dir, envUpstream+"="+upstream, envGate+"=policy")
	client := s.client(b, addr, fmt.Sprint("hold ", phones))
	status := func() (n [6]int64) {
		_, _ = fmt.Sscan(client.ask("status"), &n[0], &n[1], &n[2], &n[3], &n[4], &n[5])
		return n
	}
	waitFor(b, 5*time.Minute, func() bool { return held.ask("held") == strconv.Itoa(phones) })
	begun := status()
	b.Logf("%d phones hold a Ping; %d were asked back on the way there, %d connections broke", phones, begun[3], begun[5])
	said, err := strconv.ParseInt(gate.ask("revoke"), 10, 64)
	fatal(b, err)
	waitFor(b, time.Minute, func() bool { return status()[1] == revokedAtOnce })
	time.Sleep(2 * time.Second)
	n := status()
	took := time.Duration(n[2] - said)
	b.Logf("%d phones: %d revoked at once, the last closed %v after the last was committed; %d are open, %d others were disturbed", phones, n[1], took, n[0], n[3]+n[5]-begun[3]-begun[5])
	if n[0] != int64(phones-revokedAtOnce) || n[3]+n[5] != begun[3]+begun[5] {
		b.Error("others were disturbed")
	}
	b.ReportMetric(float64(took.Milliseconds()), "closed-ms")
	began, left := time.Now(), phones-revokedAtOnce
	client.ask("anew")
	held.ask("drop")
	waitFor(b, time.Minute, func() bool { still, err := strconv.Atoi(held.ask("held")); return err == nil && still < left/2 })
	waitFor(b, 12*time.Minute, func() bool { return held.ask("held") == strconv.Itoa(left) })
	disturbed := n[5]
	n = status()
	b.Logf("upstream restarted: all %d are back after %.0f s, at most %d of them within one second; %d connections broke", left, time.Since(began).Seconds(), n[4], n[5]-disturbed)
	b.ReportMetric(float64(n[4]), "returns/s-at-most")
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(b *testing.B) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(b, err)
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// nginx starts nginx with the site's certificates.
func (s *site) nginx(b *testing.B, nginx, upstream, server, location string) (p *process, addr string) {
	b.Helper()
	addr = freeAddress(b)
	dir := b.TempDir()
	config := strings.NewReplacer("DIR", dir, "SITE", s.dir, "ADDR", addr, "UPSTREAM", strings.TrimPrefix(upstream, "http://"), "SERVER", server, "LOCATION", location).Replace(nginxConfig)
	fatal(b, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600))
	p = start(b, 0, nil, nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	waitFor(b, time.Minute, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return p, addr
}

const nginxConfig = `daemon off; master_process on; worker_processes 1; worker_rlimit_nofile 20000; pid DIR/pid; error_log stderr error;
events { worker_connections 19000; }
http {
  access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  keepalive_requests 100000000; keepalive_timeout 3600s; proxy_read_timeout 3900s;
  upstream exchange { server UPSTREAM; keepalive 64; keepalive_requests 100000000; }
  upstream opa { server 127.0.0.1:1; keepalive 64; keepalive_requests 100000000; }
  server {
    listen ADDR ssl; ssl_certificate SITE/server.crt; ssl_certificate_key SITE/server.key; ssl_client_certificate SITE/ca.crt; ssl_verify_client on; ssl_session_tickets off;
    SERVER
    location / { LOCATION proxy_pass http://exchange; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }
  }
}
`

// nginxOPA is what somebody would build from parts: nginx asks opa run, which knows the devices, for every request. With logs it tells its decisions, to
// nobody.
func (s *site) nginxOPA(b *testing.B, upstream string, logs bool) (p *process, addr string) {
	b.Helper()
	nginx, opa := peertest.Find(b, "nginx"), findOPA(b)
	var pairs []keyPair
	fatal(b, readJSON(s.dir, "phones.json", &pairs))
	devices := map[string]any{}
	for i, k := range pairs {
		devices[strings.ToUpper(string(serialIn(k)))] = map[string]any{"owner": strings.Replace(phoneUser(i), "@", "%40", 1), "managed": true, "state": "active", "eas": fmt.Sprint("phone", i)}
	}
	dir := b.TempDir()
	(&site{dir}).write(b, "data.json", map[string]any{"devices": devices})
	fatal(b, os.WriteFile(filepath.Join(dir, "policy.rego"), []byte(opaPolicy), 0o600))
	at := freeAddress(b)
	command := []string{"-c", `exec "$@" 2>/dev/null`, "sh", opa, "run", "--server", "--addr", at, "--log-level", "error", "--skip-version-check", filepath.Join(dir, "data.json"), filepath.Join(dir, "policy.rego")}
	if logs {
		command = append(command, "--set", "decision_logs.console=true")
	}
	server := start(b, 0, []string{"GOMAXPROCS=1"}, "sh", command...)
	waitFor(b, time.Minute, func() bool {
		resp, err := http.Get("http://" + at + "/health")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	saved := nginxAuth
	p, addr = s.nginx(b, nginx, upstream, strings.ReplaceAll(saved, "OPA", at), `set $cmd $arg_Cmd; set $usr $arg_User; set $dev $arg_DeviceId; auth_request /auth;`)
	p.extra = append(p.extra, server)
	return p, addr
}

// The names are copied because arguments of the query are empty in a subrequest.
const nginxAuth = `location = /auth { internal; proxy_pass http://OPA/; proxy_method POST; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Content-Type application/json;
      proxy_set_body '{"serial":"$ssl_client_serial","verify":"$ssl_client_verify","user":"$usr","device":"$dev","command":"$cmd","agent":"$http_user_agent"}'; }`

const opaPolicy = `package system

main := true if {
	input.verify == "SUCCESS"
	device := data.devices[input.serial]
	device.managed
	device.state == "active"
	device.owner == input.user
	device.eas == input.device
	input.command != ""
	startswith(input.agent, "Apple-")
}
`

// findOPA is the opa of the path, or of OPA.
func findOPA(b *testing.B) string {
	b.Helper()
	if named := os.Getenv("OPA"); named != "" {
		return named
	}
	return peertest.Find(b, "opa")
}
