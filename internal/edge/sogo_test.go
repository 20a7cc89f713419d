package edge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/internal/peertest"
)

// sogo is Debian's SOGo, a real ActiveSync server, with its database and cache, all on loopback and under users without rights.
type sogo struct {
	url string // of the path before Microsoft-Server-ActiveSync
	log *sharedBuffer
}

// sharedBuffer collects what a process writes.
type sharedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sharedBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sharedBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// commands are those that SOGo says it has answered, in order.
func (s *sogo) commands() (out []string) {
	for _, m := range regexp.MustCompile(`"(OPTIONS|POST) [^"]*?(?:Cmd=([A-Za-z]+)[^"]*)?" \d+ `).FindAllStringSubmatch(s.log.String(), -1) {
		out = append(out, or(m[2], m[1]))
	}
	return out
}

// as returns a command of a program under a user of the system, if this is root; otherwise under the present one.
func as(t *testing.T, name, home, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = home, append(os.Environ(), "HOME="+home, "LC_ALL=C")
	if os.Getuid() != 0 {
		return cmd
	}
	u, err := user.Lookup(name)
	must(t, err)
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	must(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	must(t, err)
	must(t, os.Chown(home, int(uid), int(gid)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return cmd
}

// keep starts a program until the test ends.
func keep(t *testing.T, cmd *exec.Cmd, out *sharedBuffer) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = out, out
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(3 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(cmd.Path), out)
		}
	})
}

// freePort returns a port of loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = ln.Close() }()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	must(t, err)
	return port
}

// listens waits until somebody listens on a port of loopback.
func listens(t *testing.T, port string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = c.Close()
			return
		}
	}
	t.Fatalf("nobody listens on port %s", port)
}

