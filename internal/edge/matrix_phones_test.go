package edge_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

const gmail = "Android-Mail/2026.08.17.700000000.release"

// from is a command of another client on the phone.
func (k call) from(agent string) call { k.agent = agent; return k }

// inBase64 is the same command with its query in base64 (MS-ASHTTP, section 2.2.1.1.1.1); id are the bytes of the DeviceId.
func inBase64(user, id string) call {
	raw := "\xa1\x09\x09\x04" + string(rune(len(id))) + id + "\x00\x06iPhone\x08" + string(rune(len(user))) + user
	return call{query: base64.StdEncoding.EncodeToString([]byte(raw)), auth: basic(user), version: "none"}
}

// polls has a phone with the certificate send a command, which has to pass.
func (w *world) polls(c *tls.Certificate, k call) {
	w.t.Helper()
	if got := w.do(w.phone(c, false), k); phoneSees(got) != mail {
		w.t.Fatalf("before: the phone sees %s", phoneSees(got))
	}
	w.sync()
}

// besideSecond has alice's phone read mail, and a copy of its certificate ask for it under a second DeviceId.
func (w *world) besideSecond() tls.Certificate {
	w.t.Helper()
	d := w.addDevice(trust.Owner{Mail: alice, Delegations: []string{"info@contoso.com"}}, "")
	c := w.enrol(d, leaf{}, nil)
	w.polls(&c, command("Sync", alice, aliceEAS))
	if got := w.do(w.phone(&c, false), command("Sync", alice, "SECOND1")); phoneSees(got) != blocked {
		w.t.Fatalf("a second DeviceId: %s", phoneSees(got))
	}
	w.sync()
	return c
}

