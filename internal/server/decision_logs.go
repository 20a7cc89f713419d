package server

import (
	"fmt"
	"path/filepath"
	"time"

	"postern/internal/admin"
	"postern/internal/decisionlog"
	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
)

// toldJournal is a journal whose decisions are told to others as well.
type toldJournal struct {
	registry.Journal
	log *decisionlog.Log
}

// Record implements registry.Journal.
func (j toldJournal) Record(d trust.Decision) {
	j.log.Record(d)
	j.Journal.Record(d)
}

// openJournal opens the journal and whatever else hears of decisions.
func (s *Server) openJournal(data string) error {
	journal, err := bolt.OpenJournal(filepath.Join(data, "journal.db"), s.opts.Config.Journal.options(s.opts.Log, s.opts.Now))
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	s.journal = journal
	s.opened(journal.Close)
	if s.opts.Config.Policy.DecisionLogs == nil {
		return nil
	}
	cfg := *s.opts.Config.Policy.DecisionLogs
	cfg.Now, cfg.Log, cfg.Labels = s.opts.Now, s.opts.Log, decisionlog.Labels(s.opts.Version, cfg.Labels)
	if s.told, err = decisionlog.Open(cfg); err != nil {
		return err
	}
	s.journal = toldJournal{journal, s.told}
	s.followers = append(s.followers, part{"decision log", s.told.Run})
	return nil
}

// logWarnings says why decisions are not told. Nobody's mail depends on it, so the process is healthy.
func (s *Server) logWarnings() []string {
	if s.told == nil {
		return nil
	}
	c := s.told.Stats()
	if c.Trouble == "" {
		return nil
	}
	return []string{fmt.Sprintf("since %s, %s (%d decisions wait, %d were lost since the start)", c.Since.UTC().Format(time.RFC3339), c.Trouble, c.Waiting, c.Dropped)}
}

// logCounts is for the metrics; nil where decisions are told to nobody.
func (s *Server) logCounts() func() admin.DecisionLogCounts {
	if s.told == nil {
		return nil
	}
	return func() admin.DecisionLogCounts {
		c := s.told.Stats()
		return admin.DecisionLogCounts{Written: c.Written, Sent: c.Sent, Dropped: c.Dropped, Refused: c.Refused, Waiting: c.Waiting}
	}
}
