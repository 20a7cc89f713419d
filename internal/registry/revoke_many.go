package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"postern/internal/trust"
)

const (
	// MaxRevokeTargets is how many targets one call of RevokeMany takes.
	MaxRevokeTargets = 1000
	// revokeAtOnce is how many certificates are revoked in one commit: enough that flushing costs little, and few enough that others need not wait.
	revokeAtOnce = 250
)

// RevokeTarget names what to revoke, by exactly one of Serial, Device and Owner. Issuer matters where two issuers have the serial number.
type RevokeTarget struct {
	Issuer string
	Serial trust.Serial
	Device trust.DeviceID
	Owner  string
}

// Revoked says what became of one target. Err is why the target itself could not be found or used; its certificates are then untouched.
type Revoked struct {
	Certificates []trust.Serial // revoked by this call, with those that they had superseded; in a dry run, those that would be
	Already      int            // revoked before
	Expired      int            // of a device or owner, passed over: an expired certificate is good for nothing
	Err          error
}

// RevokeMany revokes the certificates of many targets for good, as Revoke does with one, in commits of a few hundred. Repeating it changes nothing. On an
// error, or when ctx ends, what was committed before stays, and the results say what that was. A dry run only looks. What is more than RevocationRules let one
// person revoke becomes a proposal and the error a *ProposedError, unless another person has proposed exactly the same, which is then carried out.
func (r *Registry) RevokeMany(ctx context.Context, p trust.Principal, targets []RevokeTarget, reason trust.ReasonCode, comment string, dry bool) ([]Revoked, Revision, error) {
	reason, err := trust.RevocationReason(string(reason))
	if err != nil {
		return nil, 0, err
	}
	switch {
	case len(targets) > MaxRevokeTargets:
		return nil, 0, fmt.Errorf("%d targets %w: at most %d at once", len(targets), trust.ErrInvalid, MaxRevokeTargets)
	case !plain(comment, maxComment):
		return nil, 0, fmt.Errorf("comment longer than %d bytes or with control characters: %w", maxComment, trust.ErrInvalid)
	}
	out := make([]Revoked, len(targets))
	plans, err := r.plans(ctx, targets, out)
	if err != nil {
		return nil, 0, err
	}
	if dry {
		return out, 0, r.view(ctx, func(rd Reader) error {
			for _, plan := range plans {
				if err := plan.look(rd, &out[plan.target]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	agreed, err := r.agreeToRevoke(ctx, p, plans, out, reason, comment)
	if err != nil {
		return out, 0, err
	}
	for {
		chunk := plans[:min(len(plans), revokeAtOnce)] // none at all asks for the right to do it all the same
		plans = plans[len(chunk):]
		rev, err := r.revokeChunk(ctx, p, chunk, out, reason, comment)
		if err == nil && len(plans) == 0 && agreed != "" {
			_, rev, err = r.proposalDone(ctx, p, agreed)
		}
		if err != nil || len(plans) == 0 {
			return out, rev, err
		}
	}
}

// revokePlan is one certificate to be revoked for a target.
type revokePlan struct {
	target int
	key    string // of the certificate
	alone  bool   // named by its serial number: what it has superseded goes with it
}

// plans finds the certificates of the targets.
func (r *Registry) plans(ctx context.Context, targets []RevokeTarget, out []Revoked) (plans []revokePlan, err error) {
	owners := map[string][]int{}
	err = r.view(ctx, func(rd Reader) error {
		for i, t := range targets {
			found, err := t.find(rd, &out[i], r)
			switch {
			case errors.Is(err, trust.ErrNotFound), errors.Is(err, trust.ErrConflict), errors.Is(err, trust.ErrInvalid):
				out[i].Err = err
			case err != nil:
				return err
			case t.Owner != "":
				mail := strings.ToLower(strings.TrimSpace(t.Owner))
				owners[mail] = append(owners[mail], i)
			}
			for _, c := range found {
				plans = append(plans, revokePlan{target: i, key: certKey(c.Issuer, c.Serial), alone: t.Serial != ""})
			}
		}
		return nil
	})
	if err != nil || len(owners) == 0 {
		return plans, err
	}
	// There is no list of an owner's certificates, so all are looked at, once for all owners.
	err = scanPages(ctx, r.store, tableCertificates, "", "", func(key string, raw []byte) (bool, error) {
		f, c := fields{raw: raw}, CertFact{}
		f.open()
		if f.fact(&c); f.bad {
			return false, errRecord
		}
		for _, i := range owners[c.Owner] {
			switch {
			case targets[i].Issuer != "" && targets[i].Issuer != c.Issuer:
			case c.Status != trust.Revoked && r.now().After(c.NotAfter):
				out[i].Expired++
			default:
				plans = append(plans, revokePlan{target: i, key: key})
			}
		}
		return true, nil
	})
	return plans, err
}

// find returns the certificates of a target that is not an owner; of an owner, it checks that there is one.
func (t RevokeTarget) find(rd Reader, out *Revoked, r *Registry) (found []trust.Certificate, err error) {
	switch {
	case t.Serial != "" && t.Device == "" && t.Owner == "":
		c, err := findCertificate(rd, t.Issuer, t.Serial)
		if err != nil {
			return nil, err
		}
		return []trust.Certificate{c}, nil
	case t.Device != "" && t.Serial == "" && t.Owner == "":
		if _, err := get[trust.Device](rd, tableDevices, string(t.Device)); err != nil {
			return nil, err
		}
		all, err := certificatesOf(rd, t.Device)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			if c.Status != trust.Revoked && r.now().After(c.NotAfter) {
				out.Expired++
				continue
			}
			found = append(found, c)
		}
		return found, nil
	case t.Owner != "" && t.Serial == "" && t.Device == "":
		_, err := get[trust.Owner](rd, tableOwners, strings.ToLower(strings.TrimSpace(t.Owner)))
		return nil, err
	}
	return nil, fmt.Errorf("name a certificate, a device or an owner, and one of them alone: %w", trust.ErrInvalid)
}

// look counts what revoking would do.
func (p revokePlan) look(rd Reader, out *Revoked) error {
	c, err := get[trust.Certificate](rd, tableCertificates, p.key)
	if err != nil {
		return err
	}
	if c.Status == trust.Revoked {
		out.Already++
		return nil
	}
	out.Certificates = append(out.Certificates, c.Serial)
	if !p.alone || c.Status == trust.Superseded {
		return nil
	}
	all, err := certificatesOf(rd, c.Device)
	for _, o := range all {
		if o.Issuer == c.Issuer && o.Status == trust.Superseded {
			out.Certificates = append(out.Certificates, o.Serial)
		}
	}
	return err
}

// revokeChunk revokes in one commit, and adds to the results once that is done.
func (r *Registry) revokeChunk(ctx context.Context, p trust.Principal, chunk []revokePlan, out []Revoked, reason trust.ReasonCode, comment string) (Revision, error) {
	var done []Revoked
	rev, err := r.update(ctx, p, ActRevoke, fmt.Sprintf("%d certificates", len(chunk)), func(t *txn) error {
		done = make([]Revoked, len(chunk)) // the closure may run again
		for i, plan := range chunk {
			if err := plan.look(t, &done[i]); err != nil {
				return err
			}
			for _, s := range done[i].Certificates {
				if err := t.revokeListed(plan, s, reason, comment); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return rev, err
	}
	for i, plan := range chunk {
		o := &out[plan.target]
		o.Certificates, o.Already = append(o.Certificates, done[i].Certificates...), o.Already+done[i].Already
	}
	return rev, nil
}

// revokeListed revokes one certificate of a plan: the one it names, or one that this had superseded.
func (t *txn) revokeListed(plan revokePlan, s trust.Serial, reason trust.ReasonCode, comment string) error {
	issuer, named, _ := strings.Cut(plan.key, "/")
	c, err := get[trust.Certificate](t, tableCertificates, certKey(issuer, s))
	if err != nil {
		return err
	}
	if string(s) != named {
		comment = "superseded by " + named + ", which is revoked"
	}
	return t.revoke(c, trust.Revoked, reason, comment)
}
