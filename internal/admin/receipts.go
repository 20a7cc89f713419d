package admin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
)

// listReceipts lists who fetched which CRL, the newest first.
func (a *Admin) listReceipts(c *gin.Context, _ none) ([]api.Receipt, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		n = registry.DefaultLimit
	}
	if err := oneOf(c, "microsoft", "true", "false"); err != nil {
		return nil, err
	}
	if err := oneOf(c, "kind", string(registry.Base), string(registry.Delta)); err != nil {
		return nil, err
	}
	all, err := a.receipts(c, c.Query("issuer"), func(r api.Receipt, ca string, kind registry.CRLKind) bool {
		return (c.Query("ca") == "" || c.Query("ca") == ca) && (c.Query("kind") == "" || c.Query("kind") == string(kind)) &&
			(c.Query("number") == "" || c.Query("number") == r.Number) && (c.Query("network") == "" || c.Query("network") == r.Network) &&
			(c.Query("microsoft") == "" || (c.Query("microsoft") == "true") == (r.Service != ""))
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(x, y api.Receipt) int { return y.Last.Compare(x.Last) })
	return all[:min(n, len(all))], nil
}

// receipts returns those of every CRL that keep accepts.
func (a *Admin) receipts(c *gin.Context, issuer string, keep func(r api.Receipt, ca string, kind registry.CRLKind) bool) ([]api.Receipt, error) {
	out, known := []api.Receipt{}, false
	for _, ca := range a.cfg.Index.CAs() {
		if issuer != "" && ca.Issuer != issuer {
			continue
		}
		known = true
		for _, kind := range []registry.CRLKind{registry.Base, registry.Delta} {
			all, err := a.cfg.Journal.Receipts(c, objectOf(ca.Issuer, ca.ID, kind), receiptsAtOnce)
			if err != nil {
				return nil, err
			}
			for _, r := range all {
				line := api.Receipt{Object: r.Object, Number: r.Number, Network: r.Network, Service: a.cfg.Networks.Service(r.Network), UserAgent: r.UserAgent,
					First: r.First, Last: r.Last, Count: r.Count}
				if keep(line, ca.ID, kind) {
					out = append(out, line)
				}
			}
		}
	}
	if issuer != "" && !known {
		return nil, fmt.Errorf("issuer %q: %w", strings.ToValidUTF8(issuer, "?"), trust.ErrNotFound)
	}
	return out, nil
}
