package registry

import "errors"

// Errors of the store, beside those of package trust.
var (
	// ErrCompacted: the history of changes does not reach back far enough; read everything anew.
	ErrCompacted = errors.New("history of changes was compacted")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("registry is closed")
	// ErrUnknownOutcome: the commit may or may not have happened, for example because the disk failed while flushing.
	ErrUnknownOutcome = errors.New("commit outcome is unknown")
)
