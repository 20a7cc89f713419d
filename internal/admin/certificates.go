package admin

import (
	"encoding/pem"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
)

func (a *Admin) certificateRoutes(g *gin.RouterGroup) {
	g.GET("/certificates", handle(a.listCertificates))
	g.GET("/certificates/:serial", handle(a.showCertificate))
	g.POST("/certificates/:serial/revoke", handle(a.revoke))
	g.POST("/certificates/:serial/hold", handle(a.hold))
	g.POST("/certificates/:serial/release", handle(a.release))
	g.POST("/revocations", handle(a.revokeMany))
	g.GET("/revocations/proposals", handle(a.listProposals))
	g.GET("/revocations/proposals/:id", handle(a.showProposal))
	g.POST("/revocations/proposals/:id/approve", handle(a.approveRevocation))
	g.POST("/revocations/proposals/:id/withdraw", handle(a.withdrawRevocation))
	g.GET("/crls", handle(a.listCRLs))
	g.GET("/receipts", handle(a.listReceipts))
	g.POST("/crls/publish", handle(a.publish))
	g.GET("/crls/forecast", handle(func(c *gin.Context, _ none) ([]api.Forecast, error) { return a.cfg.Forecast(c) }))
}

// certificate renders one certificate. Expired is said here, because it follows from the clock alone.
func (a *Admin) certificate(c trust.Certificate) api.Certificate {
	out := api.Certificate{Issuer: c.Issuer, CA: c.CA, Serial: c.Serial, Device: c.Device, Owner: c.Owner, Subject: c.Subject, Status: string(c.Status),
		Reason: c.Reason, Comment: c.Comment, NotBefore: c.NotBefore, NotAfter: c.NotAfter, ChangedAt: c.ChangedAt, Predecessor: c.Predecessor,
		Successor: c.Successor, SKI: c.SKI, Fingerprint: c.Fingerprint}
	if c.Status != trust.Revoked && a.cfg.Now().After(c.NotAfter) {
		out.Status = "expired"
	}
	return out
}

func (a *Admin) certificates(all []trust.Certificate) []api.Certificate {
	out := make([]api.Certificate, len(all))
	for i, c := range all {
		out[i] = a.certificate(c)
	}
	return out
}

func (a *Admin) listCertificates(c *gin.Context, _ none) ([]api.Certificate, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	if err := oneOf(c, "status", string(trust.Good), string(trust.Held), string(trust.Superseded), string(trust.Revoked)); err != nil {
		return nil, err
	}
	all, err := a.cfg.Registry.Certificates(c, registry.CertificateFilter{Issuer: c.Query("issuer"), Owner: c.Query("owner"),
		Device: trust.DeviceID(c.Query("device")), Status: trust.CertStatus(c.Query("status")), After: c.Query("after"), Limit: n})
	return a.certificates(all), err
}

func (a *Admin) showCertificate(c *gin.Context, _ none) (out api.CertificateDetail, err error) {
	serial, err := trust.ParseSerial(c.Param("serial"))
	if err != nil {
		return out, err
	}
	if out, err = a.detail(c, c.Query("issuer"), serial); err != nil {
		return out, err
	}
	cert, err := a.cfg.Registry.Certificate(c, out.Issuer, serial)
	if err != nil {
		return out, err
	}
	out.Timeline, err = a.timeline(c, cert)
	return out, err
}

func (a *Admin) detail(c *gin.Context, issuer string, serial trust.Serial) (out api.CertificateDetail, err error) {
	cert, err := a.cfg.Registry.Certificate(c, issuer, serial)
	if err != nil {
		return out, err
	}
	return api.CertificateDetail{Certificate: a.certificate(cert), Evidence: cert.Evidence, FirstUsed: optional(cert.FirstUsed),
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.DER}))}, nil
}

