// Package policies holds the built-in policies: Rego, its tests, and the numbers and lists that tune it.
//
// It only embeds files. Package policy loads, checks and evaluates them.
package policies

import (
	"embed"
	"io/fs"
)

//go:embed *.rego config.yaml
var files embed.FS

// Files returns the built-in policies: *.rego with their *_test.rego, and config.yaml. The file system is read-only and flat.
func Files() fs.FS { return files }