// startSOGo starts PostgreSQL, memcached and SOGo with one user.
func startSOGo(t *testing.T, mailbox, password string) *sogo {
	t.Helper()
	sogod, memcached, psql := peertest.Find(t, "/usr/sbin/sogod"), peertest.Find(t, "memcached"), peertest.Find(t, "psql")
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	initdb := peertest.Find(t, append([]string{"initdb"}, found...)[len(found)])
	dir, err := os.MkdirTemp("", "sogo")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	pg, home := filepath.Join(dir, "pg"), filepath.Join(dir, "home")
	must(t, os.Mkdir(pg, 0o755))
	must(t, os.Mkdir(home, 0o755))

	if out, err := as(t, "postgres", pg, initdb, "-D", pg+"/data", "-A", "trust", "-U", "sogo", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	dbPort, cachePort, port := freePort(t), freePort(t), freePort(t)
	keep(t, as(t, "postgres", pg, filepath.Join(filepath.Dir(initdb), "postgres"), "-D", pg+"/data", "-c", "listen_addresses=127.0.0.1", "-p", dbPort,
		"-c", "unix_socket_directories="+pg, "-c", "fsync=off"), &sharedBuffer{})
	keep(t, as(t, "sogo", home, memcached, "-l", "127.0.0.1", "-p", cachePort), &sharedBuffer{})
	schema := `create table sogo_users (c_uid varchar(64) primary key, c_name varchar(64), c_password varchar(255), c_cn varchar(128), mail varchar(128));
		insert into sogo_users values ('` + mailbox + `','` + mailbox + `','` + password + `','Alice','` + mailbox + `');
		create table sogo_cache_folder (c_path varchar(255) primary key, c_parent_path varchar(255), c_type smallint not null, c_creationdate int not null,
			c_lastmodified int not null, c_version int not null default 0, c_deleted smallint not null default 0, c_content text)`
	w := &world{t: t}
	w.eventually(func() bool {
		return exec.Command(psql, "-h", "127.0.0.1", "-p", dbPort, "-U", "sogo", "-d", "postgres", "-q", "-v", "ON_ERROR_STOP=1", "-c", schema).Run() == nil
	})

	s := &sogo{url: "http://127.0.0.1:" + port + "/SOGo", log: &sharedBuffer{}}
	db := "postgresql://sogo:x@127.0.0.1:" + dbPort + "/postgres"
	keep(t, as(t, "sogo", home, sogod, "-WOUseWatchDog", "NO", "-WONoDetach", "YES", "-WOPort", "127.0.0.1:"+port, "-WOLogFile", "-", "-WOPidFile", home+"/pid",
		"-SOGoProfileURL", db+"/sogo_user_profile", "-OCSFolderInfoURL", db+"/sogo_folder_info", "-OCSSessionsFolderURL", db+"/sogo_sessions_folder",
		"-OCSEMailAlarmsFolderURL", db+"/sogo_alarms_folder", "-OCSCacheFolderURL", db+"/sogo_cache_folder", "-SOGoMemcachedHost", "127.0.0.1:"+cachePort,
		"-SOGoIMAPServer", "imap://127.0.0.1:1", "-SOGoMailDomain", "contoso.com", "-SOGoInternalSyncInterval", "1", "-SOGoMinimumPingInterval", "1",
		"-SOGoUserSources", `({type = sql; id = users; viewURL = "`+db+`/sogo_users"; canAuthenticate = YES; isAddressBook = NO; userPasswordAlgorithm = plain;})`), s.log)
	listens(t, port)
	return s
}

// rawClient is curl with a certificate and libwbxml's encoder and decoder: nothing of it was written here.
type rawClient struct {
	t                               *testing.T
	dir, curl, xml2wbxml, wbxml2xml string
	args                            []string
}

func newRawClient(t *testing.T, w *world, c tls.Certificate) *rawClient {
	t.Helper()
	r := &rawClient{t: t, dir: t.TempDir(), curl: peertest.Find(t, "curl"), xml2wbxml: peertest.Find(t, "xml2wbxml"), wbxml2xml: peertest.Find(t, "wbxml2xml")}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	must(t, err)
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key}, "ca.pem": {Type: "CERTIFICATE", Bytes: w.server.Raw}} {
		must(t, os.WriteFile(filepath.Join(r.dir, name), pem.EncodeToMemory(block), 0o600))
	}
	_, port, err := net.SplitHostPort(w.addr)
	must(t, err)
	r.args = []string{"--silent", "--show-error", "--http1.1", "--max-time", "30", "--noproxy", "*", "--cacert", "ca.pem", "--cert", "cert.pem", "--key", "key.pem",
		"--resolve", gateHost + ":" + port + ":127.0.0.1", "--user", alice + ":secret", "--user-agent", iphone, "--write-out", "%{http_code}\n"}
	return r
}

// url is that of a command.
func (r *rawClient) url(w *world, cmd string) string {
	_, port, _ := net.SplitHostPort(w.addr)
	u := "https://" + gateHost + ":" + port + "/Microsoft-Server-ActiveSync"
	if cmd != "" {
		u += "?Cmd=" + cmd + "&User=" + alice + "&DeviceId=" + aliceEAS + "&DeviceType=iPhone"
	}
	return u
}

// encode writes a document as WBXML and returns the name of the file.
func (r *rawClient) encode(name, xml string) string {
	r.t.Helper()
	const head = `<?xml version="1.0"?><!DOCTYPE ActiveSync PUBLIC "-//MICROSOFT//DTD ActiveSync//EN" "http://www.microsoft.com/">`
	must(r.t, os.WriteFile(filepath.Join(r.dir, name+".xml"), []byte(head+xml), 0o600))
	r.run(r.xml2wbxml, "-v", "1.3", "-n", "-a", "-o", name+".wbxml", name+".xml")
	return name + ".wbxml"
}

