package policy

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
// without a signature is then an error. Compiled policies (Wasm, plans) and delta bundles are refused, because what they do cannot be checked.
func ReadBundle(raw []byte, key *BundleKey) (files Files, err error) {
	defer func() {
		if r := recover(); r != nil {
			files, err = nil, fmt.Errorf("read bundle: it cannot be read: %v", r)
		}
	}()
	if err := bounded(raw); err != nil {
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
	if len(b.WasmModules) > 0 || len(b.PlanModules) > 0 || len(b.Patch.Data) > 0 {
		return nil, errors.New("read bundle: compiled policies and delta bundles are not accepted: build it with `opa build -b DIR`")
	}
	return bundleFiles(b)
}

// bounded refuses an archive that unpacks to more than a policy may have, before anything reads it whole.
func bounded(raw []byte) error {
	if len(raw) > MaxBundle {
		return fmt.Errorf("larger than %d bytes", MaxBundle)
	}
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(zip, maxUnpacked+1))
	if err == nil && n > maxUnpacked {
		err = fmt.Errorf("it unpacks to more than %d bytes", maxUnpacked)
	}
	return err
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
