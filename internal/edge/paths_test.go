package edge_test

import (
	"testing"

	"postern/internal/trust"
)

// TestPathsOfEAS: what IIS serves as one endpoint is decided as one, and goes on as the phone wrote it.
func TestPathsOfEAS(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	_, revoked := w.managed(bob, "")
	_, err := w.reg.Revoke(t.Context(), root, "contoso", serialOf(revoked), trust.KeyCompromise, "")
	must(t, err)
	w.sync()
	for _, path := range []string{pathOfEAS, pathOfEAS + "/", pathOfEAS + "/default.eas", "/microsoft-server-activesync/DEFAULT.EAS"} {
		for _, h2 := range []bool{false, true} {
			k := command("FolderSync", alice, aliceEAS)
			k.path = path
			for range 2 { // decided, and known
				if got := w.do(w.phone(&c, h2), k); phoneSees(got) != mail {
					t.Errorf("%s: %s", path, phoneSees(got))
				}
			}
			for _, s := range w.takeSeen() {
				if s.uri != path+"?"+k.query {
					t.Errorf("%s: upstream got %s", path, s.uri)
				}
			}
			for _, refused := range []reply{w.do(w.phone(&revoked, h2), func() call { k := command("FolderSync", bob, "BOBSPHONE"); k.path = path; return k }()), w.do(w.phone(nil, h2), k)} {
				if phoneSees(refused) != blocked {
					t.Errorf("%s, with a revoked certificate or none: %s", path, phoneSees(refused))
				}
			}
			if n := w.countSeen(); n != 0 {
				t.Errorf("%s: the upstream got %d requests of phones that are refused", path, n)
			}
			if got := w.do(w.phone(nil, h2), call{method: "GET", path: path, auth: "Bearer"}); phoneSees(got) != signIn {
				t.Errorf("%s: asking how to sign in: %s", path, phoneSees(got))
			}
			w.takeSeen()
		}
	}
}

const pathOfEAS = "/Microsoft-Server-ActiveSync"
