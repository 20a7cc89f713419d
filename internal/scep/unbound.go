package scep

import (
	"context"
	"fmt"
	"slices"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// identifyUnbound finds for whom a challenge is that was made for no device, as NDES makes them: for the one device of the issuer that the CSR names, if it
// names an address of the device's owner too. Names in a CSR prove nothing; who holds the challenge has been let in by an MDM, and that is all there is. So
// the evidence is of a kind of its own for the policy, and a challenge that was tried with a CSR that fits nobody is void: it is no tool to find out names.
func (d *Door) identifyUnbound(ctx context.Context, is *issuer, req *Request, c registry.Challenge) (a applicant, err error) {
	a.secret = string(req.Challenge)
	a.evidence = trust.Evidence{Kind: registry.EvidenceNDES, Challenge: c.ID}
	named, err := d.devicesNamed(ctx, is, req)
	if err != nil {
		return a, err
	}
	if len(named) != 1 || c.Device != "" && c.Device != named[0] {
		return a, d.void(ctx, is, req, fmt.Sprintf("the CSR names %d devices by serial number, UDID or id", len(named)))
	}
	device, err := d.cfg.Registry.Device(ctx, named[0])
	if err != nil {
		return a, err
	}
	if device.Issuer != is.id {
		return a, d.void(ctx, is, req, "the CSR names a device of another issuer")
	}
	owner, err := d.cfg.Registry.Owner(ctx, device.Owner)
	if err != nil {
		return a, err
	}
	names := policy.FactsOfOwner(&owner).Names
	if !slices.ContainsFunc(requestedMails(req), func(m string) bool { return names[m] }) {
		return a, d.void(ctx, is, req, "the CSR names no address of the owner of "+string(device.ID))
	}
	a.device, a.owner = device, owner
	return a, nil
}

// void ends the life of the request's challenge. The client hears what a CSR has to name, and not which part of it is wrong.
func (d *Door) void(ctx context.Context, is *issuer, req *Request, why string) error {
	if err := d.cfg.Registry.Void(ctx, trust.Principal{Kind: "scep", Name: is.id}, is.id, string(req.Challenge), why); err != nil {
		return fmt.Errorf("void a challenge: %w", err)
	}
	return fail(BadRequest, fmt.Errorf("%s", why), "the CSR must name one device and the address of its owner: ask for a new challenge")
}
