package registry

import (
	"context"
	"fmt"
)

// scanPage is how many records one View looks at: a longer one would keep old pages from being reused.
const scanPage = 10_000

// scanPages calls fn for the records of a table in order of their keys, so many to a View, until fn returns false. What is written meanwhile may be
// seen or not.
func scanPages(ctx context.Context, s Store, t Table, prefix, after string, fn func(key string, value []byte) (more bool, err error)) error {
	for more := true; more; {
		var bad error
		err := s.View(ctx, func(rd Reader) error {
			n := 0
			more = false
			rd.Scan(t, prefix, after, func(key string, value []byte) bool {
				after = key
				if more, bad = fn(key, value); bad != nil {
					bad = fmt.Errorf("%s %s: %w", t, key, bad)
				}
				n++
				return more && bad == nil && n < scanPage
			})
			more = more && n == scanPage
			return bad
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// listPaged decodes up to limit values that keep accepts, in key order. It looks at the whole table if it must, in pages.
func listPaged[T any](ctx context.Context, s Store, t Table, prefix, after string, limit int, keep func(T) bool) ([]T, error) {
	out := []T{}
	err := scanPages(ctx, s, t, prefix, after, func(_ string, raw []byte) (bool, error) {
		var v T
		if err := decode(raw, &v); err != nil {
			return false, err
		}
		if keep(v) {
			out = append(out, v)
		}
		return len(out) < limit, nil
	})
	return out, err
}
