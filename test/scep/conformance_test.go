package scep_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/test/scep"
)

var update = flag.Bool("update", false, "write conformance.md; with step-ca at hand, its column too")

// row is one question. A server's answer becomes a cell of the table: "yes", or "no" with what it did instead.
type row struct {
	section string // of RFC 8894, or "ours" for what Postern promises beyond it
	sent    string
	want    want
	send    func(*talk) *answer
	needs   need
}

// need is what a server must offer for a row to be tried.
type need int

const (
	nothing  need = iota
	admin         // somebody who can revoke, hold and block
	pending       // an applicant whose request waits for approval
	approval      // somebody who approves it
	rotation      // somebody who prepares the next CA
	legacy        // an issuer that takes DES, 3DES and SHA-1
)

// lacks says why a server cannot be asked; "" means that it can.
func (s *server) lacks(n need) string {
	switch {
	case n == admin && s.revoke == nil:
		return "nobody revokes or blocks here"
	case (n == pending || n == approval) && s.pending == nil:
		return "nothing waits for approval here"
	case n == approval && s.approve == nil:
		return "nobody approves here"
	case n == rotation && s.prepareNext == nil:
		return "nobody prepares the next CA here"
	case n == legacy && s.legacy == nil:
		return "no issuer with legacy clients"
	}
	return ""
}

// rows is the whole table, in the order of the RFC.
func rows() []row {
	var all []row
	for _, part := range [][]row{capabilityRows(), transportRows(), malformedRows(), algorithmRows(), attributeRows(), integrityRows(), enrolmentRows(),
		impersonationRows(), retryRows(), renewalRows(), accessRows(), replyRows()} {
		all = append(all, part...)
	}
	return all
}

// TestPostern asks the real binary. Every row must be "yes".
func TestPostern(t *testing.T) {
	if os.Getenv("POSTERN_SCEP_URL") != "" {
		t.Skip("POSTERN_SCEP_URL names another server")
	}
	cells := ask(t, posternServer(t), func(r row, cell string) {
		if cell != "yes" {
			t.Errorf("%s: %s: want %s: %s", r.section, r.sent, r.want.text, cell)
		}
	})
	record(t, cells)
}

// TestURL asks the server that POSTERN_SCEP_URL names. POSTERN_SCEP_CHALLENGES is a list of challenges, separated by commas, one of which is used for each
// enrolment (a single one for all), or "!" and a shell command that prints one. Where challenges belong to mail addresses, write them as challenge:address.
func TestURL(t *testing.T) {
	url := os.Getenv("POSTERN_SCEP_URL")
	if url == "" {
		t.Skip("POSTERN_SCEP_URL is not set")
	}
	cells := ask(t, urlServer(url, os.Getenv("POSTERN_SCEP_CHALLENGES")), func(r row, cell string) {
		if strings.HasPrefix(cell, "no") {
			t.Errorf("%s: %s: want %s: %s", r.section, r.sent, r.want.text, cell)
		}
	})
	t.Logf("\n%s", table([]string{url}, [][]string{cells}))
}

// ask asks a server every question.
func ask(t *testing.T, s *server, judge func(row, string)) []string {
	t.Helper()
	var cells []string
	talks := map[*server]*talk{s: newTalk(t, s)}
	if s.legacy != nil {
		talks[s.legacy] = newTalk(t, s.legacy)
	}
	for _, r := range rows() {
		asked := s
		if r.needs == legacy {
			asked = s.legacy
		}
		cell := "–"
		if why := s.lacks(r.needs); why != "" {
			cell += ": " + why
		} else {
			cell = talks[asked].try(r)
		}
		judge(r, cell)
		cells = append(cells, cell)
	}
	return cells
}

