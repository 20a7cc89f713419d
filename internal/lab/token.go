package lab

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// TenantID is the Entra ID tenant of every token that the lab makes.
const TenantID = "11111111-2222-4333-8444-555555555555"

// AppleAccounts is the application id under which Apple's Mail signs in.
const AppleAccounts = "f8d98a96-0999-43f5-8af3-69971c7bb423"

// maxToken is the longest bearer token that is looked at, in bytes.
const maxToken = 16 << 10

// Token makes a bearer token for a user as Entra ID shapes it for ActiveSync: good from now for an hour. claims replaces claims
// by name, or leaves out those that it gives as nil; one without a JSON form makes the token empty. Its signature (HS256, a well-known key) convinces nobody but an [Exchange].
func Token(user string, now time.Time, claims map[string]any) string {
	all := map[string]any{
		"aud": "https://outlook.office365.com/", "iss": "https://sts.windows.net/" + TenantID + "/",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"appid": AppleAccounts, "oid": objectID(user), "tid": TenantID, "scp": "EAS.AccessAsUser.All",
		"upn": user, "unique_name": user, "ver": "1.0", "xms_cc": []string{"cp1"},
	}
	for name, value := range claims {
		if value == nil {
			delete(all, name)
		} else {
			all[name] = value
		}
	}
	payload, err := json.Marshal(all)
	if err != nil {
		return ""
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"typ":"JWT","alg":"HS256","kid":"lab"}`)) + "." + enc.EncodeToString(payload)
	mac := hmac.New(sha256.New, []byte("postern lab"))
	mac.Write([]byte(text))
	return text + "." + enc.EncodeToString(mac.Sum(nil))
}

// objectID gives the same object id for the same user.
func objectID(user string) string {
	h := sha256.Sum256([]byte(strings.ToLower(user)))
	h[6], h[8] = h[6]&0x0F|0x40, h[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// tokenUser reads the lower-case user name from a token, "" where it names none or is not good at now.
func tokenUser(token string, now time.Time) string {
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		UPN       string `json:"upn"`
		Preferred string `json:"preferred_username"`
		Expires   int64  `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || now.Unix() >= claims.Expires {
		return ""
	}
	if claims.UPN == "" {
		claims.UPN = claims.Preferred
	}
	return strings.ToLower(claims.UPN)
}
