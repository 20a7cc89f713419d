package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// MaxPacked is the size limit of a packed policy, in bytes, and maxUnpacked that of its files together.
const (
	MaxPacked   = 4 << 20
	maxUnpacked = 16 << 20
)

// Files are the files of a team's own policy: policies, their tests and data, by a path with slashes. They are what a version of a policy consists of.
type Files map[string][]byte

// ReadFiles reads a directory (or one file) as a policy. Files that are neither policies nor data are problems, for a policy whose file was misnamed must
// not vanish; the error is about reading them.
func ReadFiles(path string) (Files, []Problem, error) {
	list, problems, err := readPath(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read policy: %w", err)
	}
	files := Files{}
	for _, f := range list {
		files[f.name] = f.content
	}
	return files, problems, nil
}

// Digest returns what Engine.Digest will say of a policy made of these files, beside the built-in ones or, with replace, instead of them.
func (f Files) Digest(replace bool) (string, error) {
	src, _, err := read(Options{Files: f, Replace: replace})
	return src.digest(), err
}

// list returns the files sorted by name, and what is wrong with their names and sizes.
func (f Files) list() (files []file, problems []Problem) {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		switch {
		case !cleanName(name):
			problems = append(problems, Problem{File: name, Message: "not the name of a file below the policy's directory"})
		case len(f[name]) > maxFile:
			problems = append(problems, Problem{File: name, Message: fmt.Sprintf("larger than %d bytes", maxFile)})
		case kindOf(name) == "unknown":
			problems = append(problems, Problem{File: name, Message: "neither a policy nor data", Advice: "name it .rego, .yaml, .yml or .json, or leave it out"})
		case kindOf(name) == "read":
			files = append(files, file{name: name, content: f[name]})
		}
	}
	if len(files) > maxFiles {
		problems = append(problems, Problem{Message: fmt.Sprintf("more than %d files", maxFiles)})
	}
	return files, problems
}

// cleanName reports whether a name stays below the directory, and cannot pass for a built-in file.
func cleanName(name string) bool {
	return name != "" && name != "." && len(name) < 500 && path.Clean(name) == name && !path.IsAbs(name) && name != ".." && !strings.HasPrefix(name, "../") &&
		!strings.HasPrefix(name, "builtin/") && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '\\' })
}

// Pack writes the files as a gzipped tar archive, always the same bytes for the same files.
func (f Files) Pack() ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(f[name])), ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
		if err == nil {
			_, err = w.Write(f[name])
		}
		if err != nil {
			return nil, fmt.Errorf("pack policy: %w", err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		return nil, fmt.Errorf("pack policy: %w", err)
	}
	if out.Len() > MaxPacked {
		return nil, fmt.Errorf("pack policy: %d bytes, at most %d", out.Len(), MaxPacked)
	}
	return out.Bytes(), nil
}

// Unpack reads what Pack has written, within the limits of a policy directory whatever it holds.
func Unpack(packed []byte) (Files, error) {
	if len(packed) > MaxPacked {
		return nil, fmt.Errorf("unpack policy: larger than %d bytes", MaxPacked)
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack policy: %w", err)
	}
	limited := &io.LimitedReader{R: zip, N: maxUnpacked}
	r := tar.NewReader(limited)
	files := Files{}
	for {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF) && limited.N > 0:
			return files, nil
		case err != nil:
			return nil, fmt.Errorf("unpack policy: %w", err)
		case h.Typeflag != tar.TypeReg || !cleanName(h.Name) || h.Size > maxFile || len(files) == maxFiles:
			return nil, fmt.Errorf("unpack policy: %q is not a file that a policy may have, or there are too many", h.Name)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("unpack policy: %s: %w", h.Name, err)
		}
	}
}
