package admin

import (
	"context"
	"errors"
	"strconv"
	"time"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
)

// receiptsAtOnce is more than a journal keeps of one object.
const receiptsAtOnce = 100_000

// Networks tells Microsoft's networks from others.
type Networks struct {
	Service func(network string) string // the service of Microsoft that a network belongs to, or ""
	Date    string                      // of the list
	Source  string
}

// objectOf is the path of a CRL below the issuer's URL.
func objectOf(issuer, ca string, kind registry.CRLKind) string {
	if kind == registry.Delta {
		return issuer + "/" + ca + "-delta.crl"
	}
	return issuer + "/" + ca + ".crl"
}

// told is what the world was told of one change of a certificate.
type told struct {
	change    trust.Revocation
	published []registry.Publication
	first     map[registry.CRLKind]registry.Publication // the first that have it
	known     map[uint64]registry.Publication
}

// timeline tells who has learnt when of the last change of a certificate's standing; nil if it never was in a CRL.
func (a *Admin) timeline(ctx context.Context, c trust.Certificate) (*api.Timeline, error) {
	t := told{first: map[registry.CRLKind]registry.Publication{}, known: map[uint64]registry.Publication{}}
	var err error
	if t.change, err = a.cfg.Registry.StatusChange(ctx, c); errors.Is(err, trust.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if t.published, err = a.cfg.Registry.Publications(ctx, c.Issuer, c.CA); err != nil {
		return nil, err
	}
	out := &api.Timeline{Change: t.change.Reason, At: t.change.At, Revision: t.change.Revision, Edges: []api.EdgeApplied{}, Published: []api.Published{},
		Networks: a.cfg.Networks.Date}
	for _, p := range t.published {
		t.known[p.Number] = p
		if _, ok := t.first[p.Kind]; !ok && t.has(p) {
			t.first[p.Kind] = p
			out.Published = append(out.Published, api.Published{Kind: string(p.Kind), Number: p.Number, At: p.At})
		}
	}
	reactions, err := a.cfg.Journal.Reactions(ctx, registry.Revision(t.change.Revision))
	if err != nil {
		return nil, err
	}
	for _, r := range reactions {
		out.Edges = append(out.Edges, api.EdgeApplied{Node: r.Node, At: r.At})
	}
	out.Latest = t.latest()
	return out, a.fetches(ctx, c, &t, out)
}

// has reports whether a CRL tells of the change.
func (t *told) has(p registry.Publication) bool { return uint64(p.Covers) >= t.change.Revision }

// latest returns when the last delta without the change expires, or the last base if there are no deltas; nil if it has no sense to wait for one.
func (t *told) latest() *time.Time {
	until := map[registry.CRLKind]time.Time{}
	deltas := false
	for _, p := range t.published {
		deltas = deltas || p.Kind == registry.Delta
		if !t.has(p) && p.NextUpdate.After(t.change.At) && p.NextUpdate.After(until[p.Kind]) {
			until[p.Kind] = p.NextUpdate
		}
	}
	kind := registry.Base
	if deltas {
		kind = registry.Delta
	}
	return optional(until[kind])
}

// fetches fills in what the receipts say.
func (a *Admin) fetches(ctx context.Context, c trust.Certificate, t *told, out *api.Timeline) error {
	old := map[registry.CRLKind]*api.OldState{}
	deltas := false // whether Microsoft fetches deltas at all
	for _, kind := range []registry.CRLKind{registry.Base, registry.Delta} {
		receipts, err := a.cfg.Journal.Receipts(ctx, objectOf(c.Issuer, c.CA, kind), receiptsAtOnce)
		if err != nil {
			return err
		}
		for _, r := range receipts {
			number, err := strconv.ParseUint(r.Number, 10, 64)
			if err != nil {
				continue
			}
			service := a.cfg.Networks.Service(r.Network)
			deltas = deltas || service != "" && kind == registry.Delta
			f := api.Fetch{Kind: string(kind), Number: number, At: r.First, Network: r.Network, Service: service, UserAgent: r.UserAgent}
			if first, ok := t.first[kind]; ok && number >= first.Number {
				out.Fetched = earlier(out.Fetched, f)
				if service != "" {
					out.Microsoft = earlier(out.Microsoft, f)
				}
				continue
			}
			p, ok := t.known[number]
			if service == "" || !ok || t.has(p) || !p.NextUpdate.After(t.change.At) {
				continue
			}
			if o := old[kind]; o == nil || p.NextUpdate.After(o.Until) {
				f.At = r.Last
				old[kind] = &api.OldState{Fetch: f, Until: p.NextUpdate}
			}
		}
	}
	// Whoever fetches deltas needs a valid one beside the base, so the last delta without the change is what can be believed; an old base does not matter then.
	if out.Old = old[registry.Base]; deltas {
		out.Old = old[registry.Delta]
	}
	return nil
}

func earlier(known *api.Fetch, f api.Fetch) *api.Fetch {
	if known == nil || f.At.Before(known.At) {
		return &f
	}
	return known
}
