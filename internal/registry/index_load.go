package registry

import (
	"context"
	"fmt"
	"runtime"
	"sync"
)

const (
	loadPage    = 2000 // records that are decoded together
	loadWorkers = 4    // at most
)

// rawPage is a part of a table as it is stored.
type rawPage struct {
	keys []string
	raw  []byte // all values
	ends []int  // of each value in raw
}

// loadTable reads every record of a table and calls add for each, in no particular order. One goroutine reads while others decode; read may leave the end of
// a record unread.
func loadTable[T any](ctx context.Context, s Store, table Table, read func(*fields, *T), add func(*T)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pages := make(chan *rawPage, 1)
	go func() {
		defer close(pages)
		if err := readPages(ctx, s, table, pages); err != nil {
			cancel(err)
		}
	}()
	decoded := make(chan []T, 1)
	var workers sync.WaitGroup
	for range min(loadWorkers, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			words := map[string]string{}
			for p := range pages {
				values, err := decodePage(p, table, words, read)
				if err != nil {
					cancel(err)
				}
				select {
				case decoded <- values:
				case <-ctx.Done():
				}
			}
		})
	}
	go func() {
		workers.Wait()
		close(decoded)
	}()
	for values := range decoded {
		for i := range values {
			add(&values[i])
		}
	}
	return context.Cause(ctx)
}

// readPages sends a table page by page.
func readPages(ctx context.Context, s Store, table Table, pages chan<- *rawPage) error {
	p := &rawPage{}
	send := func() error {
		select {
		case pages <- p:
			p = &rawPage{keys: make([]string, 0, loadPage), raw: make([]byte, 0, cap(p.raw)), ends: make([]int, 0, loadPage)}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := scanPages(ctx, s, table, "", "", func(key string, value []byte) (bool, error) {
		p.keys, p.raw = append(p.keys, key), append(p.raw, value...)
		p.ends = append(p.ends, len(p.raw))
		if len(p.keys) == loadPage {
			return true, send()
		}
		return true, nil
	})
	if err != nil || len(p.keys) == 0 {
		return err
	}
	return send()
}

func decodePage[T any](p *rawPage, table Table, words map[string]string, read func(*fields, *T)) ([]T, error) {
	out := make([]T, len(p.keys))
	whole := string(p.raw) // one allocation for all texts of the page
	begin := 0
	for i, end := range p.ends {
		f := fields{raw: p.raw[begin:end], words: words, whole: whole[begin:end]}
		begin = end
		f.open()
		if read(&f, &out[i]); f.bad {
			return nil, fmt.Errorf("decode %s %s: %w", table, p.keys[i], errRecord)
		}
	}
	return out, nil
}
