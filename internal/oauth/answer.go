package oauth

import (
	"encoding/json"
	"strings"
	"time"
)

// MaxTokenAnswer is how long the answer of a token endpoint may be, in bytes.
const MaxTokenAnswer = 1 << 20

// DefaultTokenLife is how long an access token is taken to live where the answer does not say (RFC 6749, section 5.1, only recommends expires_in).
const DefaultTokenLife = time.Hour

// TokenAnswer is what matters of a successful answer of a token endpoint (RFC 6749, section 5.1).
type TokenAnswer struct {
	Access Secret
	Life   time.Duration // from now on
}

// Credential reads whom the access token claims to be for, as [ParseAuthorization] does.
func (a TokenAnswer) Credential() (Credential, error) {
	return ParseAuthorization([]string{"Bearer " + a.Access.Reveal()})
}

// ParseTokenAnswer reads the body of a successful answer; ok is false for one without a bearer token, which proves nothing.
func ParseTokenAnswer(body []byte) (a TokenAnswer, ok bool) {
	object, ok := decodeObject(body)
	if !ok || len(body) > MaxTokenAnswer {
		return a, false
	}
	token, _ := object["access_token"].(string)
	kind, _ := object["token_type"].(string)
	if token == "" || !strings.EqualFold(kind, "Bearer") {
		return a, false
	}
	return TokenAnswer{Access: NewSecret(token), Life: life(object["expires_in"])}, true
}

// life reads expires_in, in seconds. The Microsoft identity platform v1 writes it as text.
func life(value any) time.Duration {
	const longest = 366 * 24 * time.Hour
	if text, ok := value.(string); ok {
		value = json.Number(text)
	}
	number, ok := value.(json.Number)
	if !ok {
		return DefaultTokenLife
	}
	seconds, err := number.Float64()
	switch {
	case err != nil || !(seconds > 0):
		return DefaultTokenLife
	case seconds > longest.Seconds():
		return longest
	}
	return time.Duration(seconds * float64(time.Second))
}

// ErrorAnswer is the body that refuses a token request (RFC 6749, section 5.2). The description must be printable ASCII without quotes and backslashes;
// anything else is left out of it.
func ErrorAnswer(code, description string) []byte {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, description)
	body, err := json.Marshal(map[string]string{"error": code, "error_description": clean})
	if err != nil {
		return []byte(`{"error":"invalid_request"}`) // not reached: two texts
	}
	return body
}
