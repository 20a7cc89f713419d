package policy

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// MaxBundle is the size limit of a bundle as it is served, in bytes. Unpacked it may have maxUnpacked.
const MaxBundle = 8 << 20

// BundleKey verifies the signature of bundles: a PEM public key (RS*, PS*, ES*) or a shared secret (HS*).
type BundleKey struct {
	ID        string // kid of the signature; "default" where it has none
	Algorithm string // RS256, PS256, ES256, HS256, ... ; RS256 if empty
	Key       string
	Scope     string // that the signature must have; empty: none
}

// ReadBundle reads a bundle as `opa build` makes it: policies, and data that becomes one document. With a key every file has to be signed with it; a bundle
// without a signature is then an error. Compiled policies (Wasm, plans) and delta bundles are refused, because what they do cannot be checked; so are files that
// would be passed over, or of which there are two.
func ReadBundle(raw []byte, key *BundleKey) (files Files, err error) {
	defer func() {
		if r := recover(); r != nil {
			files, err = nil, fmt.Errorf("read bundle: it cannot be read: %v", r)
		}
	}()
	archived, err := unarchive(raw)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	r := bundle.NewReader(bytes.NewReader(raw)).WithSizeLimitBytes(maxFile).WithCapabilities(capabilities()).WithRegoVersion(ast.RegoV1)
	if key != nil {
		id := cmp.Or(key.ID, "default")
		config := &bundle.KeyConfig{Key: key.Key, Algorithm: cmp.Or(key.Algorithm, "RS256"), Scope: key.Scope}
		r = r.WithBundleVerificationConfig(bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{id: config}, id, key.Scope, nil))
	} else {
		r = r.WithSkipBundleVerification(true)
	}
	b, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if err := archived.once(); err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	return bundleFiles(b)
}

// archived are the files of a bundle by name. The library passes over what it does not know, and takes the last of two.
type archived map[string][]byte

// unarchive reads the archive within the limits of a policy, and refuses what would be passed over or is no snapshot of policies and data. Nothing of it is
// verified yet.
func unarchive(raw []byte) (archived, error) {
	if len(raw) > MaxBundle {
		return nil, fmt.Errorf("larger than %d bytes", MaxBundle)
	}
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("it is no gzipped archive, as `opa build` makes one: %w", err)
	}
	limited := &io.LimitedReader{R: zip, N: maxUnpacked + 1}
	files := archived{}
	for r := tar.NewReader(limited); ; {
		h, err := r.Next()
		if limited.N <= 0 {
			return nil, fmt.Errorf("it unpacks to more than %d bytes", maxUnpacked)
		}
		switch {
		case errors.Is(err, io.EOF):
			return files, drained(limited)
		case err != nil:
			return nil, fmt.Errorf("it is no tar archive: %w", err)
		case h.Typeflag == tar.TypeDir, h.Typeflag == tar.TypeXGlobalHeader:
			continue
		}
		name := strings.TrimPrefix(strings.TrimPrefix(h.Name, "."), "/")
		switch _, twice := files[name]; {
		case h.Typeflag != tar.TypeReg:
			return nil, fmt.Errorf("%q is no regular file: a bundle holds neither links nor devices", h.Name)
		case !cleanName(name):
			return nil, fmt.Errorf("%q is not the name of a file below the policy's directory", h.Name)
		case twice:
			return nil, fmt.Errorf("%s is in it twice", name)
		case len(files) == maxFiles:
			return nil, fmt.Errorf("more than %d files", maxFiles)
		case h.Size > maxUnpacked:
			return nil, fmt.Errorf("it unpacks to more than %d bytes", maxUnpacked)
		case h.Size > maxFile:
			return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFile)
		}
		if err := snapshot(name); err != nil {
			return nil, err
		}
		if files[name], err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
}

// drained reads what stands behind the archive, which may be endless.
func drained(limited *io.LimitedReader) error {
	if _, err := io.Copy(io.Discard, limited); err != nil {
		return err
	}
	if limited.N <= 0 {
		return fmt.Errorf("it unpacks to more than %d bytes", maxUnpacked)
	}
	return nil
}

// snapshot refuses files that are not part of a snapshot of policies and data in their sources.
func snapshot(name string) error {
	const build = "build it with `opa build -b DIR`"
	base, ext := path.Base(name), path.Ext(name)
	switch {
	case ext == ".wasm", base == bundle.PlanFile, base == bundle.PlanProtoFile:
		return fmt.Errorf("%s is a compiled policy, and what it does cannot be checked: %s, without a target", name, build)
	case name == "patch.json":
		return errors.New("it is a delta bundle, which changes data alone and cannot be signed: " + build + " and serve the whole")
	case strings.HasPrefix(base, "."), ext == ".rego", base == "data.json", base == "data.yaml", base == "data.yml", slices.Contains(strings.Split(path.Dir(name), "/"), "schemas"):
		return nil
	}
	switch kindOf(name) {
	case "read":
		return fmt.Errorf("%s would not be read: data of a bundle is in files named data.json or data.yaml, of which the directory is the name; `opa build` makes them", name)
	case "unknown":
		return fmt.Errorf("%s is neither a policy nor data: leave it out", name)
	}
	return nil
}

// once refuses data in which a key is said twice, of which the library would take the last.
func (a archived) once() error {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		var err error
		switch path.Base(name) {
		case "data.json":
			err = keysOnce(a[name])
		case "data.yaml", "data.yml":
			_, err = parseYAML(a[name])
		}
		var twice *saidTwice
		if errors.As(err, &twice) {
			return fmt.Errorf("%s:%d:%d: %w", name, twice.line, twice.column, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func bundleFiles(b bundle.Bundle) (Files, error) {
	files := Files{}
	for _, m := range b.Modules {
		files[strings.TrimPrefix(m.Path, "/")] = m.Raw
	}
	if len(b.Data) > 0 {
		data, err := json.MarshalIndent(b.Data, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("read bundle: %w", err)
		}
		files["data.json"] = data
	}
	if len(files) == 0 {
		return nil, errors.New("read bundle: it holds neither policies nor data")
	}
	return files, nil
}
