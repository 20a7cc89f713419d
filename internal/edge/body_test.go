package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestBodiesStayApart: however many commands are under way at once, each gets its own body to the upstream, and its own answer back.
func TestBodiesStayApart(t *testing.T) {
	w := newWorld(t, options{})
	w.answerWith(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rw.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = rw.Write(body)
	})
	var wg sync.WaitGroup
	for i := range 8 {
		user, id := fmt.Sprintf("user%d@contoso.com", i), fmt.Sprintf("PHONE%d", i)
		_, c := w.managed(user, "")
		phone := w.phone(&c, i%2 == 0)
		wg.Go(func() {
			for n := range 40 {
				k := command("FolderSync", user, id)
				k.body = strings.Repeat(fmt.Sprintf("%s %d. ", user, n), 1+n*n)
				if got, err := w.try(t.Context(), phone, k); err != nil || got.status != 200 || got.body != k.body {
					t.Errorf("%s, %d bytes: status %d, %d bytes, %v", user, len(k.body), got.status, len(got.body), err)
				}
			}
		})
	}
	wg.Wait()
}
