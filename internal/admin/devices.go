package admin

import (
	"fmt"
	"strings"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/eas"
	"postern/internal/registry"
	"postern/internal/trust"
)

func (a *Admin) deviceRoutes(g *gin.RouterGroup) {
	g.GET("/devices", handle(a.listDevices))
	g.POST("/devices", handle(a.addDevice))
	g.GET("/devices/:id", handle(a.showDevice))
	g.PATCH("/devices/:id", handle(a.updateDevice))
	g.POST("/devices/:id/retire", handle(a.retireDevice))
	g.POST("/devices/:id/reassign", handle(a.reassignDevice))
	g.POST("/devices/:id/state", handle(a.setDeviceState))
	a.suspensionRoutes(g)
	g.POST("/challenges", handle(a.createChallenge))
}

func (a *Admin) listDevices(c *gin.Context, _ none) ([]trust.Device, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	if err := oneOf(c, "suspended", "true", "false"); err != nil {
		return nil, err
	}
	if err := oneOf(c, "state", string(trust.Pending), string(trust.Active), string(trust.Quarantined), string(trust.Blocked), string(trust.Retired)); err != nil {
		return nil, err
	}
	return a.cfg.Registry.Devices(c, registry.DeviceFilter{Issuer: c.Query("issuer"), Owner: c.Query("owner"), SerialNumber: c.Query("serial_number"),
		State: trust.State(c.Query("state")), Suspended: c.Query("suspended") == "true", After: trust.DeviceID(c.Query("after")), Limit: n})
}

func (a *Admin) addDevice(c *gin.Context, in api.NewDevice) (trust.Device, error) {
	// The same canonical form as of what phones claim, or the two would never meet.
	var client eas.DeviceID
	if in.EASDeviceID != "" {
		var err error
		if client, err = eas.ParseDeviceID(in.EASDeviceID); err != nil {
			return trust.Device{}, fmt.Errorf("eas_device_id %q %w: %w", in.EASDeviceID, trust.ErrInvalid, err)
		}
	}
	return a.cfg.Registry.AddDevice(c, principal(c), registry.NewDevice{
		Device: trust.Device{Issuer: in.Issuer, SerialNumber: in.SerialNumber, UDID: in.UDID, Model: in.Model, OS: strings.ToLower(in.OS), OSVersion: in.OSVersion,
			EASDeviceID: string(client), Labels: in.Labels, Managed: true, Compliant: trust.ComplianceUnsure, Source: "admin"},
		Owner: trust.Owner{Mail: in.Owner, UPN: in.UPN, SAM: in.SAM, OID: in.OID, TID: in.TID, Proxies: in.Aliases, Delegations: in.Delegations},
	})
}

func (a *Admin) updateDevice(c *gin.Context, in api.DeviceUpdate) (trust.Device, error) {
	if in.EASDeviceID != nil && *in.EASDeviceID != "" {
		id, err := eas.ParseDeviceID(*in.EASDeviceID)
		if err != nil {
			return trust.Device{}, fmt.Errorf("eas_device_id %q %w: %w", *in.EASDeviceID, trust.ErrInvalid, err)
		}
		canonical := string(id)
		in.EASDeviceID = &canonical
	}
	d, rev, err := a.cfg.Registry.UpdateDevice(c, principal(c), trust.DeviceID(c.Param("id")), registry.DeviceUpdate{EASDeviceID: in.EASDeviceID, Model: in.Model,
		OS: in.OS, OSVersion: in.OSVersion, Compliant: in.Compliant, Labels: in.Labels,
		Owner: trust.Owner{UPN: in.UPN, SAM: in.SAM, OID: in.OID, TID: in.TID, Proxies: in.Aliases, Delegations: in.Delegations}})
	if err != nil {
		return d, err
	}
	return d, a.settle(c, rev)
}

func (a *Admin) showDevice(c *gin.Context, _ none) (out api.Device, err error) {
	id := trust.DeviceID(c.Param("id"))
	if out.Device, err = a.cfg.Registry.Device(c, id); err != nil {
		return out, err
	}
	if out.OwnerNames, err = a.cfg.Registry.Owner(c, out.Owner); err != nil {
		return out, err
	}
	certs, err := a.cfg.Registry.Certificates(c, registry.CertificateFilter{Device: id, Limit: registry.MaxLimit})
	if err != nil {
		return out, err
	}
	out.Certificates = a.certificates(certs)
	out.Profiles, err = a.cfg.Registry.Profiles(c, registry.ProfileFilter{Device: id, Limit: registry.MaxLimit})
	return out, err
}

func (a *Admin) retireDevice(c *gin.Context, in api.Comment) (trust.Device, error) {
	id := trust.DeviceID(c.Param("id"))
	rev, err := a.cfg.Registry.RetireDevice(c, principal(c), id, in.Comment)
	if err != nil {
		return trust.Device{}, err
	}
	if err := a.settle(c, rev); err != nil {
		return trust.Device{}, err
	}
	return a.cfg.Registry.Device(c, id)
}

func (a *Admin) reassignDevice(c *gin.Context, in api.Reassign) (trust.Device, error) {
	return a.cfg.Registry.ReassignDevice(c, principal(c), trust.DeviceID(c.Param("id")), trust.Owner{Mail: in.Owner, UPN: in.UPN, Proxies: in.Aliases})
}

func (a *Admin) setDeviceState(c *gin.Context, in api.DeviceState) (trust.Device, error) {
	id := trust.DeviceID(c.Param("id"))
	rev, err := a.cfg.Registry.SetDeviceState(c, principal(c), id, in.State, in.Comment)
	if err != nil {
		return trust.Device{}, err
	}
	if err := a.settle(c, rev); err != nil {
		return trust.Device{}, err
	}
	return a.cfg.Registry.Device(c, id)
}

func (a *Admin) createChallenge(c *gin.Context, in api.NewChallenge) (out api.Challenge, err error) {
	life, err := ttl(in.TTL, registry.DefaultChallengeTTL)
	if err != nil {
		return out, err
	}
	if d, err := a.cfg.Registry.Device(c, in.Device); err == nil && a.cfg.NoChallenges[d.Issuer] {
		return out, fmt.Errorf("issuer %s takes no one-time challenges, its configuration says challenges: false; enrol the device through its MDM: %w", d.Issuer, trust.ErrConflict)
	}
	secret, ch, err := a.cfg.Registry.CreateChallenge(c, principal(c), in.Device, life)
	if err != nil {
		return out, err
	}
	cas, err := a.cfg.Registry.CAs(c, ch.Issuer)
	if err != nil {
		return out, err
	}
	out = api.Challenge{Device: in.Device, Challenge: secret, Expires: ch.Expires}
	if len(cas) > 0 {
		out.URL = cas[0].URL + "/scep/" + ch.Issuer
	}
	return out, nil
}