// record prints the table, and compares it with conformance.md or writes it.
func record(t *testing.T, postern []string) {
	t.Helper()
	const path = "conformance.md"
	old, _ := os.ReadFile(path)
	peer := peerColumn(t, string(old))
	text := table([]string{"Postern", "step-ca 0.30.2"}, [][]string{postern, peer})
	t.Logf("\n%s", text)
	intro := "# What SCEP servers do\n\nWritten by `go test ./test/scep -update`: every row is one question of the suite, asked of the real programs. Sections are those of " +
		"RFC 8894;\n\"ours\" is what Postern promises beyond it. \"–\": the server was not asked, and why. step-ca is configured with a static challenge, AES replies,\n" +
		"a P-256 intermediate and an RSA decrypter; everything else as it comes.\n\n"
	if *update {
		if err := os.WriteFile(path, []byte(intro+text), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if intro+text != string(old) {
		t.Errorf("%s says something else: write it again with go test ./test/scep -update", path)
	}
}

// peerColumn asks step-ca when the table is to be written and it is installed; otherwise the column is what the file says.
func peerColumn(t *testing.T, old string) []string {
	if path, err := stepCA(); *update && err == nil {
		return ask(t, stepServer(t, path), func(row, string) {})
	}
	known := map[string]string{}
	for _, line := range strings.Split(old, "\n") {
		if f := strings.Split(line, " | "); len(f) == 5 {
			known[strings.TrimPrefix(f[0], "| ")+f[1]+f[2]] = strings.TrimSuffix(f[4], " |")
		}
	}
	var cells []string
	for _, r := range rows() {
		cell, ok := known[r.section+r.sent+r.want.text]
		if !ok {
			cell = "not asked yet"
		}
		cells = append(cells, cell)
	}
	return cells
}

// stepCA finds the peer: STEP_CA, or step-ca in the path.
func stepCA() (string, error) {
	if named := os.Getenv("STEP_CA"); named != "" {
		return named, nil
	}
	return exec.LookPath("step-ca")
}

// TestPeer asks step-ca, and only reports: it is the other column of the table.
func TestPeer(t *testing.T) {
	path, err := stepCA()
	if err != nil {
		t.Skip("no step-ca: go install github.com/smallstep/certificates/cmd/step-ca@v0.30.2, or name it with STEP_CA")
	}
	if *update {
		t.Skip("TestPostern asks it for the table")
	}
	t.Logf("\n%s", table([]string{"step-ca"}, [][]string{ask(t, stepServer(t, path), func(row, string) {})}))
}

// table writes Markdown.
func table(names []string, columns [][]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| Section | Sent | Expected | %s |\n|---|---|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	yes, notAsked := make([]int, len(columns)), make([]int, len(columns))
	for i, r := range rows() {
		fmt.Fprintf(&b, "| %s | %s | %s |", r.section, r.sent, r.want.text)
		for c := range columns {
			fmt.Fprintf(&b, " %s |", strings.ReplaceAll(columns[c][i], "|", "/"))
			switch {
			case columns[c][i] == "yes":
				yes[c]++
			case strings.HasPrefix(columns[c][i], "–"):
				notAsked[c]++
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("\n")
	for c, n := range names {
		fmt.Fprintf(&b, "%s: %d of %d rows \"yes\", %d not asked.\n", n, yes[c], len(columns[c]), notAsked[c])
	}
	return b.String()
}

// posternBinary is the one that POSTERN_BINARY names, or a fresh build.
func posternBinary(t *testing.T) string {
	t.Helper()
	if named := os.Getenv("POSTERN_BINARY"); named != "" {
		path, err := filepath.Abs(named)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := filepath.Join(t.TempDir(), "postern")
	cmd := exec.Command("go", "build", "-tags", "nobadger,nomysql,nopgx", "-o", path, "./cmd/postern")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build postern: %v\n%s", err, out)
	}
	return path
}

// shortDir is a directory with a short name: an admin socket may have a path of a hundred bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// approvalPolicy lets an administrator decide about the devices of one model.
const approvalPolicy = `package postern.enroll.team.approval

quarantine contains "needs_approval" if input.device.model == "needs-approval"
`

func posternServer(t *testing.T) *server {
	t.Helper()
	policy := shortDir(t)
	if err := os.WriteFile(filepath.Join(policy, "approval.rego"), []byte(approvalPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := posternBinary(t)
	open := func(legacy bool) (*scep.Postern, *server) {
		p, err := scep.NewPostern(shortDir(t), scep.PosternOptions{Binary: binary, Legacy: legacy, Policy: policy})
		if err == nil {
			err = p.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("the end of the log:\n%s", p.Tail())
			}
		})
		return p, &server{url: p.URL, applicant: func() (scep.Applicant, error) { return p.Add("phone") }, again: p.Challenge, oneTime: true, names: true,
			revoke: p.Revoke, hold: p.Hold, block: p.Block}
	}
	p, s := open(false)
	s.pending, s.approve = func() (scep.Applicant, error) { return p.Add("needs-approval") }, p.Approve
	s.prepareNext = sync.OnceValue(p.PrepareNext)
	_, s.legacy = open(true)
	return s
}

func stepServer(t *testing.T, binary string) *server {
	t.Helper()
	c, err := scep.NewStepCA(shortDir(t), scep.StepCAOptions{Binary: binary, Database: "badgerv2"})
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return urlServer(c.URL, c.Challenge)
}

// urlServer is a server of which only the address and challenges are known.
func urlServer(url, challenges string) *server {
	n := 0
	list := strings.Split(challenges, ",")
	return &server{url: url, applicant: func() (scep.Applicant, error) {
		n++
		secret := list[(n-1)%len(list)]
		if command, ok := strings.CutPrefix(challenges, "!"); ok {
			out, err := exec.Command("sh", "-c", command).Output()
			if err != nil {
				return scep.Applicant{}, fmt.Errorf("%s: %w", command, err)
			}
			secret = strings.TrimSpace(string(out))
		} else if len(list) > 1 && n > len(list) {
			return scep.Applicant{}, fmt.Errorf("all %d challenges are used up", len(list))
		}
		a := scep.Applicant{Challenge: secret, Mail: fmt.Sprintf("user%d@%s", n, scep.Domain), SerialNumber: fmt.Sprintf("SN%06d", n)}
		if secret, mail, ok := strings.Cut(a.Challenge, ":"); ok {
			a.Challenge, a.Mail = secret, mail
		}
		return a, nil
	}}
}