// post sends a command and returns the answer as XML.
func (r *rawClient) post(w *world, cmd, xml string) string {
	r.t.Helper()
	in := r.encode(cmd, xml)
	said := r.run(r.curl, append(r.args, "--header", "Content-Type: application/vnd.ms-sync.wbxml", "--header", "MS-ASProtocolVersion: 14.1", "--header", "X-MS-PolicyKey: 0",
		"--data-binary", "@"+in, "--output", "answer", r.url(w, cmd))...)
	if strings.TrimSpace(said) != "200" {
		r.t.Fatalf("%s: HTTP %s", cmd, said)
	}
	r.run(r.wbxml2xml, "-l", "ACTIVESYNC", "-m", "0", "-o", "answer.xml", "answer")
	text, err := os.ReadFile(filepath.Join(r.dir, "answer.xml"))
	must(r.t, err)
	return string(text)
}

func (r *rawClient) run(program string, args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = r.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("%s: %v\n%s%s", filepath.Base(program), err, &stdout, &stderr)
	}
	return stdout.String()
}

// TestSOGo has a client that nobody here wrote talk through the edge to a server that nobody here wrote: what it asks is answered, and every command reaches
// the server once, although that one closes kept connections without a word.
func TestSOGo(t *testing.T) {
	s := startSOGo(t, alice, "secret")
	w := newWorld(t, options{upstream: s.url})
	_, c := w.managed(alice, "")
	r := newRawClient(t, w, c)
	if said := r.run(r.curl, append(r.args, "--request", "OPTIONS", "--dump-header", "-", "--output", os.DevNull, r.url(w, ""))...); !strings.Contains(said, "\n200\n") ||
		!strings.Contains(strings.ToLower(said), "ms-asprotocolversions: 2.5,12.0,12.1,14.0,14.1") {
		t.Fatalf("OPTIONS: %s", said)
	}
	const provision = `<Provision xmlns="Provision:"><Policies><Policy><PolicyType>MS-EAS-Provisioning-WBXML</PolicyType></Policy></Policies></Provision>`
	const folderSync = `<FolderSync xmlns="FolderHierarchy:"><SyncKey>0</SyncKey></FolderSync>`
	want := []string{"OPTIONS"}
	for _, step := range []struct{ cmd, xml, answer string }{
		{"Provision", provision, "<PolicyType>MS-EAS-Provisioning-WBXML</PolicyType>"},
		{"FolderSync", folderSync, "<DisplayName>Personal Calendar</DisplayName>"},
		{"Sync", `<Sync xmlns="AirSync:"><Collections><Collection><SyncKey>0</SyncKey><CollectionId>vevent/personal</CollectionId></Collection></Collections></Sync>`, "<Class>Calendar</Class>"},
		{"Ping", `<Ping xmlns="Ping:"><HeartbeatInterval>2</HeartbeatInterval><Folders><Folder><Id>vevent/personal</Id><Class>Calendar</Class></Folder></Folders></Ping>`, "<Status>1</Status>"},
	} {
		if got := r.post(w, step.cmd, step.xml); !strings.Contains(got, step.answer) {
			t.Errorf("%s: %s", step.cmd, got)
		}
		want = append(want, step.cmd)
	}

	// One connection of the phone, many commands one after the other.
	const many = 15
	var args []string
	in := r.encode("many", folderSync)
	for i := range many {
		if i > 0 {
			args = append(args, "--next")
		}
		args = append(args, r.args...)
		args = append(args, "--header", "Content-Type: application/vnd.ms-sync.wbxml", "--header", "MS-ASProtocolVersion: 14.1", "--header", "X-MS-PolicyKey: 0",
			"--data-binary", "@"+in, "--output", os.DevNull, r.url(w, "FolderSync"))
		want = append(want, "FolderSync")
	}
	if said := r.run(r.curl, args...); said != strings.Repeat("200\n", many) {
		t.Errorf("%d commands on one connection: %q", many, said)
	}
	// SOGo logs what it has answered already. A command that reached it twice would stand there before the last one.
	w.eventually(func() bool { return len(s.commands()) >= len(want) })
	if got := s.commands(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("SOGo answered %v, want %v", got, want)
	}
}
