package policy

import (
	"reflect"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The inputs are built by hand: a round trip through JSON costs several times the decision itself.

// keys are the field names of the contract as terms, made once and shared by all inputs; terms never change.
var keys = keyTerms(map[string]*ast.Term{}, reflect.TypeFor[AccessInput](), reflect.TypeFor[EnrollInput](), reflect.TypeFor[LifecycleInput]())

func keyTerms(m map[string]*ast.Term, types ...reflect.Type) map[string]*ast.Term {
	for _, t := range types {
		for i := range t.NumField() {
			name := t.Field(i).Tag.Get("json")
			m[name] = ast.StringTerm(name)
			switch f := t.Field(i).Type; {
			case f.Kind() == reflect.Struct:
				keyTerms(m, f)
			case f.Kind() == reflect.Slice && f.Elem().Kind() == reflect.Struct:
				keyTerms(m, f.Elem())
			}
		}
	}
	return m
}

type pair = [2]*ast.Term

func object(pairs ...pair) *ast.Term { return ast.NewTerm(ast.NewObject(pairs...)) }

func text(name, s string) pair { return pair{keys[name], textTerm(s)} }

func textTerm(s string) *ast.Term {
	if s == "" {
		return ast.InternedEmptyString
	}
	return ast.StringTerm(s)
}

func number(name string, n int64) pair { return pair{keys[name], numberTerm(n)} }

func numberTerm(n int64) *ast.Term {
	if int64(int(n)) == n && ast.HasInternedIntNumberTerm(int(n)) {
		return ast.InternedTerm(int(n))
	}
	return ast.NewTerm(ast.Number(strconv.FormatInt(n, 10)))
}

func boolean(name string, b bool) pair { return pair{keys[name], ast.InternedTerm(b)} }

func set(name string, m map[string]bool) pair { return pair{keys[name], setTerm(m)} }

func setTerm(m map[string]bool) *ast.Term {
	if len(m) == 0 {
		return ast.InternedEmptyObject
	}
	pairs := make([]pair, 0, len(m))
	for k, in := range m {
		pairs = append(pairs, pair{ast.StringTerm(k), ast.InternedTerm(in)})
	}
	return object(pairs...)
}

func table(name string, m map[string]string) pair { return pair{keys[name], tableTerm(m)} }

func tableTerm(m map[string]string) *ast.Term {
	if len(m) == 0 {
		return ast.InternedEmptyObject
	}
	pairs := make([]pair, 0, len(m))
	for k, value := range m {
		pairs = append(pairs, pair{ast.StringTerm(k), ast.StringTerm(value)})
	}
	return object(pairs...)
}

func array(name string, s []string) pair { return pair{keys[name], arrayTerm(s)} }

func arrayTerm(s []string) *ast.Term {
	if len(s) == 0 {
		return ast.InternedEmptyArray
	}
	terms := make([]*ast.Term, len(s))
	for i, v := range s {
		terms[i] = ast.StringTerm(v)
	}
	return ast.ArrayTerm(terms...)
}

func (in *AccessInput) value() *ast.Term {
	return object(
		number("now", in.Now), pair{keys["request"], in.Request.value()}, pair{keys["claimed"], in.Claimed.value()}, pair{keys["credential"], in.Credential.value()},
		pair{keys["certificate"], in.Certificate.value()}, pair{keys["device"], in.Device.value()}, pair{keys["owner"], in.Owner.value()},
		pair{keys["profile"], in.Profile.value()}, pair{keys["duplicate"], in.Duplicate.value()}, pair{keys["ticket"], in.Ticket.value()}, exceptionTerms(in.Exceptions),
		text("assurance", in.Assurance), number("assurance_until", in.AssuranceUntil),
		pair{keys["snapshot"], object(number("behind", in.Snapshot.Behind))})
}

func (r *RequestFacts) value() *ast.Term {
	return object(text("class", r.Class), text("protocol", r.Protocol), text("tenant", r.Tenant), text("host", r.Host), text("method", r.Method),
		text("command", r.Command), number("version", int64(r.Version)), text("source_ip", r.SourceIP), set("zones", r.Zones))
}

func (c *ClaimedFacts) value() *ast.Term {
	return object(text("device_id", c.DeviceID), text("device_type", c.DeviceType), text("user_agent", c.UserAgent), text("family", c.Family),
		text("platform", c.Platform), text("model", c.Model), text("os", c.OS), number("os_number", c.OSNumber))
}

func (c *CredentialFacts) value() *ast.Term {
	return object(text("kind", c.Kind), text("problem", c.Problem), text("user", c.User), set("names", c.Names), text("oid", c.OID), text("tid", c.TID),
		array("audience", c.Audience), text("app_id", c.AppID), number("expires", c.Expires))
}

func (c *CertFacts) value() *ast.Term {
	return object(boolean("present", c.Present), text("problem", c.Problem), text("status", c.Status), text("issuer", c.Issuer), text("serial", c.Serial),
		text("device", c.Device), text("reason", c.Reason), number("not_after", c.NotAfter), number("changed_at", c.ChangedAt),
		number("successor_first_use", c.SuccessorFirstUse))
}

func (d *DeviceFacts) value() *ast.Term {
	return object(boolean("known", d.Known), text("id", d.ID), text("state", d.State), boolean("managed", d.Managed), text("compliant", d.Compliant),
		number("compliance_since", d.ComplianceSince),
		text("eas_device_id", d.EASDeviceID), text("serial_number", d.SerialNumber), text("model", d.Model), text("os", d.OS),
		text("os_version", d.OSVersion), number("os_number", d.OSNumber), number("bucket", int64(d.Bucket)), number("place", int64(d.Place)), text("source", d.Source), number("silent_for", d.SilentFor), table("labels", d.Labels),
		boolean("suspended", d.Suspended), boolean("revoked", d.Revoked), number("suspended_at", d.SuspendedAt), text("suspend_reason", d.SuspendReason))
}

func (o *OwnerFacts) value() *ast.Term {
	return object(boolean("known", o.Known), text("mail", o.Mail), set("names", o.Names), text("oid", o.OID), text("tid", o.TID),
		set("delegations", o.Delegations), number("devices", int64(o.Devices)), set("groups", o.Groups), boolean("suspended", o.Suspended), number("suspended_at", o.SuspendedAt), text("suspend_reason", o.SuspendReason))
}

func (p *ProfileFacts) value() *ast.Term {
	return object(boolean("known", p.Known), text("id", p.ID), number("first_seen", p.FirstSeen), text("certificate", p.Certificate), boolean("linked", p.Linked), boolean("refused", p.Refused))
}

func (d *DuplicateFacts) value() *ast.Term {
	return object(boolean("device_id_managed", d.DeviceIDManaged), text("managed_device", d.ManagedDevice), text("other_device_id", d.OtherDeviceID),
		number("other_last_seen", d.OtherLastSeen), number("other_first_seen", d.OtherFirstSeen), boolean("other_is_older", d.OtherIsOlder), boolean("same_user_model", d.SameUserModel))
}

func (t *TicketFacts) value() *ast.Term {
	return object(text("status", t.Status), text("id", t.ID), text("device", t.Device))
}

func (in *EnrollInput) value() *ast.Term {
	r := &in.Renews
	return object(
		number("now", in.Now), text("kind", in.Kind), text("issuer", in.Issuer), text("evidence", in.Evidence), boolean("approved", in.Approved),
		pair{keys["key"], object(text("algorithm", in.Key.Algorithm), number("bits", int64(in.Key.Bits)), boolean("attested", in.Key.Attested))},
		pair{keys["requested"], object(array("mails", in.Requested.Mails))},
		pair{keys["device"], in.Device.value()}, pair{keys["owner"], in.Owner.value()}, text("domain", in.Domain), array("domains", in.Domains),
		pair{keys["renews"], object(text("serial", r.Serial), text("status", r.Status), number("not_before", r.NotBefore), number("not_after", r.NotAfter),
			boolean("same_key", r.SameKey))},
		text("source_ip", in.SourceIP), exceptionTerms(in.Exceptions))
}
