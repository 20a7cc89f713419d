package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"postern/internal/lab"
)

// TestScripts plays testdata/*.txtar over the real binary. Besides the commands of testscript there are:
//
//	need PROGRAM...             skip without these, or fail where POSTERN_REQUIRE_PEERS=1; [peer:PROGRAM] is the condition
//	site [policy=DIR]           postern init in $WORK with ports of its own; sets $PUBLIC, $ADMIN, $SCEP, $ISSUER, $EAS, $PORT, and $SPARE, a free address
//	serve, shutdown             postern serve, until it is ready; SIGTERM, and it must exit with 0
//	exchange USER...            an Exchange on loopback with these mailboxes, password "secret"; before site, which then has it as upstream
//	exchange online USER...     the same with the manners of Exchange Online
//	polls N                     wait until N long polls are open at the Exchange
//	bearer VAR USER             a bearer token that the Exchange accepts
//	phone NAME CHALLENGE        a simulated phone enrols; writes NAME.pem and NAME.key
//	get VAR PATH [FILE]         a value of the last output, or of a file, which is JSON; PATH is like 0.reasons.0.code
//	eventually TIME PATTERN PROGRAM...   run a program until it succeeds and its output matches
//	within TIME                 fail if more has gone by since the last `clock`
//	rises A B                   fail unless number A < number B
//	expand FILE...              put the environment into files
//	match VAR PATTERN           the first group of a pattern in the last output
//	unhex FILE...               turn hexadecimal digits and quoted texts into bytes; a semicolon begins a comment
//	wbxml FILE                  print a WBXML document, one element to a line
func TestScripts(t *testing.T) {
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, params(path))
}

// params are the scripts and what they may say. postern is the binary.
func params(postern string) testscript.Params {
	return testscript.Params{
		Dir:                 "testdata",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Condition: func(c string) (bool, error) {
			if program, ok := strings.CutPrefix(c, "peer:"); ok {
				return present(program)
			}
			return false, fmt.Errorf("unknown condition %q", c)
		},
		Setup: func(e *testscript.Env) error {
			bin := filepath.Join(e.WorkDir, ".bin")
			if err := os.Mkdir(bin, 0o700); err != nil {
				return err
			}
			if err := os.Symlink(postern, filepath.Join(bin, "postern")); err != nil {
				return err
			}
			e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
			e.Setenv("LC_ALL", "C")
			t, ok := e.T().(testing.TB)
			if !ok {
				return fmt.Errorf("%T is no testing.TB", e.T())
			}
			s := &stage{t: t}
			e.Values[stageKey{}] = s
			t.Cleanup(func() { s.tidy(t) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"need": need, "site": makeSite, "serve": serve, "shutdown": shutdown, "exchange": startExchange, "polls": polls, "bearer": bearer, "phone": phone,
			"get": get, "eventually": eventually, "clock": clock, "within": within, "rises": rises, "expand": expand, "unhex": unhex, "match": match, "wbxml": wbxml,
		},
	}
}

type stageKey struct{}

// stage is what one script has set up.
type stage struct {
	t        testing.TB
	site     *site
	exchange *lab.Exchange
	upstream string
	close    []func()
	clock    stopwatch
}

func on(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func (s *stage) tidy(t testing.TB) {
	if s.site != nil {
		s.site.tidy(t)
	}
	for _, c := range s.close {
		c()
	}
}

// present reports whether a program is installed. Where POSTERN_REQUIRE_PEERS=1, one that is not is an error.
func present(program string) (bool, error) {
	_, err := exec.LookPath(program)
	if err != nil && os.Getenv("POSTERN_REQUIRE_PEERS") == "1" {
		return false, fmt.Errorf("%s is not installed, and POSTERN_REQUIRE_PEERS=1", program)
	}
	return err == nil, nil
}

// need skips a script whose programs are not there, by name, so that the output says what was not tested.
func need(ts *testscript.TestScript, _ bool, args []string) {
	for _, program := range args {
		ok, err := present(program)
		ts.Check(err)
		if !ok {
			on(ts).t.Skipf("%s is not installed", program)
		}
	}
}

func makeSite(ts *testscript.TestScript, _ bool, args []string) {
	st := on(ts)
	o := siteOptions{upstream: st.upstream}
	for _, a := range args {
		dir, ok := strings.CutPrefix(a, "policy=")
		if !ok {
			ts.Fatalf("site: unknown argument %q", a)
		}
		o.policy = dir
	}
	s, err := newSite(ts.MkAbs("."), o)
	ts.Check(err)
	st.site = s
	_, port, err := net.SplitHostPort(s.edge)
	ts.Check(err)
	ts.Setenv("PUBLIC", s.public)
	ts.Setenv("PORT", port)
	ts.Setenv("SPARE", freeAddress())
	ts.Setenv("ADMIN", s.admin)
	ts.Setenv("SCEP", "http://"+s.public+"/scep/contoso")
	ts.Setenv("EAS", "https://mail.contoso.com:"+port+lab.Path)
	ts.Setenv("ISSUER", "http://"+s.public+"/contoso")
}

func serve(ts *testscript.TestScript, _ bool, _ []string) {
	if on(ts).site == nil {
		ts.Fatalf("serve: there is no site yet")
	}
	ts.Check(on(ts).site.start())
}

func shutdown(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(on(ts).site.stop()) }

func startExchange(ts *testscript.TestScript, _ bool, args []string) {
	st := on(ts)
	o := lab.ExchangeOptions{Personality: lab.OnPremises}
	if args[0] == "online" {
		o.Personality, args = lab.Online, args[1:]
	}
	st.exchange = lab.NewExchange(o)
	for _, user := range args {
		st.exchange.AddMailbox(user, "secret")
		ts.Check(st.exchange.Deliver(user, "Welcome", "This is the first message."))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- st.exchange.Serve(ctx, ln) }()
	st.close = append(st.close, func() {
		cancel()
		<-ended
	})
	st.upstream = "http://" + ln.Addr().String()
}
