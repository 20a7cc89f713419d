package edge

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"postern/internal/api"
	"postern/internal/eas"
	"postern/internal/oauth"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// Suppose returns the facts of a request that nobody has sent, as this edge would see them now: of a device, with the newest of its certificates, by the mail
// client that it was last seen with, for its owner. What is named takes the place of these. It writes nothing, and decides nothing.
func (e *Edge) Suppose(ctx context.Context, s api.Suppose) (*policy.AccessInput, error) {
	q := &request{protocol: protocolEAS, method: http.MethodPost, class: classCommand, remote: cmp.Or(s.SourceIP, "192.0.2.1"), conn: newConnection(nil),
		userAgent: clip(s.UserAgent, eas.MaxUserAgent)}
	q.host = cmp.Or(strings.ToLower(s.Host), slices.Min(slices.Collect(maps.Keys(e.cfg.Hosts))))
	tenant, ok := e.cfg.Hosts[q.host]
	if !ok {
		return nil, fmt.Errorf("host %q %w: this gate is %s", s.Host, trust.ErrInvalid, strings.Join(slices.Sorted(maps.Keys(e.cfg.Hosts)), ", "))
	}
	q.tenant = tenant
	d, err := e.supposedDevice(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := e.supposedRequest(q, s, d); err != nil {
		return nil, err
	}
	if d.ID != "" && !s.NoCertificate {
		if q.conn, err = e.supposedConnection(ctx, d); err != nil {
			return nil, err
		}
	}
	in := e.situation(q, e.now()).input
	e.cfg.Policy.Load().Surround(in)
	return in, nil
}

// supposedDevice is the device that is named, or the only one that the user has; the zero device for a user who has none.
func (e *Edge) supposedDevice(ctx context.Context, s api.Suppose) (trust.Device, error) {
	if s.Device != "" {
		d, ok := e.cfg.Index.Device(s.Device)
		if !ok {
			return trust.Device{}, fmt.Errorf("device %q: %w", s.Device, trust.ErrNotFound)
		}
		return *d, nil
	}
	if s.User == "" {
		return trust.Device{}, fmt.Errorf("supposed request %w: name a user or a device", trust.ErrInvalid)
	}
	all, err := e.cfg.Registry.Devices(ctx, registry.DeviceFilter{Owner: s.User, Limit: registry.MaxLimit})
	if err != nil {
		return trust.Device{}, err
	}
	all = slices.DeleteFunc(all, func(d trust.Device) bool { return d.State == trust.Retired })
	switch len(all) {
	case 0:
		return trust.Device{}, nil
	case 1:
		return all[0], nil
	}
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = string(d.ID)
	}
	return trust.Device{}, fmt.Errorf("supposed request %w: %s has %d devices, name one: %s", trust.ErrInvalid, s.User, len(all), strings.Join(names, ", "))
}

// supposedRequest fills in what the phone would say.
func (e *Edge) supposedRequest(q *request, s api.Suppose, d trust.Device) (err error) {
	last := &trust.MailProfile{}
	for _, p := range e.cfg.Index.ProfilesOfDevice(d.ID) {
		if d.ID != "" && !p.LastSeen.Before(last.LastSeen) {
			last = p
		}
	}
	if q.eas.Command, err = eas.ParseCommand(cmp.Or(s.Command, "Sync")); err != nil {
		return fmt.Errorf("command %q %w", s.Command, trust.ErrInvalid)
	}
	if q.eas.Version, err = eas.ParseVersion(cmp.Or(s.Version, "16.1")); err != nil {
		return fmt.Errorf("version %q %w", s.Version, trust.ErrInvalid)
	}
	if id := cmp.Or(s.DeviceID, d.EASDeviceID, last.ClientID); id != "" {
		if q.eas.DeviceID, err = eas.ParseDeviceID(id); err != nil {
			return fmt.Errorf("DeviceId %q %w", id, trust.ErrInvalid)
		}
	}
	q.eas.DeviceType = s.DeviceType
	q.client = e.clients.Parse(q.userAgent, s.DeviceType)
	if s.UserAgent == "" {
		q.client = eas.Client{Family: cmp.Or(last.Family, eas.FamilyOther), Platform: cmp.Or(d.OS, "unknown"), Model: cmp.Or(last.Model, d.Model)}
	}
	q.client.Family, q.client.Platform = cmp.Or(s.Family, q.client.Family), cmp.Or(s.Platform, q.client.Platform)
	user := strings.ToLower(cmp.Or(s.User, d.Owner))
	kind := cmp.Or(s.Credential, last.Credential, string(oauth.KindBasic))
	if kind != string(oauth.KindBasic) && kind != string(oauth.KindBearer) {
		return fmt.Errorf("credential %q %w: use basic or bearer", kind, trust.ErrInvalid)
	}
	q.credential, q.named = credentialFacts(oauth.Credential{Kind: oauth.Kind(kind), User: user, Users: []string{user}}, nil, ""), true
	return nil
}

// supposedConnection comes with the newest certificate of the device: one that is not revoked before one that is.
func (e *Edge) supposedConnection(ctx context.Context, d trust.Device) (*connection, error) {
	all, err := e.cfg.Registry.Certificates(ctx, registry.CertificateFilter{Device: d.ID, Limit: registry.MaxLimit})
	if err != nil || len(all) == 0 {
		return newConnection(nil), err
	}
	newest := slices.MaxFunc(all, func(a, b trust.Certificate) int {
		if (a.Status == trust.Revoked) != (b.Status == trust.Revoked) {
			if b.Status == trust.Revoked {
				return 1
			}
			return -1
		}
		return a.IssuedAt.Compare(b.IssuedAt)
	})
	c, err := e.cfg.Registry.Certificate(ctx, newest.Issuer, newest.Serial)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", c.Serial, err)
	}
	return newConnection(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}), nil
}