// phones are situations with more than one phone, client, user or mailbox. None of them is a second, hand-made profile unless it says so.
func phones() []row {
	sync := func(user, id string) call { return command("Sync", user, id) }
	return []row{
		{"iPad beside iPhone", func(w *world) situation {
			_, c := w.managed(alice, "")
			_, pad := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			return situation{&pad, sync(alice, "APPLPAD1").from("Apple-iPad4C5/1206.69")}
		}, mail, "", ""},
		{"iPad beside iPhone: the iPhone", func(w *world) situation {
			_, c := w.managed(alice, "")
			_, pad := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			w.polls(&pad, sync(alice, "APPLPAD1").from("Apple-iPad4C5/1206.69"))
			return situation{&c, sync(alice, aliceEAS)}
		}, mail, "", ""},
		{"one Android certificate for two apps", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.polls(&c, sync(alice, "androidc1294214553").from(gmail))
			return situation{&c, sync(alice, "SEC1234567890ABC").from("SAMSUNG-SM-N900V/101.403")}
		}, mail, "", ""},
		{"the same DeviceId, plain and in base64", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			return situation{&c, inBase64(alice, aliceEAS)}
		}, mail, "", ""},
		{"the DeviceId of a managed profile in base64, without certificate", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			return situation{nil, inBase64(alice, aliceEAS)}
		}, blocked, "duplicate_profile_without_certificate", "second mail account on it, or a copy of its DeviceId"},
		{"two users on one phone, each with his certificate", func(w *world) situation {
			_, c := w.managed(alice, "")
			_, his := w.managed(bob, "")
			w.polls(&c, sync(alice, aliceEAS))
			return situation{&his, sync(bob, aliceEAS)}
		}, mail, "", ""},
		{"two users on one phone: the first again", func(w *world) situation {
			_, c := w.managed(alice, "")
			_, his := w.managed(bob, "")
			w.polls(&c, sync(alice, aliceEAS))
			w.polls(&his, sync(bob, aliceEAS))
			return situation{&c, sync(alice, aliceEAS)}
		}, mail, "", ""},
		{"two users on one phone, one certificate: the other user", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			return situation{&c, sync(bob, aliceEAS)}
		}, blocked, "owner_mismatch", "signs in as"},
		{"a shared device that was handed to another user", func(w *world) situation {
			d, c := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			_, err := w.reg.ReassignDevice(context.Background(), root, d.ID, trust.Owner{Mail: bob})
			must(w.t, err)
			w.sync()
			return situation{&c, sync(alice, aliceEAS)}
		}, blocked, "certificate_revoked", "was revoked on"},
		{"own mailbox and a delegated one on one phone", func(w *world) situation {
			d := w.addDevice(trust.Owner{Mail: alice, Delegations: []string{"info@contoso.com"}}, "")
			c := w.enrol(d, leaf{}, nil)
			w.polls(&c, sync(alice, aliceEAS))
			k := sync("info@contoso.com", aliceEAS)
			k.auth = basic(alice)
			return situation{&c, k}
		}, mail, "", ""},
		{"a delegated mailbox on one phone after a second one was kept out", func(w *world) situation {
			c := w.besideSecond()
			k := sync("info@contoso.com", aliceEAS)
			k.auth = basic(alice)
			return situation{&c, k}
		}, mail, "", ""},
		{"a delegated mailbox on the second phone, which is kept out", func(w *world) situation {
			c := w.besideSecond()
			k := sync("info@contoso.com", "SECOND1")
			k.auth = basic(alice)
			return situation{&c, k}
		}, blocked, "duplicate_profile_second_device_id", "remove the account that the MDM did not install"},
		{"own mailbox and a shared one that nobody delegated", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			k := sync("info@contoso.com", aliceEAS)
			k.auth = basic(alice)
			return situation{&c, k}
		}, blocked, "owner_mismatch", "asked for another mailbox"},
		{"password at first, then a token", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			k := sync(alice, aliceEAS)
			k.auth = bearer(map[string]any{"upn": alice})
			return situation{&c, k}
		}, mail, "", ""},
		{"the same user and model without certificate: the hint", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			return situation{nil, sync(alice, "HANDMADE1")}
		}, blocked, "no_certificate", "duplicate.same_user_model=true"},
		{"the same user on another model without certificate: no hint", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			return situation{nil, sync(alice, "HANDMADE1").from("Apple-iPad4C5/1206.69")}
		}, blocked, "no_certificate", "duplicate.same_user_model=false"},
		{"another user on the same model without certificate: no hint", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			return situation{nil, sync(bob, "HANDMADE1")}
		}, blocked, "no_certificate", "duplicate.same_user_model=false"},
		{"the same user and model long after the managed profile fell silent: no hint", func(w *world) situation {
			_, c := w.managed(alice, "")
			w.polls(&c, sync(alice, aliceEAS))
			w.pass(15 * 24 * time.Hour)
			return situation{nil, sync(alice, "HANDMADE1")}
		}, blocked, "no_certificate", "duplicate.same_user_model=false"},
		{"Outlook for both systems, from Microsoft's cloud", func(w *world) situation {
			w.managed(alice, "")
			return situation{nil, sync(alice, "0123456789abcdef0123456789abcdef").from("Outlook-iOS-Android/1.0")}
		}, blocked, "no_certificate", "client outlook"},
	}
}

