package admin

import (
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/trust"
)

const (
	recordedPage    = 2000             // decisions read from the journal at once
	recordedTimeout = 30 * time.Second // for the reader to take one page
)

// recorded streams the decisions since a time, to be decided again where the policies are. The work is the reader's; the journal is read in short pages.
func (a *Admin) recorded(c *gin.Context) {
	since, err := time.Parse(time.RFC3339, c.Query("since"))
	if err != nil {
		render(c, fmt.Errorf("since %q %w: use a time like 2026-06-01T00:00:00Z", c.Query("since"), trust.ErrInvalid))
		return
	}
	deadline := http.NewResponseController(c.Writer)
	c.Header("Content-Type", api.RecordedType)
	c.Header("Cache-Control", "no-store")
	var buf []byte
	for after := ""; ; {
		page, next, err := a.cfg.Journal.Recorded(c, since, after, recordedPage)
		if err != nil {
			// The last frame is missing, by which the reader knows.
			a.cfg.Log.ErrorContext(c, "recorded decisions cannot be read", "error", err)
			return
		}
		buf = buf[:0]
		for _, d := range page {
			buf = api.AppendRecorded(buf, recordedDecision(d))
		}
		if next == "" {
			buf = append(buf, 0)
		}
		if err := deadline.SetWriteDeadline(time.Now().Add(recordedTimeout)); err != nil {
			a.cfg.Log.DebugContext(c, "no write deadline", "error", err)
		}
		if _, err := c.Writer.Write(buf); err != nil || next == "" {
			return
		}
		after = next
	}
}

func recordedDecision(d trust.Decision) api.Recorded {
	codes := make([]string, len(d.Reasons))
	for i, r := range d.Reasons {
		codes[i] = r.Code
	}
	return api.Recorded{Door: d.Door, Reference: d.Reference, At: d.At, Action: string(d.Action), Codes: codes, Policy: d.Policy, User: d.User, Device: string(d.Device),
		Command: d.Command, Input: d.Input}
}

func (a *Admin) retained(c *gin.Context, _ none) (api.Retained, error) {
	n, last, err := a.cfg.Journal.AllowCount(c, "")
	s, r := a.cfg.Journal.Stats(), a.cfg.Journal.Retention()
	return api.Retained{Allowed: n, LastAllowed: optional(last), Dropped: s.Dropped, Sampled: s.Sampled, Evicted: s.Evicted, EvictedStrangers: s.EvictedStrangers,
		EvictedAllowed: s.EvictedAllowed, SkippedAllowed: s.SkippedAllowed, LeftOutAllowed: s.LeftOutAllowed, KeptSeconds: int64(r.Age / time.Second), KeptBytes: r.Bytes, AllowedShare: r.Allowed}, err
}
