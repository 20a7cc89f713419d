package registry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"postern/internal/trust"
)

// CA is one certificate authority of an issuer: its certificate and what it may certify. The key is never here.
type CA struct {
	Issuer       string   `json:"issuer"`
	ID           string   `json:"id"` // "root" or "issuing"
	Organization string   `json:"organization"`
	Domains      []string `json:"domains"` // the only mail domains that the issuer may certify
	URL          string   `json:"url"`     // where the world finds the public listener
	DER          []byte   `json:"der"`
}

// PutCA makes a CA known, or its domains and URL what the configuration says now. Another certificate under a known id is a conflict.
func (r *Registry) PutCA(ctx context.Context, p trust.Principal, ca CA) error {
	key := ca.Issuer + "/" + ca.ID
	_, err := r.update(ctx, p, ActCAPut, key, func(t *txn) error {
		old, err := get[CA](t, tableCAs, key)
		switch {
		case err == nil && string(old.DER) != string(ca.DER):
			return fmt.Errorf("another certificate is registered for this CA: restore its key, or give the new CA another issuer id: %w", trust.ErrConflict)
		case err == nil && string(snapshot(old)) == string(snapshot(ca)):
			return nil
		case err != nil && !errors.Is(err, trust.ErrNotFound):
			return err
		}
		t.Touch(KindCA, key)
		if err := put(t, tableCAs, key, ca); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: ActCAPut, Object: key, Detail: strings.Join(ca.Domains, ",")})
	})
	return err
}

// CAs lists every CA of every issuer, or of one.
func (r *Registry) CAs(ctx context.Context, issuer string) (out []CA, err error) {
	prefix := ""
	if issuer != "" {
		prefix = issuer + "/"
	}
	err = r.view(ctx, func(rd Reader) error {
		out, err = list[CA](rd, tableCAs, prefix, "", MaxLimit, nil)
		return err
	})
	return out, err
}

// CRLKind is base or delta.
type CRLKind string

// The kinds of CRLs.
const (
	Base  CRLKind = "base"
	Delta CRLKind = "delta"
)

// CRL is the record of a signed CRL. Its bytes are a file beside the store, named by the hash.
type CRL struct {
	Issuer      string    `json:"issuer"`
	CA          string    `json:"ca"`
	Kind        CRLKind   `json:"kind"`
	Number      uint64    `json:"number"`
	BaseNumber  uint64    `json:"base_number,omitempty"` // of a delta: BaseCRLNumber
	ThisUpdate  time.Time `json:"this_update"`
	NextUpdate  time.Time `json:"next_update"`
	NextPublish time.Time `json:"next_publish"`
	Hash        string    `json:"hash"` // SHA-256 of the DER, lower-case hex
	Size        int       `json:"size"`
	Entries     int       `json:"entries"`
	Covers      Revision  `json:"covers"` // every change up to this revision is in it

	// KeepUntil is later than NextUpdate for a base that deltas go on referring to, because bases of after it may be cached of which the registry knows nothing.
	KeepUntil time.Time `json:"keep_until,omitzero"`
}

// Usable reports whether a relying party may have the base at now, or one for which it stands.
func (c CRL) Usable(now time.Time) bool { return !now.After(c.NextUpdate) || !now.After(c.KeepUntil) }

// KeepBases has deltas go on referring to the bases that are known now until a time, though they may have expired: after a restore from a backup, bases that were
// published since are cached, and the registry knows nothing of them.
func (r *Registry) KeepBases(ctx context.Context, p trust.Principal, issuer, ca string, until time.Time) error {
	object := issuer + "/" + ca
	_, err := r.update(ctx, p, ActCRLRestore, object, func(t *txn) error {
		known, err := list[CRL](t, tableCRLs, object+"/", "", math.MaxInt, nil)
		if err != nil {
			return err
		}
		for _, c := range known {
			if c.Kind != Base || !c.KeepUntil.Before(until) {
				continue
			}
			c.KeepUntil = until.UTC()
			if err := put(t, tableCRLs, crlKey(c), c); err != nil {
				return err
			}
			t.Touch(KindCRL, object)
		}
		return nil
	})
	return err
}

func crlKey(c CRL) string { return c.Issuer + "/" + c.CA + "/" + seqKey(c.Number) }

