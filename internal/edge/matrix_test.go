package edge_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/trust"
)

// The answers that a phone can get.
const (
	mail     = "mail"       // 200 and what the upstream said
	blocked  = "status 129" // 200 and the command's own Status
	http403  = "http 403"   // for protocols and commands without Status
	later    = "http 503"
	signIn   = "http 401"
	theirs   = "ZWEITE01"
	aliceEAS = "APPLF2LX"
)

// situation is what a test sets up: a phone's certificate or none, and what it sends.
type situation struct {
	cert *tls.Certificate
	call call
}

// row is a row of the decision matrix: what was set up, what the phone sees, and the reason that the help desk finds under the phone's reference.
type row struct {
	name   string
	setup  func(*world) situation
	phone  string
	reason string // empty: none is looked for
	desk   string // part of what the help desk reads there: the sentence, the remedy, or a fact as name=value
}

// users are situations about the names of the owner.
func users() []row {
	return []row{
		{"managed phone", func(w *world) situation {
			_, c := w.managed(alice, "")
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, mail, "", ""},
		{"managed phone, DeviceId as the MDM reports it, in another case", func(w *world) situation {
			_, c := w.managed(alice, strings.ToLower(aliceEAS))
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, mail, "", ""},
		{"managed phone, another DeviceId than the MDM reports", func(w *world) situation {
			_, c := w.managed(alice, "APPLOTHER")
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "device_id_mismatch", "the MDM reports"},
		{"UPN instead of address", func(w *world) situation {
			d := w.addDevice(trust.Owner{Mail: alice, UPN: "alice.smith@contoso.com"}, "")
			c := w.enrol(d, leaf{}, nil)
			return situation{&c, command("FolderSync", "Alice.Smith@contoso.com", aliceEAS)}
		}, mail, "", ""},
		{"domain and account name, bare User parameter", func(w *world) situation {
			d := w.addDevice(trust.Owner{Mail: alice, SAM: `contoso\asmith`}, "")
			c := w.enrol(d, leaf{}, nil)
			k := command("FolderSync", "asmith", aliceEAS)
			k.auth = basic(`CONTOSO\asmith`)
			return situation{&c, k}
		}, mail, "", ""},
		{"shared mailbox that was delegated", func(w *world) situation {
			d := w.addDevice(trust.Owner{Mail: alice, Delegations: []string{"info@contoso.com"}}, "")
			c := w.enrol(d, leaf{}, nil)
			k := command("FolderSync", "info@contoso.com", aliceEAS)
			k.auth = bearer(map[string]any{"upn": alice})
			return situation{&c, k}
		}, mail, "", ""},
	}
}

// credentials are situations about credentials that are not plainly the owner's.
func credentials() []row {
	return []row{
		{"another user by password", func(w *world) situation {
			_, c := w.managed(alice, "")
			return situation{&c, command("FolderSync", bob, aliceEAS)}
		}, blocked, "owner_mismatch", "belongs to alice@contoso.com"},
		{"another user by token", func(w *world) situation {
			_, c := w.managed(alice, "")
			k := command("FolderSync", alice, aliceEAS)
			k.auth = bearer(map[string]any{"upn": bob})
			return situation{&c, k}
		}, blocked, "owner_mismatch", "belongs to alice@contoso.com"},
		{"User parameter of another", func(w *world) situation {
			_, c := w.managed(alice, "")
			k := command("FolderSync", bob, aliceEAS)
			k.auth = basic(alice)
			return situation{&c, k}
		}, blocked, "owner_mismatch", "asked for another mailbox"},
		{"token of the owner", func(w *world) situation {
			_, c := w.managed(alice, "")
			k := command("FolderSync", alice, aliceEAS)
			k.auth = bearer(map[string]any{"upn": alice, "oid": "o-1", "aud": "https://outlook.office365.com/"})
			return situation{&c, k}
		}, mail, "", ""},
		{"token that names nobody", func(w *world) situation {
			_, c := w.managed(alice, "")
			k := command("FolderSync", alice, aliceEAS)
			k.auth = "Bearer EwBAAul3BAAU"
			return situation{&c, k}
		}, blocked, "unreadable_credentials", "cannot be read"},
		{"token that names the owner's object alone", func(w *world) situation {
			d := w.addDevice(trust.Owner{Mail: alice, OID: "o-1"}, "")
			c := w.enrol(d, leaf{}, nil)
			k := command("FolderSync", alice, aliceEAS)
			k.auth = bearer(map[string]any{"oid": "O-1"})
			return situation{&c, k}
		}, mail, "", ""},
		{"token of an application", func(w *world) situation {
			_, c := w.managed(alice, "")
			k := command("FolderSync", alice, aliceEAS)
			k.auth = bearer(map[string]any{"upn": alice, "idtyp": "app"})
			return situation{&c, k}
		}, blocked, "app_only_credential", "belongs to a program"},
		{"NTLM", func(w *world) situation {
			_, c := w.managed(alice, "")
			k := command("FolderSync", alice, aliceEAS)
			k.auth = "NTLM TlRMTVNTUAAB"
			return situation{&c, k}
		}, blocked, "unreadable_credentials", "cannot be read"},
	}
}

// strangers are situations without a certificate.
func strangers() []row {
	return []row{
		{"no certificate, unknown DeviceId", func(w *world) situation {
			return situation{nil, command("FolderSync", alice, aliceEAS)}
		}, blocked, "unmanaged_device", "No registered device has the DeviceId"},
		{"no certificate, protocol 12.1", func(w *world) situation {
			k := command("FolderSync", alice, aliceEAS)
			k.version = "12.1"
			return situation{nil, k}
		}, http403, "unmanaged_device", "No registered device has the DeviceId"},
		{"no certificate, a command without WBXML", func(w *world) situation {
			return situation{nil, command("GetAttachment", alice, aliceEAS)}
		}, http403, "no_certificate", "showed no client certificate"},
		{"no certificate, the DeviceId of a managed phone by its MDM", func(w *world) situation {
			w.managed(alice, aliceEAS)
			return situation{nil, command("FolderSync", alice, strings.ToLower(aliceEAS))}
		}, blocked, "duplicate_profile_without_certificate", "Remove the hand-made mail account from the phone"},
		{"no certificate, the DeviceId of a managed mail profile", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.do(w.phone(&c, false), command("FolderSync", alice, aliceEAS))
			return situation{nil, command("FolderSync", alice, aliceEAS)}
		}, blocked, "duplicate_profile_without_certificate", "Remove the hand-made mail account from the phone"},
		{"no certificate, the DeviceId of a managed mail profile in hexadecimal", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.do(w.phone(&c, false), command("FolderSync", alice, aliceEAS))
			return situation{nil, command("FolderSync", alice, strings.ToUpper(hex.EncodeToString([]byte(aliceEAS))))}
		}, blocked, "duplicate_profile_without_certificate", "Remove the hand-made mail account from the phone"},
	}
}

// devices are situations about which DeviceId comes with which certificate.
func devices() []row {
	return []row{
		{"second DeviceId of the same client on one certificate", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.do(w.phone(&c, false), command("FolderSync", alice, aliceEAS))
			return situation{&c, command("FolderSync", alice, theirs)}
		}, blocked, "duplicate_profile_second_device_id", "from a client of the same family (apple_mail)"},
		{"second DeviceId, the first again", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.do(w.phone(&c, false), command("FolderSync", alice, aliceEAS))
			w.do(w.phone(&c, false), command("FolderSync", alice, theirs))
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, mail, "", ""},
		{"second DeviceId, the one that the MDM reports", func(w *world) situation {
			_, c := w.managed(alice, theirs)
			w.do(w.phone(&c, false), command("FolderSync", alice, aliceEAS))
			k := command("FolderSync", alice, theirs)
			k.agent = "SAMSUNG-SM-N900V/101.40302"
			return situation{&c, k}
		}, mail, "", ""},
		{"second DeviceId after the first fell silent, as after a wipe", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.do(w.phone(&c, false), command("FolderSync", alice, aliceEAS))
			w.pass(15 * 24 * time.Hour)
			return situation{&c, command("FolderSync", alice, theirs)}
		}, mail, "", ""},
		{"two mailboxes of one owner on one phone", func(w *world) situation {
			d := w.addDevice(trust.Owner{Mail: alice, Proxies: []string{"a.smith@contoso.com"}}, "")
			c := w.enrol(d, leaf{}, nil)
			w.do(w.phone(&c, false), command("FolderSync", alice, aliceEAS))
			return situation{&c, command("FolderSync", "a.smith@contoso.com", aliceEAS)}
		}, mail, "", ""},
		{"the DeviceId of one phone copied by another managed one: the owner", func(w *world) situation {
			_, c := w.managed(alice, aliceEAS)
			_, thief := w.managed(bob, "")
			w.do(w.phone(&thief, false), command("FolderSync", bob, aliceEAS))
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, mail, "", ""},
		{"the DeviceId of one phone copied by another managed one: the copy", func(w *world) situation {
			_, c := w.managed(alice, aliceEAS)
			w.do(w.phone(&c, false), command("FolderSync", alice, aliceEAS))
			_, thief := w.managed(bob, "BOBSPHONE")
			return situation{&thief, command("FolderSync", bob, aliceEAS)}
		}, blocked, "device_id_mismatch", "the MDM reports"},
	}
}

