package edge_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/trust"
)

// polling is a phone with a Ping that is open.
type polling struct {
	user, easID string
	serial      trust.Serial
	client      *http.Client
	open        <-chan pinged
}

// poll makes phones and has each open a Ping, as many at once as make sense. Every other one speaks HTTP/2.
func (w *world) poll(ctx context.Context, n int) []*polling {
	w.t.Helper()
	all := make([]*polling, n)
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := worker; i < n; i += 16 {
				p := &polling{user: fmt.Sprintf("user%d@contoso.com", i), easID: fmt.Sprintf("PHONE%d", i)}
				_, c := w.managed(p.user, "")
				p.serial, p.client = serialOf(c), w.phone(&c, i%2 == 0)
				p.client.Timeout = 0
				p.ping(ctx, w)
				all[i] = p
			}
		})
	}
	wg.Wait()
	return all
}

func (p *polling) ping(ctx context.Context, w *world) {
	out := make(chan pinged, 1)
	p.open = out
	go func() {
		r, err := w.try(ctx, p.client, command("Ping", p.user, p.easID))
		out <- pinged{reply: r, err: err}
	}()
}

// TestManyPings: of many phones with a Ping open, those that are revoked at once are refused at once, and the others notice nothing. When the upstream is
// restarted, every phone is told to come back, each at another time, and finds its way.
func TestManyPings(t *testing.T) {
	const phones, revoked = 300, 120
	w := newWorld(t, options{})
	var restart atomic.Pointer[chan struct{}]
	first, second := make(chan struct{}), make(chan struct{})
	restart.Store(&first)
	held := make(chan string, 4*phones)
	w.answerWith(func(_ http.ResponseWriter, r *http.Request) {
		held <- r.URL.Query().Get("DeviceId")
		select {
		case <-*restart.Load():
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all := w.poll(ctx, phones)
	for range phones {
		<-held
	}
	var wg sync.WaitGroup
	began := time.Now()
	for worker := range 16 {
		wg.Go(func() {
			for i := worker; i < revoked; i += 16 {
				_, err := w.reg.Revoke(ctx, root, "contoso", all[i].serial, trust.KeyCompromise, "")
				must(t, err)
			}
		})
	}
	wg.Wait()
	said := time.Now()
	for i, p := range all[:revoked] {
		select {
		case got := <-p.open:
			if got.err != nil || phoneSees(got.reply) != blocked {
				t.Errorf("phone %d: %+v", i, got)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("the Ping of phone %d stays open", i)
		}
	}
	t.Logf("%d certificates were revoked in %v, and the last Ping was closed %v later", revoked, said.Sub(began), time.Since(said))
	rest := all[revoked:]
	for _, p := range rest {
		select {
		case got := <-p.open:
			t.Fatalf("the Ping of %s ended too: %+v", p.user, got)
		default:
		}
	}
	close(first)
	returns := map[int]int{} // phones by the second in which they come back
	for _, p := range rest {
		got := <-p.open
		after, err := strconv.Atoi(got.reply.header.Get("Retry-After"))
		if got.err != nil || err != nil || phoneSees(got.reply) != later {
			t.Fatalf("%s: %+v, %v", p.user, got, err)
		}
		returns[int(time.Since(said)/time.Second)+after]++
	}
	most := 0
	for _, n := range returns {
		most = max(most, n)
	}
	if len(returns) < 20 || most > len(rest)/6 {
		t.Errorf("%d phones come back within %d seconds, %d of them in the same one", len(rest), len(returns), most)
	}
	restart.Store(&second)
	for _, p := range rest {
		p.ping(ctx, w)
	}
	for range rest {
		<-held
	}
}

// TestCommandsAtOnce: a phone that has lost count does not hold more than its share, and is in nobody's way.
func TestCommandsAtOnce(t *testing.T) {
	const most = 64
	w := newWorld(t, options{})
	held := make(chan string, 2*most)
	w.answerWith(func(_ http.ResponseWriter, r *http.Request) {
		held <- r.URL.Query().Get("DeviceId")
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all := w.poll(ctx, 2)
	<-held
	<-held
	for range most - 1 {
		go func() { _, _ = w.try(ctx, all[0].client, command("Ping", all[0].user, all[0].easID)) }()
		<-held
	}
	got := w.do(all[0].client, command("Ping", all[0].user, all[0].easID))
	if _, codes := w.reasons(got.reference); phoneSees(got) != later || codes[0] != "too_many_commands" {
		t.Errorf("one more: %s, %q", phoneSees(got), codes)
	}
	go func() { _, _ = w.try(ctx, all[1].client, command("Sync", all[1].user, all[1].easID)) }()
	<-held
}
