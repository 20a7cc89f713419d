package api

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"postern/internal/trust"
)

// Limits of a file of targets.
const (
	MaxTargetsFile = 32 << 20 // bytes
	maxFileTargets = 200_000
	maxFileErrors  = 20 // that are told; further ones are counted
	maxCell        = 320
)

// column is what a column of a file holds.
type column int

const (
	ignored column = iota
	anything
	serials
	devices
	owners
	issuers
)

// columns are the names that a header may have, in lower case.
func columns() map[string]column {
	return map[string]column{"serial": serials, "certificate": serials, "device": devices, "device_id": devices, "owner": owners, "mail": owners, "email": owners,
		"user": owners, "upn": owners, "issuer": issuers}
}

// ParseTargets reads what to revoke from a file: on each line a certificate's serial number, a device's id or an owner's mail address; or CSV, with commas,
// semicolons or tabs, of which the first column counts, or the columns serial (or certificate), device, owner (or mail) and issuer of a header. Blank lines
// and lines that begin with # are passed over. The error names every line that is none of this, and then no target is returned.
func ParseTargets(r io.Reader) ([]Target, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxTargetsFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read targets: %w", err)
	case len(raw) > MaxTargetsFile:
		return nil, fmt.Errorf("a file of more than %d MiB: split it", MaxTargetsFile>>20)
	case !utf8.Valid(raw):
		return nil, errors.New("the file is not text in UTF-8: export it as CSV in UTF-8")
	}
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	in := csv.NewReader(bytes.NewReader(raw))
	in.Comma, in.Comment, in.FieldsPerRecord, in.TrimLeadingSpace, in.ReuseRecord = separator(raw), '#', -1, true, true
	var f targetFile
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("targets: %w", err) // names line and column
		}
		line, _ := in.FieldPos(0)
		if f.row(line, record); len(f.targets) > maxFileTargets {
			return nil, fmt.Errorf("more than %d targets: split the file", maxFileTargets)
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if len(f.targets) == 0 {
		return nil, errors.New("the file names nothing to revoke")
	}
	return f.targets, nil
}

// separator guesses what stands between columns from the first line that says something.
func separator(raw []byte) rune {
	for line := range bytes.Lines(raw) {
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		for _, c := range ";\t" {
			if bytes.ContainsRune(line, c) {
				return c
			}
		}
		break
	}
	return ','
}

// targetFile is a file being read.
type targetFile struct {
	head    []column // nil: not known yet
	targets []Target
	bad     []string
	more    int // errors beyond those that are told
}

func (f *targetFile) row(line int, record []string) {
	if f.head == nil {
		if f.head = header(record); f.head != nil {
			return
		}
		f.head = []column{anything}
	}
	t := Target{Line: line}
	for i, cell := range record {
		cell = strings.TrimSpace(cell)
		if i >= len(f.head) || cell == "" || f.head[i] == ignored {
			continue
		}
		if err := t.take(f.head[i], cell); err != nil {
			f.fail(line, err)
			return
		}
	}
	if t.String() == "" {
		if strings.Join(record, "") != "" {
			f.fail(line, errors.New("names no certificate, device or owner"))
		}
		return
	}
	f.targets = append(f.targets, t)
}

// header reads the names of the columns; nil if the record is none.
func header(record []string) []column {
	named := columns()
	head, found := make([]column, len(record)), false
	for i, cell := range record {
		head[i] = named[strings.ToLower(strings.TrimSpace(cell))]
		found = found || head[i] != ignored && head[i] != issuers
	}
	if !found {
		return nil
	}
	return head
}

// take fills in what a cell says. The most exact of several counts: a certificate before its device, and that before its owner.
func (t *Target) take(c column, cell string) error {
	if len(cell) > maxCell {
		return fmt.Errorf("%d bytes in one field", len(cell))
	}
	if c == issuers {
		t.Issuer = cell
		return nil
	}
	named, err := ParseTarget(cell)
	if err != nil {
		return err
	}
	if c != anything && named.kind() != c {
		return fmt.Errorf("%q does not belong into its column", cell)
	}
	if t.kind() == anything || named.kind() < t.kind() {
		t.Serial, t.Device, t.Owner = named.Serial, named.Device, named.Owner
	}
	return nil
}

// kind says by what the target is named, the most exact first; anything for one that is not.
func (t *Target) kind() column {
	switch {
	case t.Serial != "":
		return serials
	case t.Device != "":
		return devices
	case t.Owner != "":
		return owners
	}
	return anything
}

// ParseTarget reads one target as people write it: a device's id, a mail address, or else a serial number in hex.
func ParseTarget(s string) (t Target, err error) {
	switch s = strings.TrimSpace(s); {
	case strings.Contains(s, "@"):
		t.Owner, _, err = trust.Mail(s)
	case strings.HasPrefix(strings.ToLower(s), "dev-"):
		t.Device = trust.DeviceID(strings.ToLower(s))
	default:
		t.Serial, err = trust.ParseSerial(s)
	}
	if err != nil {
		return Target{}, fmt.Errorf("%q is no serial number, device id (dev-...) or mail address: %w", s, err)
	}
	return t, nil
}

func (f *targetFile) fail(line int, err error) {
	if len(f.bad) == maxFileErrors {
		f.more++
		return
	}
	f.bad = append(f.bad, fmt.Sprintf("line %d: %v", line, err))
}

func (f *targetFile) err() error {
	if len(f.bad) == 0 {
		return nil
	}
	text := strings.Join(f.bad, "\n  ")
	if f.more > 0 {
		text += fmt.Sprintf("\n  and %d more lines like that", f.more)
	}
	return errors.New(text)
}
