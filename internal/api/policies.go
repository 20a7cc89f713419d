package api

import "time"

// maxPolicyBody has room for a packed policy of 4 MiB in base64.
const maxPolicyBody = 6 << 20

// NewPolicy asks for POST /policies: the files of a team, which are checked and stored, and not in force yet.
type NewPolicy struct {
	Packed  []byte `json:"packed"` // a gzipped tar archive, as policy.Files.Pack makes it
	Comment string `json:"comment,omitempty"`
}

// MaxBody is the size limit of the request in bytes.
func (NewPolicy) MaxBody() int64 { return maxPolicyBody }

// PolicyVersion is one stored version. It never changes.
type PolicyVersion struct {
	Digest  string    `json:"digest"`
	Source  string    `json:"source"` // api, directory or bundle
	Replace bool      `json:"replace"`
	BuiltIn bool      `json:"built_in"` // the built-in policies alone, of this release or another
	Author  string    `json:"author"`
	Comment string    `json:"comment,omitempty"`
	Created time.Time `json:"created"`
	Files   []string  `json:"files"`
	Size    int       `json:"size"`
	Active  bool      `json:"active"`
	Packed  []byte    `json:"packed,omitempty"` // only where one version was asked for
}

// PolicyActivation says which version was in force from when, or is proposed.
type PolicyActivation struct {
	Seq      uint64    `json:"seq"` // 0 for a proposal
	Digest   string    `json:"digest"`
	BuiltIn  bool      `json:"built_in"` // the built-in policies alone, of this release or another
	By       string    `json:"by"`
	Second   string    `json:"second,omitempty"` // who had proposed it
	Comment  string    `json:"comment,omitempty"`
	At       time.Time `json:"at"`
	Proposed bool      `json:"proposed"` // a second person has yet to activate it
	InForce  bool      `json:"in_force"` // on the node that answers
}

// Activate asks for POST /policies/{digest}/activate.
type Activate struct {
	Comment string `json:"comment,omitempty"`
}