// CommitCRLs makes signed CRLs of one CA the published ones. after is the greatest number that the publisher knew when it signed: if another one
// was committed meanwhile the result is trust.ErrConflict and nothing changes, so numbers only rise. Records of CRLs that are out of date are removed, except
// the newest of each kind.
func (r *Registry) CommitCRLs(ctx context.Context, p trust.Principal, after uint64, crls ...CRL) error {
	if len(crls) == 0 {
		return nil
	}
	object := crls[0].Issuer + "/" + crls[0].CA
	var firsts []time.Time // of the changes that are news
	_, err := r.update(ctx, p, ActCRLCommit, object, func(t *txn) error {
		firsts = nil
		known, err := list[CRL](t, tableCRLs, object+"/", "", math.MaxInt, nil)
		if err != nil {
			return err
		}
		number := greatest(known)
		if number != after {
			return fmt.Errorf("CRL number %d was published meanwhile: %w", number, trust.ErrConflict)
		}
		for _, c := range crls {
			if c.Number <= number || c.Issuer+"/"+c.CA != object {
				return fmt.Errorf("CRL number %d does not rise above %d: %w", c.Number, number, trust.ErrConflict)
			}
			number = c.Number
			if err := put(t, tableCRLs, crlKey(c), c); err != nil {
				return err
			}
			first, err := t.published(c, known)
			if err != nil {
				return err
			}
			firsts = append(firsts, first)
			if err := t.audit(AuditEntry{Action: ActCRLCommit, Object: object, Detail: string(c.Kind) + " CRL", After: snapshot(c)}); err != nil {
				return err
			}
		}
		t.Touch(KindCRL, object)
		t.dropOldCRLs(append(known, crls...))
		return nil
	})
	if err != nil {
		return err
	}
	for _, first := range firsts {
		if !first.IsZero() {
			r.publishTimes.Observe(r.now().Sub(first))
			break
		}
	}
	return nil
}

// dropOldCRLs removes records that nobody can still hold as valid, except the newest of each kind.
func (t *txn) dropOldCRLs(all []CRL) {
	newest := map[CRLKind]uint64{}
	for _, c := range all {
		newest[c.Kind] = max(newest[c.Kind], c.Number)
	}
	for _, c := range all {
		if c.Number != newest[c.Kind] && (c.Kind == Delta || !c.Usable(t.now)) {
			t.Delete(tableCRLs, crlKey(c))
		}
	}
}

func greatest(crls []CRL) (n uint64) {
	for _, c := range crls {
		n = max(n, c.Number)
	}
	return n
}

// CRLs lists the records of a CA in order of their numbers: every base that has not expired, and the newest base and delta.
func (r *Registry) CRLs(ctx context.Context, issuer, ca string) (out []CRL, err error) {
	err = r.view(ctx, func(rd Reader) error {
		out, err = list[CRL](rd, tableCRLs, issuer+"/"+ca+"/", "", math.MaxInt, nil)
		return err
	})
	return out, err
}

// PublishRequest asks the publisher for new CRLs of an issuer now.
type PublishRequest struct {
	Issuer string          `json:"issuer"`
	Base   bool            `json:"base"` // a complete CRL too, not only a delta
	By     trust.Principal `json:"by"`
	At     time.Time       `json:"at"`
}

// RequestPublish stores a request that the publisher sees; it is done once the CRL records cover the revision returned. A base asked for
// before and not done yet is still asked for.
func (r *Registry) RequestPublish(ctx context.Context, p trust.Principal, issuer string, base bool) (Revision, error) {
	return r.update(ctx, p, ActPublish, issuer, func(t *txn) error {
		if cas, err := list[CA](t, tableCAs, issuer+"/", "", 1, nil); err != nil || len(cas) == 0 {
			return errors.Join(err, fmt.Errorf("issuer %q: %w", issuer, trust.ErrNotFound))
		}
		pending, err := get[PublishRequest](t, tableRequests, "publish/"+issuer)
		if err != nil && !errors.Is(err, trust.ErrNotFound) {
			return err
		}
		t.Touch(KindRequest, "publish/"+issuer)
		if err := put(t, tableRequests, "publish/"+issuer, PublishRequest{issuer, base || pending.Base, t.p, t.now.UTC()}); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: ActPublish, Object: issuer})
	})
}

// PublishDone removes a request that has been carried out; one that was made anew meanwhile stays.
func (r *Registry) PublishDone(ctx context.Context, p trust.Principal, done PublishRequest) error {
	_, err := r.update(ctx, p, ActCRLCommit, done.Issuer, func(t *txn) error {
		now, err := get[PublishRequest](t, tableRequests, "publish/"+done.Issuer)
		if err == nil && now.At.Equal(done.At) && now.Base == done.Base {
			t.Delete(tableRequests, "publish/"+done.Issuer)
		}
		return nil
	})
	return err
}

// PublishRequests lists the requests that are not done.
func (r *Registry) PublishRequests(ctx context.Context) (out []PublishRequest, err error) {
	err = r.view(ctx, func(rd Reader) error {
		out, err = list[PublishRequest](rd, tableRequests, "publish/", "", MaxLimit, nil)
		return err
	})
	return out, err
}
