package registry

import (
	"context"

	"postern/internal/trust"
)

// listedPage is how many entries EachListed reads in one view: a long one would hold up writers.
const listedPage = 2000

// EachListed calls fn for everything that is or was revoked or held at the CA and was not released, in order of serial numbers, until fn returns false. It reads
// page by page: what changes meanwhile may be seen or not. Use Listed for what CRLs are made from.
func (r *Registry) EachListed(ctx context.Context, issuer, ca string, fn func(trust.Revocation) bool) error {
	prefix := issuer + "/" + ca + "/"
	for after := ""; ; {
		var page []trust.Revocation
		err := r.view(ctx, func(rd Reader) (err error) {
			page, err = list[trust.Revocation](rd, tableStatus, prefix, after, listedPage, nil)
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range page {
			if !fn(e) {
				return nil
			}
		}
		if len(page) < listedPage {
			return nil
		}
		after = prefix + string(page[len(page)-1].Serial)
	}
}