// standings are situations about what has become of a certificate or its device.
func standings() []row {
	return []row{
		{"revoked", func(w *world) situation {
			_, c := w.managed(alice, "")
			_, err := w.reg.Revoke(context.Background(), root, "contoso", serialOf(c), trust.KeyCompromise, "")
			must(w.t, err)
			w.sync()
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "certificate_revoked", "was revoked on"},
		{"held", func(w *world) situation {
			_, c := w.managed(alice, "")
			_, err := w.reg.Hold(context.Background(), root, "contoso", serialOf(c), "")
			must(w.t, err)
			w.sync()
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "certificate_held", "on hold since"},
		{"released", func(w *world) situation {
			_, c := w.managed(alice, "")
			_, err := w.reg.Hold(context.Background(), root, "contoso", serialOf(c), "")
			must(w.t, err)
			_, err = w.reg.Release(context.Background(), root, "contoso", serialOf(c), "")
			must(w.t, err)
			w.sync()
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, mail, "", ""},
		{"blocked device", func(w *world) situation {
			d, c := w.managed(alice, "")
			_, err := w.reg.SetDeviceState(context.Background(), root, d.ID, trust.Blocked, "")
			must(w.t, err)
			w.sync()
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "device_blocked", "was blocked by an administrator"},
		{"suspended device", func(w *world) situation {
			d, c := w.managed(alice, "")
			_, err := w.reg.SuspendDevice(context.Background(), root, d.ID, trust.SuspendLost, "")
			must(w.t, err)
			w.sync()
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "device_suspended", "has been suspended since"},
		{"reinstated device and owner", func(w *world) situation {
			d, c := w.managed(alice, "")
			_, err := w.reg.SuspendDevice(context.Background(), root, d.ID, trust.SuspendLost, "")
			must(w.t, err)
			_, err = w.reg.SuspendOwner(context.Background(), root, alice, trust.SuspendUnassigned, "")
			must(w.t, err)
			w.sync()
			_, err = w.reg.ReinstateDevice(context.Background(), root, d.ID, "")
			must(w.t, err)
			_, err = w.reg.ReinstateOwner(context.Background(), root, alice, "")
			must(w.t, err)
			w.sync()
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, mail, "", ""},
		{"device of a suspended owner", func(w *world) situation {
			_, c := w.managed(alice, "")
			_, err := w.reg.SuspendOwner(context.Background(), root, alice, trust.SuspendUnassigned, "")
			must(w.t, err)
			w.sync()
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "owner_suspended", "has been suspended since"},
		{"retired device", func(w *world) situation {
			d, c := w.managed(alice, "")
			_, err := w.reg.RetireDevice(context.Background(), root, d.ID, "")
			must(w.t, err)
			w.sync()
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "device_retired", "was retired"},
	}
}

// renewals are situations about time.
func renewals() []row {
	return []row{
		{"superseded, in the grace", func(w *world) situation {
			d, c := w.managed(alice, "")
			newer := w.enrol(d, leaf{}, &c)
			w.do(w.phone(&newer, false), command("FolderSync", alice, aliceEAS))
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, mail, "", ""},
		{"superseded, after the grace", func(w *world) situation {
			d, c := w.managed(alice, "")
			newer := w.enrol(d, leaf{}, &c)
			w.do(w.phone(&newer, false), command("FolderSync", alice, aliceEAS))
			w.eventually(func() bool {
				known, _ := w.index.Certificate("contoso", serialOf(newer))
				return !known.FirstUsed.IsZero()
			})
			w.pass(73 * time.Hour)
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "certificate_superseded", "install the profile again"},
		{"expired", func(w *world) situation {
			d := w.addDevice(trust.Owner{Mail: alice}, "")
			c := w.enrol(d, leaf{notAfter: time.Now().Add(-time.Minute)}, nil)
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "certificate_expired", "expired on"},
		{"not yet valid", func(w *world) situation {
			d := w.addDevice(trust.Owner{Mail: alice}, "")
			c := w.enrol(d, leaf{notBefore: time.Now().Add(time.Hour)}, nil)
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "certificate_not_trusted", "is not accepted"},
		{"for another use", func(w *world) situation {
			d := w.addDevice(trust.Owner{Mail: alice}, "")
			c := w.enrol(d, leaf{usage: x509.ExtKeyUsageServerAuth}, nil)
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "certificate_not_trusted", "is not accepted"},
	}
}

// forgeries are certificates that were never issued, and clients that nobody knows.
func forgeries() []row {
	return []row{
		{"of our CA, and not in the registry", func(w *world) situation {
			c := w.ca.issue(w.t, alice, leaf{})
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "certificate_not_trusted", "is not accepted"},
		{"of a stranger with the name of our CA", func(w *world) situation {
			c := newAuthority(w.t, "Contoso Issuing CA").issue(w.t, alice, leaf{})
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "certificate_not_trusted", "is not accepted"},
		{"of a stranger, expired", func(w *world) situation {
			c := newAuthority(w.t, "Other").issue(w.t, alice, leaf{notAfter: time.Now().Add(-time.Minute)})
			return situation{&c, command("FolderSync", alice, aliceEAS)}
		}, blocked, "certificate_not_trusted", "is not accepted"},
		{"unknown client", func(w *world) situation {
			_, c := w.managed(alice, "")
			k := command("FolderSync", alice, aliceEAS)
			k.agent, k.query = "Something/1.0", strings.Replace(k.query, "iPhone", "Thing", 1)
			return situation{&c, k}
		}, mail, "", ""},
		{"profile that an administrator linked, without certificate", func(w *world) situation {
			d, c := w.managed(alice, "")
			w.do(w.phone(&c, false), command("FolderSync", alice, aliceEAS))
			p := w.index.ProfilesOfDevice(d.ID)
			_, err := w.reg.LinkProfile(context.Background(), root, p[0].ID, d.ID)
			must(w.t, err)
			w.sync()
			return situation{nil, command("FolderSync", alice, aliceEAS)}
		}, blocked, "duplicate_profile_without_certificate", "Remove the hand-made mail account from the phone"},
	}
}

// TestMatrix is the decision matrix.
func TestMatrix(t *testing.T) {
	for _, tt := range slices.Concat(users(), credentials(), strangers(), devices(), phones(), wipes(), standings(), renewals(), forgeries()) {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, options{})
			s := tt.setup(w)
			w.takeSeen()
			got := w.do(w.phone(s.cert, false), s.call)
			if seen := phoneSees(got); seen != tt.phone {
				t.Errorf("the phone sees %q, want %q", seen, tt.phone)
			}
			if n := len(w.takeSeen()); (n > 0) != (tt.phone == mail) {
				t.Errorf("the upstream got %d requests", n)
			}
			if tt.reason == "" {
				return
			}
			d, codes := w.reasons(got.reference)
			if said := deskReads(d, tt.reason); !strings.Contains(said, tt.desk) {
				t.Errorf("the help desk reads %q, want %q", said, tt.desk)
			}
			if !slices.Contains(codes, tt.reason) {
				t.Errorf("reasons %q, want %q; input %s", codes, tt.reason, d.Input)
			}
			if strings.Contains(string(d.Input), "S3cret") || len(d.Input) == 0 {
				t.Errorf("input in the journal: %s", d.Input)
			}
		})
	}
}

// deskReads is what `postern decision show` says of a reason.
func deskReads(d trust.Decision, code string) string {
	var out strings.Builder
	for _, r := range d.Reasons {
		if r.Code != code {
			continue
		}
		out.WriteString(r.Text + " " + r.Remedy)
		for name, value := range r.Facts {
			out.WriteString(" " + name + "=" + value)
		}
	}
	return out.String()
}
