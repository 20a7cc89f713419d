package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"postern/policies"
)

// The limits of a policy directory, checked before anything is parsed.
const (
	maxFile  = 1 << 20 // bytes
	maxFiles = 200
	maxDepth = 8
)

// file is one file of a policy. Its name is what problems are reported under and what the digest covers: a path below the policy directory, with
// slashes, or "builtin/NAME".
type file struct {
	name    string
	content []byte
	builtin bool
}

func (f file) rego() bool { return strings.HasSuffix(f.name, ".rego") }
func (f file) test() bool { return strings.HasSuffix(f.name, "_test.rego") }

// sources are the files of one policy, sorted by name.
type sources struct {
	files    []file
	replaced bool
}

// read returns the files that the options name. Problems are about the files; the error is about reading them at all.
func read(o Options) (sources, []Problem, error) {
	src := sources{replaced: o.Replace}
	if o.Replace && o.Path == "" && len(o.Files) == 0 {
		return src, nil, errors.New("read policy: replace needs a path or files")
	}
	if !o.Replace {
		builtin, err := readBuiltin()
		if err != nil {
			return src, nil, err
		}
		src.files = builtin
	}
	var own []file
	var problems []Problem
	switch {
	case o.Files != nil:
		own, problems = o.Files.list()
	case o.Path != "":
		var err error
		if own, problems, err = readPath(o.Path); err != nil {
			return src, nil, fmt.Errorf("read policy: %w", err)
		}
	}
	if p := oversize(own); p != nil {
		own, problems = nil, append(problems, *p)
	}
	src.files = append(src.files, own...)
	slices.SortFunc(src.files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return src, problems, nil
}

// oversize is what is wrong with files that are too large together: nil, nearly always.
func oversize(files []file) *Problem {
	total, largest := 0, file{}
	for _, f := range files {
		if total += len(f.content); len(f.content) > len(largest.content) {
			largest = f
		}
	}
	if total <= maxUnpacked {
		return nil
	}
	return &Problem{File: largest.name, Line: 1, Message: fmt.Sprintf("the files have %d bytes together, more than %d; this is the largest", total, maxUnpacked),
		Advice: "a policy reads what it needs by key: put what belongs to a device into its labels, or to a user into the MDM's groups"}
}

func readBuiltin() ([]file, error) {
	fsys := policies.Files()
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("read built-in policies: %w", err)
	}
	var files []file
	for _, e := range entries {
		content, err := fs.ReadFile(fsys, e.Name())
		if err != nil {
			return nil, fmt.Errorf("read built-in policies: %w", err)
		}
		files = append(files, file{name: "builtin/" + e.Name(), content: content, builtin: true})
	}
	return files, nil
}

// readPath reads one file, or a directory with everything below it. Symbolic links to files are followed, because mounted configuration consists of
// them; hidden files, directories named schemas, Markdown and backups of editors are passed over, and anything else is a problem: a policy whose file
// was misnamed must not vanish without a word. A directory without any file is an error: what a team keeps out must not come in because its rules are not there.
func readPath(root string) ([]file, []Problem, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, nil, err
	}
	if !info.IsDir() {
		f, err := readFile(root, filepath.Base(root))
		return []file{f}, nil, err
	}
	var files []file
	var problems []Problem
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || rel == "." {
			return err
		}
		name := filepath.ToSlash(rel)
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") || d.Name() == "schemas" {
				return fs.SkipDir
			}
			if strings.Count(name, "/") >= maxDepth {
				return fmt.Errorf("%s: directories nested deeper than %d", name, maxDepth)
			}
			return nil
		}
		switch kindOf(name) {
		case "skip":
			return nil
		case "unknown":
			problems = append(problems, Problem{File: name, Message: "neither a policy nor data", Advice: "name it .rego, .yaml, .yml or .json, or move it away"})
			return nil
		}
		if len(files) == maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		f, err := readFile(p, name)
		files = append(files, f)
		return err
	})
	if err == nil && len(files) == 0 && len(problems) == 0 {
		err = fmt.Errorf("%s holds neither policies nor data, as a volume that is not mounted: name no directory (policy.path), or activate built-in, for the built-in policies alone", root)
	}
	return files, problems, err
}

func kindOf(name string) string {
	base := path.Base(name)
	switch ext := path.Ext(base); {
	case strings.HasPrefix(base, "."), strings.HasSuffix(base, "~"), ext == ".md", ext == ".bak", ext == ".orig":
		return "skip"
	case ext == ".rego", ext == ".yaml", ext == ".yml", ext == ".json":
		return "read"
	}
	return "unknown"
}

func readFile(p, name string) (file, error) {
	if info, err := os.Stat(p); err != nil || !info.Mode().IsRegular() { // before it is opened: a pipe would wait for its writer
		return file{}, errors.Join(fmt.Errorf("%s: not a regular file", name), err)
	}
	f, err := os.Open(p)
	if err != nil {
		return file{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return file{}, errors.Join(fmt.Errorf("%s: not a regular file", name), err)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return file{}, err
	}
	if len(content) > maxFile {
		return file{}, fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	return file{name: name, content: content}, nil
}

// digest identifies what decides: names and contents of all policies and data, tests excluded. 64 bits of SHA-256 in lower-case hex.
func (s sources) digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "contract %d replaced %t\n", Contract, s.replaced)
	for _, f := range s.files {
		if !f.test() {
			fmt.Fprintf(h, "%q %d\n", f.name, len(f.content))
			h.Write(f.content)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
