package oauth

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every way to print a [Secret] shows.
const redacted = "[redacted]"

// Secret is a token or a password. Printing, logging or marshalling it in any way shows "[redacted]"; the value comes out of
// [Secret.Reveal] alone. It is behind a pointer, because fmt does not call methods on the unexported fields of a struct that
// it prints.
type Secret struct{ value *string }

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{&value} }

// Reveal gives the value, "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether there is no value, or an empty one.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// String implements [fmt.Stringer].
func (s Secret) String() string { return redacted }

// GoString implements [fmt.GoStringer].
func (s Secret) GoString() string { return redacted }

// Format implements [fmt.Formatter], so that no verb prints anything else.
func (s Secret) Format(f fmt.State, _ rune) {
	// fmt has no place for an error of its own writer.
	_, _ = io.WriteString(f, redacted)
}

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], which serves JSON, XML and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements [json.Marshaler].
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
