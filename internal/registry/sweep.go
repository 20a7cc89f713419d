package registry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	sweepEvery   = time.Hour
	sweepRetry   = time.Minute
	keepSpent    = 30 * 24 * time.Hour // of a challenge after its end, for those who ask why it does not work
	deleteAtOnce = 1000
)

// RunSweeper revokes superseded certificates whose grace is over and deletes what is out of date, now and every hour, until ctx ends or the store is closed.
// An error is logged and tried again after a minute.
func (r *Registry) RunSweeper(ctx context.Context) error {
	for ctx.Err() == nil {
		wait := sweepEvery
		err := r.sweep(ctx)
		if errors.Is(err, ErrClosed) {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			r.log.ErrorContext(ctx, "cannot sweep the registry", "error", err)
			wait = sweepRetry
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
	return nil
}

func (r *Registry) sweep(ctx context.Context) error {
	now := r.now()
	revoked, err := r.RevokeSuperseded(ctx, now)
	if err != nil {
		err = fmt.Errorf("revoke superseded certificates: %w", err)
	}
	deleted, err2 := r.DeleteExpired(ctx, now)
	if err2 != nil {
		err2 = fmt.Errorf("delete what is out of date: %w", err2)
	}
	profiles, err3 := r.DeleteStaleProfiles(ctx, now)
	if err3 != nil {
		err3 = fmt.Errorf("delete stale mail profiles: %w", err3)
	}
	if revoked > 0 || deleted > 0 || profiles > 0 {
		r.log.InfoContext(ctx, "registry swept", "superseded_revoked", revoked, "expired_deleted", deleted, "profiles_deleted", profiles)
	}
	return errors.Join(err, err2, err3)
}

// DeleteExpired deletes challenges that were spent or expired, tickets that were revoked, exceptions that are over, and revocations that were proposed, 30 days before now,
// SCEP transactions after RetryWindow, and grants that are over, and returns how many. The audit keeps what became of them.
func (r *Registry) DeleteExpired(ctx context.Context, now time.Time) (n int, err error) {
	challenges, err := deleteWhere(ctx, r, tableChallenges, func(c Challenge) bool {
		end := c.Expires
		if c.Spent != "" {
			end = c.SpentAt
		}
		return now.Sub(end) > keepSpent
	}, nil)
	if err != nil {
		return challenges, err
	}
	transactions, err := deleteWhere(ctx, r, tableTransactions, func(x transactionRecord) bool { return now.Sub(x.At) > RetryWindow }, nil)
	if err != nil {
		return challenges + transactions, err
	}
	grants, err := r.deleteGrants(ctx, now)
	if err != nil {
		return challenges + transactions + grants, err
	}
	tickets, err := r.deleteTickets(ctx, now.Add(-keepSpent))
	if err != nil {
		return challenges + transactions + grants + tickets, err
	}
	exceptions, err := r.deleteExceptions(ctx, now.Add(-keepSpent))
	if err != nil {
		return challenges + transactions + grants + tickets + exceptions, err
	}
	proposals, err := r.deleteProposals(ctx, now.Add(-keepSpent))
	return challenges + transactions + grants + tickets + exceptions + proposals, err
}

// deleteWhere deletes the records that over accepts, and calls gone, unless it is nil, for each. One that cannot be read stays: whoever needs it is told.
func deleteWhere[T any](ctx context.Context, r *Registry, table Table, over func(T) bool, gone func(t *txn, key string, v T)) (n int, err error) {
	is := func(raw []byte) bool {
		var v T
		return decode(raw, &v) == nil && over(v)
	}
	for after := ""; ; {
		var keys []string
		err := scanPages(ctx, r.store, table, "", after, func(key string, raw []byte) (bool, error) {
			if after = key; is(raw) {
				keys = append(keys, key)
			}
			return len(keys) < deleteAtOnce, nil
		})
		if err != nil || len(keys) == 0 {
			return n, err
		}
		var deleted int
		_, err = r.update(ctx, sweeper, ActSweep, string(table), func(t *txn) error {
			deleted = 0
			for _, key := range keys {
				raw, ok := t.Get(table, key)
				if !ok || !is(raw) {
					continue
				}
				t.Delete(table, key)
				deleted++
				var v T
				if gone != nil && decode(raw, &v) == nil {
					gone(t, key, v)
				}
			}
			return nil
		})
		if err != nil {
			return n, err
		}
		n += deleted
	}
}
