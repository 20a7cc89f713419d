package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/certs"
	"postern/internal/trust"
)

// State is where a generation of a key stands.
type State string

// The states, in the order in which a generation goes through them.
const (
	Next      State = "next"      // made and published, and signs nothing yet
	Current   State = "current"   // in force
	Retired   State = "retired"   // signs no certificates any more, but CRLs and OCSP until its last certificate has expired; an RA's opens messages
	Withdrawn State = "withdrawn" // never was in force, and its key is gone
)

// Generation is one key of the issuing CA or of the registration authority in the course of its rotations.
type Generation struct {
	Number int       `json:"number"` // from 1
	State  State     `json:"state"`
	Since  time.Time `json:"since"`          // when it got that state
	Until  time.Time `json:"until,omitzero"` // of a retired one: when its last certificate has expired
}

// rootKind says who has the root's key.
type rootKind string

const (
	rootHere    rootKind = "here"
	rootOffline rootKind = "offline" // ours, and somewhere else
	rootForeign rootKind = "foreign" // of a company's own PKI
)

// history is what a file generations-<n>.json holds. Each change makes the file of the next number, which only one of two writers can; the greatest is valid.
type history struct {
	Issuer  string       `json:"issuer"`
	Root    rootKind     `json:"root"`
	Issuing []Generation `json:"issuing"`
	RA      []Generation `json:"ra"`

	sequence int // of the file; 0: there is none, and everything is as Save has made it
}

func firstHistory(id string, root rootKind, now time.Time) history {
	first := []Generation{{Number: 1, State: Current, Since: now}}
	return history{Issuer: id, Root: root, Issuing: first, RA: slices.Clone(first)}
}

var historyFile = regexp.MustCompile(`^generations-([1-9][0-9]{0,8})\.json$`)

// readHistory reads the file with the greatest number.
func readHistory(dir string) (history, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return history{}, err
	}
	last := 0
	for _, e := range entries {
		if m := historyFile.FindStringSubmatch(e.Name()); m != nil {
			n, _ := strconv.Atoi(m[1]) // nine digits
			last = max(last, n)
		}
	}
	if last == 0 {
		return firstHistory("", rootHere, time.Time{}), nil
	}
	name := historyName(last)
	data, err := readFile(filepath.Join(dir, name))
	if err != nil {
		return history{}, err
	}
	h := history{sequence: last}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return h, fmt.Errorf("%s: %w", name, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return h, fmt.Errorf("%s: something behind the end", name)
	}
	if err := h.check(); err != nil {
		return h, fmt.Errorf("%s: %w", name, err)
	}
	return h, nil
}

func historyName(n int) string { return "generations-" + strconv.Itoa(n) + ".json" }

// write makes the history the valid one. It fails with trust.ErrConflict if another change was faster.
func (h history) write(dir string) error {
	if err := h.check(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	err = writeNew(filepath.Join(dir, historyName(h.sequence+1)), append(data, '\n'), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the keys in %s were changed by somebody else meanwhile: %w", dir, trust.ErrConflict)
	}
	return err
}

func (h history) check() error {
	if h.Root != rootHere && h.Root != rootOffline && h.Root != rootForeign {
		return fmt.Errorf("root is %q", h.Root)
	}
	for what, list := range map[string][]Generation{IssuingCA: h.Issuing, raName: h.RA} {
		count, last := map[State]int{}, 0
		for _, g := range list {
			if g.Number <= last || g.Number > 1<<20 {
				return fmt.Errorf("%s: generation %d does not follow %d", what, g.Number, last)
			}
			last = g.Number
			count[g.State]++
		}
		if count[Current] != 1 || count[Next] > 1 || count[Current]+count[Next]+count[Retired]+count[Withdrawn] != len(list) {
			return fmt.Errorf("%s: want one current generation, and at most one that is next", what)
		}
	}
	return nil
}

// next returns the generation that is prepared, if there is one.
func (h history) next(list []Generation) (Generation, bool) {
	i := slices.IndexFunc(list, func(g Generation) bool { return g.State == Next })
	if i < 0 {
		return Generation{}, false
	}
	return list[i], true
}

func current(list []Generation) Generation {
	return list[slices.IndexFunc(list, func(g Generation) bool { return g.State == Current })]
}

// clone returns a copy that shares no memory.
func (h history) clone() history {
	h.Issuing, h.RA = slices.Clone(h.Issuing), slices.Clone(h.RA)
	return h
}

// raName is the name of the first RA's files.
const raName = "ra"

// generationName returns "issuing", "issuing-2", ...: what the generation is called in files and URLs.
func generationName(first string, number int) string {
	if number == 1 {
		return first
	}
	return first + "-" + strconv.Itoa(number)
}

// IsIssuing reports whether a CA of that id is or was the issuing CA: IssuingCA, or a later generation such as "issuing-2".
func IsIssuing(caID string) bool { return caID == IssuingCA || strings.HasPrefix(caID, IssuingCA+"-") }

// reloadSlack is how long a node may go on issuing from a CA after it was retired on disk.
const reloadSlack = 31 * 24 * time.Hour

// lastOf returns when the last certificate of a CA that is retired now has expired: those of devices, of the RAs, and of the issuer's servers.
func lastOf(ca *x509.Certificate, ras []*x509.Certificate, now time.Time) time.Time {
	last := now.Add(certs.MaxLifetime + reloadSlack)
	for _, ra := range ras {
		if signedBy(ra, ca) == nil && ra.NotAfter.After(last) {
			last = ra.NotAfter
		}
	}
	if ca.NotAfter.Before(last) {
		last = ca.NotAfter
	}
	return last.UTC().Truncate(time.Second)
}

// Generations reports the rotations of the issuing CA and of the RA in dir, as they are on disk.
func Generations(dir string) (issuing, ra []Generation, err error) {
	h, err := readHistory(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read generations: %w", err)
	}
	return h.Issuing, h.RA, nil
}

// numberOf is the number in a name of generationName.
func numberOf(name string) int {
	_, after, ok := strings.Cut(name, "-")
	n, err := strconv.Atoi(after)
	if !ok || err != nil {
		return 1
	}
	return n
}
