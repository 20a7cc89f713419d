package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

// TestEdgeReady: what a load balancer before several edges is told. Problems of the CA are not among it.
func TestEdgeReady(t *testing.T) {
	gin.SetMode(gin.TestMode)
	trouble := ""
	for name, tt := range map[string]struct {
		edge   func() string
		why    string
		status int
	}{
		"no edge": {nil, "", http.StatusNotFound},
		"decides": {func() string { return trouble }, "", http.StatusOK},
		"stale":   {func() string { return trouble }, "the registry has not answered", http.StatusServiceUnavailable},
	} {
		trouble = tt.why
		a := &Admin{cfg: Config{EdgeTrouble: tt.edge, Problems: func() []string { return []string{"a CRL is late"} }}}
		e := gin.New()
		e.GET("/readyz/edge", a.edgeReady)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz/edge", nil))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.why) || strings.Contains(w.Body.String(), "CRL") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
