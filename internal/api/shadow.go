package api

import (
	"encoding/json"
	"time"
)

// StartShadow asks for POST /policies/shadow: a stored version decides beside the one in force, and changes no answer.
type StartShadow struct {
	Digest  string `json:"digest"`
	Comment string `json:"comment,omitempty"`
}

// PolicyShadow is the version that decides in shadow, and what it would have decided otherwise on the node that answers.
type PolicyShadow struct {
	Digest  string          `json:"digest"`
	By      string          `json:"by"`
	Comment string          `json:"comment,omitempty"`
	At      time.Time       `json:"at"`
	Source  string          `json:"source,omitempty"` // where the policies come from in words, if not from activations: then promoting is refused
	Running bool            `json:"running"`          // on the node that answers; where not, the warnings of the status say why
	Report  json.RawMessage `json:"report"`           // policy.ShadowReport; null where it does not run
}