// wipes are situations after a wipe, a restore or a renewal: the DeviceId or the certificate has changed, and the phone is the same.
func wipes() []row {
	sync := func(id string) call { return command("Sync", alice, id) }
	return []row{
		{"wiped and enrolled anew: another DeviceId, another certificate", func(w *world) situation {
			d, c := w.managed(alice, "")
			w.polls(&c, sync(aliceEAS))
			w.pass(2 * time.Hour)
			anew := w.enrol(d, leaf{}, nil)
			return situation{&anew, sync("AFTERWIPE")}
		}, mail, "", ""},
		{"wiped and enrolled anew: the day after", func(w *world) situation {
			d, c := w.managed(alice, "")
			w.polls(&c, sync(aliceEAS))
			w.pass(2 * time.Hour)
			anew := w.enrol(d, leaf{}, nil)
			w.polls(&anew, sync("AFTERWIPE"))
			w.pass(24 * time.Hour)
			return situation{&anew, sync("AFTERWIPE")}
		}, mail, "", ""},
		{"wiped, and the MDM has reported the new DeviceId", func(w *world) situation {
			d, c := w.managed(alice, aliceEAS)
			w.polls(&c, sync(aliceEAS))
			id := "AFTERWIPE"
			_, _, err := w.reg.UpdateDevice(context.Background(), root, d.ID, registry.DeviceUpdate{EASDeviceID: &id})
			must(w.t, err)
			w.sync()
			return situation{&c, sync("AFTERWIPE")}
		}, mail, "", ""},
		{"wiped, and the MDM has not reported yet", func(w *world) situation {
			_, c := w.managed(alice, aliceEAS)
			w.polls(&c, sync(aliceEAS))
			return situation{&c, sync("AFTERWIPE")}
		}, blocked, "device_id_mismatch", "postern profile link mp-"},
		{"restored from a backup with its certificate: the help desk forgets the old profile", func(w *world) situation {
			d, c := w.managed(alice, "")
			w.polls(&c, sync(aliceEAS))
			w.do(w.phone(&c, false), sync("RESTORED1"))
			w.sync()
			for _, p := range w.index.ProfilesOfDevice(d.ID) {
				if p.ClientID != "restored1" {
					must(w.t, w.reg.ForgetProfile(context.Background(), root, p.ID))
				}
			}
			w.sync()
			return situation{&c, sync("RESTORED1")}
		}, mail, "", ""},
		{"renewed while the old certificate still polls: the new one", func(w *world) situation {
			d, c := w.managed(alice, "")
			w.polls(&c, sync(aliceEAS))
			newer := w.enrol(d, leaf{}, &c)
			w.polls(&newer, sync(aliceEAS))
			w.polls(&c, sync(aliceEAS))
			return situation{&newer, sync(aliceEAS)}
		}, mail, "", ""},
		{"renewed, the new one not used yet", func(w *world) situation {
			d, c := w.managed(alice, "")
			w.polls(&c, sync(aliceEAS))
			w.enrol(d, leaf{}, &c)
			w.pass(100 * time.Hour)
			return situation{&c, sync(aliceEAS)}
		}, mail, "", ""},
		{"renewed, and a second DeviceId on the new certificate", func(w *world) situation {
			d, c := w.managed(alice, "")
			w.polls(&c, sync(aliceEAS))
			newer := w.enrol(d, leaf{}, &c)
			w.polls(&newer, sync(aliceEAS))
			return situation{&newer, sync("SECOND1")}
		}, blocked, "duplicate_profile_second_device_id", "remove the account that the MDM did not install"},
	}
}

// TestOneProfileForOneAccount: alias, UPN, spelling of the DeviceId and kind of query make no second profile; a second mailbox does.
func TestOneProfileForOneAccount(t *testing.T) {
	w := newWorld(t, options{})
	d := w.addDevice(trust.Owner{Mail: alice, UPN: "asmith@contoso.com", Proxies: []string{"a.smith@contoso.com"}, SAM: `contoso\asmith`, Delegations: []string{"info@contoso.com"}}, "")
	c := w.enrol(d, leaf{}, nil)
	w.polls(&c, command("Sync", alice, aliceEAS))
	w.polls(&c, command("Sync", "asmith@contoso.com", aliceEAS))
	w.polls(&c, command("Sync", "A.Smith@contoso.com", "applf2lx"))
	w.polls(&c, command("Sync", `CONTOSO\asmith`, "4150504c46324c58"))
	w.polls(&c, inBase64(alice, aliceEAS))
	if n := len(w.index.ProfilesOfDevice(d.ID)); n != 1 {
		t.Errorf("%d profiles for one account, want 1", n)
	}
	k := command("Sync", "info@contoso.com", aliceEAS)
	k.auth = basic(alice)
	w.polls(&c, k)
	if n := len(w.index.ProfilesOfDevice(d.ID)); n != 2 {
		t.Errorf("%d profiles for two mailboxes, want 2", n)
	}
}
