package revocation_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/revocation"
)

// mirrored reports whether every one of the files is what the distribution point serves.
func (l *lab) mirrored(dir string, names ...string) bool {
	for _, name := range names {
		got, err := os.ReadFile(filepath.Join(dir, "contoso", name))
		if err != nil || !bytes.Equal(got, l.get("/contoso/"+name).Body.Bytes()) {
			return false
		}
	}
	return true
}

// The directory follows what is served, by a reader's eyes always whole; what cannot be written is said, and made good once it can be.
func TestMirror(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	dir := t.TempDir()
	l.config = func(c *revocation.Config) { c.Mirror = dir }
	l.start()
	all := []string{"issuing.crl", "issuing-delta.crl", "issuing.cer", "root.crl", "root-delta.crl", "root.cer", "chain.p7b"}
	if !l.mirrored(dir, all...) { // before a listener opens
		t.Error("not everything is there")
	}
	if info, err := os.Stat(filepath.Join(dir, "contoso", "issuing.crl")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v %v", info, err)
	}
	read := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				read <- nil
				return
			default:
			}
			raw, err := os.ReadFile(filepath.Join(dir, "contoso", "issuing-delta.crl"))
			if err == nil {
				_, err = x509.ParseRevocationList(raw)
			}
			if err != nil {
				read <- err
				return
			}
		}
	}()
	for range 4 {
		l.revoke(l.record(time.Hour))
		l.published()
		l.eventually("the new delta", func() bool { return l.mirrored(dir, all...) })
	}
	close(stop)
	if err := <-read; err != nil {
		t.Errorf("a reader saw half of it: %v", err)
	}
	l.spoil(dir, all)
}

// spoil puts something in the way of one file.
func (l *lab) spoil(dir string, all []string) {
	l.t.Helper()
	obstacle := filepath.Join(dir, "contoso", ".next-issuing-delta.crl")
	l.must(os.Mkdir(obstacle, 0o755))
	l.must(os.WriteFile(filepath.Join(obstacle, "x"), nil, 0o600))
	l.revoke(l.record(time.Hour))
	l.newBase()
	l.eventually("trouble", func() bool { return strings.Contains(l.pub.MirrorTrouble(), "the first of what is there expires at") })
	l.eventually("the base all the same", func() bool { return l.mirrored(dir, "issuing.crl") })
	if l.mirrored(dir, "issuing-delta.crl") {
		l.t.Error("the delta got there")
	}
	l.must(os.RemoveAll(obstacle))
	l.eventually("the end of the trouble", func() bool { return l.pub.MirrorTrouble() == "" && l.mirrored(dir, all...) })
	if left, err := filepath.Glob(filepath.Join(dir, "contoso", ".*")); err != nil || len(left) > 0 {
		l.t.Errorf("left behind: %v %v", left, err)
	}
}

// What comes with a rotation comes to the directory, and goes with it; what is not ours stays.
func TestMirrorFollowsRotations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newDisk(t, func(d *disk) error {
		d.config = func(c *revocation.Config) { c.Mirror = dir }
		return ca.Create(d.dir, catest.Spec(), d.phrase, d.now())
	})
	foreign := filepath.Join(dir, "contoso", "index.html")
	l.must(os.WriteFile(foreign, []byte("hello"), 0o600))
	l.must(ca.Rotate(l.dir, catest.Spec(), l.phrase, l.now(), ca.RotateIssuing))
	l.reload()
	added := []string{"issuing-2.crl", "issuing-2-delta.crl", "issuing-2.cer"}
	l.eventually("what is next", func() bool { return l.mirrored(dir, added...) })
	l.must(ca.Withdraw(l.dir, l.now()))
	l.reload()
	l.eventually("its end", func() bool {
		for _, name := range added {
			if _, err := os.Stat(filepath.Join(dir, "contoso", name)); !errors.Is(err, fs.ErrNotExist) {
				return false
			}
		}
		return true
	})
	if _, err := os.Stat(foreign); err != nil || !l.mirrored(dir, "issuing.crl", "issuing-delta.crl") {
		t.Errorf("too much is gone: %v", err)
	}
}
