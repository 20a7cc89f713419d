package mdm

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a password or key. However it is printed, logged or marshalled, it shows "[redacted]"; the value is behind a pointer, since fmt asks no
// methods of what stands in an unexported field.
type Secret struct{ value *string }

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{&value} }

// IsZero reports whether there is no value, or an empty one.
func (s Secret) IsZero() bool { return s.reveal() == "" }

func (s Secret) reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Format implements fmt.Formatter for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML use too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// ClientCertificate authenticates an application to Entra ID in place of a client secret. Like a Secret it cannot be printed.
type ClientCertificate struct {
	leaf *x509.Certificate
	key  crypto.Signer
}

// NewClientCertificate joins a certificate, as uploaded to the app registration, with its key, which must be RSA: Entra ID takes no other for a
// signed assertion.
func NewClientCertificate(leaf *x509.Certificate, key crypto.Signer) (*ClientCertificate, error) {
	pub, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("client certificate: the key is not RSA")
	}
	if !pub.Equal(leaf.PublicKey) {
		return nil, errors.New("client certificate: the key belongs to another certificate")
	}
	return &ClientCertificate{leaf, key}, nil
}

// Format implements fmt.Formatter for every verb.
func (*ClientCertificate) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (*ClientCertificate) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML use too.
func (*ClientCertificate) MarshalText() ([]byte, error) { return []byte(redacted), nil }