// change runs one change of a certificate's status and answers with what it is then.
func (a *Admin) change(c *gin.Context, issuer string, fn func(trust.Serial) (registry.Revision, error)) (out api.CertificateDetail, err error) {
	serial, err := trust.ParseSerial(c.Param("serial"))
	if err != nil {
		return out, err
	}
	rev, err := fn(serial)
	if err != nil {
		return out, err
	}
	if err := a.settle(c, rev); err != nil {
		return out, err
	}
	return a.detail(c, issuer, serial)
}

func (a *Admin) revoke(c *gin.Context, in api.Revoke) (api.CertificateDetail, error) {
	reason, err := trust.RevocationReason(in.Reason)
	if err != nil {
		return api.CertificateDetail{}, err
	}
	return a.change(c, in.Issuer, func(s trust.Serial) (registry.Revision, error) {
		return a.cfg.Registry.Revoke(c, principal(c), in.Issuer, s, reason, in.Comment)
	})
}

func (a *Admin) hold(c *gin.Context, in api.Comment) (api.CertificateDetail, error) {
	return a.change(c, in.Issuer, func(s trust.Serial) (registry.Revision, error) {
		return a.cfg.Registry.Hold(c, principal(c), in.Issuer, s, in.Comment)
	})
}

func (a *Admin) release(c *gin.Context, in api.Comment) (api.CertificateDetail, error) {
	return a.change(c, in.Issuer, func(s trust.Serial) (registry.Revision, error) {
		return a.cfg.Registry.Release(c, principal(c), in.Issuer, s, in.Comment)
	})
}

func (a *Admin) listCRLs(c *gin.Context, _ none) ([]api.CRL, error) {
	return a.crls(c, c.Query("issuer"))
}

// crls lists the newest base and delta of every CA.
func (a *Admin) crls(c *gin.Context, issuer string) ([]api.CRL, error) {
	cas, err := a.cfg.Registry.CAs(c, issuer)
	if err != nil {
		return nil, err
	}
	out := []api.CRL{}
	for _, ca := range cas {
		known, err := a.cfg.Registry.CRLs(c, ca.Issuer, ca.ID)
		if err != nil {
			return nil, err
		}
		newest := map[registry.CRLKind]registry.CRL{}
		for _, l := range known {
			newest[l.Kind] = l
		}
		for _, kind := range []registry.CRLKind{registry.Base, registry.Delta} {
			l, ok := newest[kind]
			if !ok {
				continue
			}
			suffix := map[registry.CRLKind]string{registry.Base: ".crl", registry.Delta: "-delta.crl"}[kind]
			out = append(out, api.CRL{Issuer: l.Issuer, CA: l.CA, Kind: string(kind), Number: l.Number, BaseNumber: l.BaseNumber, ThisUpdate: l.ThisUpdate,
				NextUpdate: l.NextUpdate, NextPublish: l.NextPublish, Entries: l.Entries, Size: l.Size, URL: ca.URL + "/" + ca.Issuer + "/" + ca.ID + suffix})
		}
	}
	return out, nil
}

// publish asks the publisher and waits until it has carried the request out, at most half a minute.
func (a *Admin) publish(c *gin.Context, in api.Publish) ([]api.CRL, error) {
	if _, err := a.cfg.Registry.RequestPublish(c, principal(c), in.Issuer, in.Base); err != nil {
		return nil, err
	}
	for range 300 {
		waiting, err := a.cfg.Registry.PublishRequests(c)
		if err != nil {
			return nil, err
		}
		if !pending(waiting, in.Issuer) {
			return a.crls(c, in.Issuer)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-c.Request.Context().Done():
			return nil, c.Request.Context().Err()
		}
	}
	return nil, fmt.Errorf("the publisher has not carried out the request after 30 s; it stays stored: see `postern crl show` and the log of the node that holds the key: %w", trust.ErrConflict)
}

func pending(all []registry.PublishRequest, issuer string) bool {
	for _, r := range all {
		if r.Issuer == issuer {
			return true
		}
	}
	return false
}
