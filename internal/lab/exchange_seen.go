package lab

import (
	"crypto/sha256"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"postern/internal/eas"
	"postern/internal/trust"
)

// maxSeen is how many requests an Exchange remembers at least; counts go on beyond it.
const maxSeen = 10000

// Seen is one request that reached an Exchange, and the answer to it. It holds what is needed to compare both sides of a
// gateway byte by byte, and no credential.
type Seen struct {
	ID            string // the request-id of the answer
	At            time.Time
	Method        string
	Path          string
	RawQuery      string
	Header        http.Header // without Authorization
	Scheme        string      // of Authorization, as sent: "Bearer", "Basic"; empty where there was none
	Authorization [sha256.Size]byte
	Body          [sha256.Size]byte
	BodySize      int

	Mailbox  string // whose; empty where the request did not sign in
	Command  eas.Command
	DeviceID string // as sent

	Done       bool // the fields below are set
	Canceled   bool // the client went away before the answer
	HTTPStatus int  // of the answer
	Status     int  // the EAS status in it, see Result.Status
	Answer     [sha256.Size]byte
	AnswerSize int
	Duration   time.Duration
}

// Seen gives the requests so far, oldest first, including those that are still waiting. Those before the last 10000 may be
// forgotten.
func (e *Exchange) Seen() []Seen {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]Seen, len(e.seen))
	for i, s := range e.seen {
		all[i] = *s
	}
	return all
}

// Counts says how many requests signed in, by command; those that did not count as [eas.NoCommand].
func (e *Exchange) Counts() map[eas.Command]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.counts)
}

// Waiting says how many long polls, Ping or hanging Sync, are open.
func (e *Exchange) Waiting() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.waiting
}

// begin records a request.
func (e *Exchange) begin(r *http.Request, body []byte) *Seen {
	authorization := r.Header.Get("Authorization")
	scheme, _, _ := strings.Cut(authorization, " ")
	s := &Seen{
		ID: trust.NewID("req"), At: e.now(), Method: r.Method, Path: r.URL.Path, RawQuery: r.URL.RawQuery,
		Header: r.Header.Clone(), Scheme: scheme, Authorization: sha256.Sum256([]byte(authorization)),
		Body: sha256.Sum256(body), BodySize: len(body),
	}
	s.Header.Del("Authorization")
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, s)
	if extra := len(e.seen) - maxSeen; extra > maxSeen/10 {
		e.seen = slices.Clone(e.seen[extra:])
	}
	return s
}

// identify adds who it was.
func (e *Exchange) identify(s *Seen, box *mailbox, req eas.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.Mailbox, s.Command, s.DeviceID = box.mail, req.Command, req.RawDeviceID
}

// end adds the answer.
func (e *Exchange) end(s *Seen, a answer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.Done, s.Canceled, s.Duration = true, a.code == statusCanceled, e.now().Sub(s.At)
	s.HTTPStatus, s.Answer, s.AnswerSize = a.code, sha256.Sum256(a.body), len(a.body)
	if len(a.body) > 0 {
		if doc, err := eas.Decode(a.body, maxAnswer); err == nil {
			s.Status = statusOf(doc)
		}
	}
	e.counts[s.Command]++
	e.log.Debug("request", "id", s.ID, "mailbox", s.Mailbox, "command", s.Command.String(), "device", s.DeviceID,
		"http", s.HTTPStatus, "status", s.Status, "canceled", s.Canceled, "duration", s.Duration)
}
