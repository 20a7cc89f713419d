package scep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// Validator says whether a challenge that is not one of ours is genuine, and whose it is: an MDM's validation service, or a webhook of the company. It is
// told what became of a request that it approved. All methods may be called at the same time.
type Validator interface {
	// Name is how the registry, the policy and the audit call it. It must not change while certificates are pending.
	Name() string
	// ApprovesNames reports whether an approval covers the names in the CSR too, so that one that only it can know, the user's SID, may be certified.
	ApprovesNames() bool
	// Validate approves, or returns an error that wraps trust.ErrForbidden for a refusal (a method FailInfo() string on it names the failInfo),
	// trust.ErrNotFound for a challenge that is not its own, and any other for a fault, for which the client may try again.
	Validate(context.Context, trust.Submission) (trust.Applicant, error)
	// Issued is called before anybody gets the certificate. After an error nobody does. Where the process died meanwhile, it is called again.
	Issued(context.Context, trust.Submission, trust.Certificate) error
	// Refused is called where an approved request is refused here. code is an HRESULT (MS-ERREF, section 2.1): 0xA5050100 plus the failInfo.
	Refused(ctx context.Context, s trust.Submission, code int32, text string) error
}

// refusedHResult is severity and customer bit, and facility 0x505.
const refusedHResult = -0x5AFAFF00 // 0xA5050100

// errWithdrawn: the validator refused to be told, and so knows.
var errWithdrawn = errors.New("the certificate was withdrawn")

// notifyTimeout is how long a validator may take to be told, also after the client has gone.
const notifyTimeout = 45 * time.Second

// validated is who a validator says the requester is.
func (d *Door) validated(ctx context.Context, is *issuer, req *Request, remote string) (a applicant, err error) {
	a.submission = trust.Submission{Issuer: is.id, TransactionID: req.TransactionID, CSR: req.CSR.Raw, Challenge: string(req.Challenge), Remote: remote}
	for _, v := range d.cfg.Validators[is.id] {
		var who trust.Applicant
		d.slots.away(func() { who, err = v.Validate(ctx, a.submission) })
		switch {
		case errors.Is(err, trust.ErrNotFound):
			continue
		case errors.Is(err, trust.ErrForbidden):
			return a, fail(refusalInfo(err), err, "the challenge is not valid")
		case err != nil:
			return a, fmt.Errorf("validate with %s: %w", v.Name(), err)
		}
		a.validator = v
		a.evidence = trust.Evidence{Kind: "validated", Validator: v.Name(), KeyAttested: who.KeyAttested}
		if who.Source == "" {
			who.Source = v.Name()
		}
		a.device, a.owner, err = d.cfg.Registry.EnsureDevice(ctx, trust.Principal{Kind: "mdm", Name: v.Name()}, who, is.id)
		if errors.Is(err, trust.ErrInvalid) || errors.Is(err, trust.ErrForbidden) || errors.Is(err, trust.ErrConflict) {
			return a, fail(BadRequest, err, "device and owner of the request do not fit what is known here")
		}
		return a, err
	}
	return a, fail(BadRequest, registry.ErrChallengeUnknown, "the challenge is not valid")
}

// refusalInfo is the failInfo that a validator asks for.
func refusalInfo(err error) FailInfo {
	var r interface{ FailInfo() string }
	if errors.As(err, &r) {
		for _, info := range []FailInfo{BadAlg, BadMessageCheck, BadTime, BadCertID} {
			if info.String() == r.FailInfo() {
				return info
			}
		}
	}
	return BadRequest
}

// validator finds one by its name.
func (d *Door) validator(issuer, name string) Validator {
	for _, v := range d.cfg.Validators[issuer] {
		if v.Name() == name {
			return v
		}
	}
	return nil
}

// confirm tells the validator of a certificate that a commit made real. Only after it may anybody have the certificate; an error means that nobody has it.
func (d *Door) confirm(ctx context.Context, is *issuer, c trust.Certificate) error {
	owed, err := d.cfg.Registry.Unconfirmed(ctx, is.id, c.Serial)
	if errors.Is(err, trust.ErrNotFound) {
		// Told before, by whoever this request is a repetition of; or withdrawn, and then not to be had.
		return d.stillGood(ctx, is, c.Serial)
	}
	if err != nil {
		return err
	}
	return d.tell(ctx, owed, c)
}

func (d *Door) stillGood(ctx context.Context, is *issuer, s trust.Serial) error {
	c, err := d.cfg.Registry.Certificate(ctx, is.id, s)
	if err == nil && c.Status == trust.Revoked {
		err = fmt.Errorf("certificate %s was withdrawn", s)
	}
	return err
}

// tell lets the validator know, and withdraws the certificate if that fails. The client's going away is no such failure.
func (d *Door) tell(ctx context.Context, owed registry.Confirmation, c trust.Certificate) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	p := trust.Principal{Kind: "scep", Name: owed.Issuer}
	v := d.validator(owed.Issuer, owed.Validator)
	if v == nil {
		return fmt.Errorf("tell %s of certificate %s: it is not configured any more", owed.Validator, c.Serial)
	}
	told := v.Issued(ctx, owed.Submission, c)
	if told == nil {
		return d.cfg.Registry.Confirm(ctx, p, owed.Issuer, c.Serial)
	}
	told = fmt.Errorf("tell %s of certificate %s: %w", v.Name(), c.Serial, told)
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	err := d.cfg.Registry.Withdraw(ctx, p, owed.Issuer, c.Serial, v.Name()+" could not be told of it")
	switch {
	case errors.Is(err, trust.ErrConflict): // told by a repetition of the request at the same time
		return nil
	case err != nil:
		return errors.Join(told, err)
	case errors.Is(told, trust.ErrForbidden):
		return fail(refusalInfo(told), errors.Join(errWithdrawn, told), "the certificate was refused and revoked")
	}
	return told
}

// notifyRefused tells the validator of a request that it had approved. It is telemetry of the MDM: that it cannot be told changes nothing.
func (d *Door) notifyRefused(ctx context.Context, a applicant, f *Failure) {
	if a.validator == nil || errors.Is(f, errWithdrawn) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	var err error
	d.slots.away(func() { err = a.validator.Refused(ctx, a.submission, refusedHResult+int32(f.Info), f.Text) })
	if err != nil {
		d.cfg.Log.WarnContext(ctx, "validator was not told of a refusal", "validator", a.validator.Name(), "device", a.device.ID, "error", err)
	}
}
