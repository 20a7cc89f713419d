package mdm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/trust"
)

const (
	maxDownload = 4 << 20 // bytes of one list of revocations
	maxContext  = 16 << 10
	maxPages    = 20 // of one round
	maxBackoff  = time.Hour
)

// The bodies of the revocation service, field by field in its order.
type (
	downloadRequest struct {
		DownloadParameters struct {
			MaxRequests int     `json:"maxRequests"`
			IssuerName  *string `json:"issuerName"`
		} `json:"downloadParameters"`
	}
	uploadRequest struct {
		Results []revocationResult `json:"results"`
	}
	revocationResult struct {
		RequestContext string  `json:"requestContext"`
		Succeeded      bool    `json:"succeeded"`
		ErrorCode      string  `json:"errorCode"`
		ErrorMessage   *string `json:"errorMessage"`
	}
)

// PullRevocations does one round: it asks Intune which certificates to revoke, revokes them, and reports. It returns how many requests it answered.
// After an error Intune sends the unanswered ones again, and revoking again changes nothing.
func (n *Intune) PullRevocations(ctx context.Context) (int, error) {
	answered := 0
	for range maxPages {
		asked, done, err := n.pullPage(ctx)
		answered += done
		if err != nil || asked < n.cfg.MaxRequests {
			return answered, err
		}
	}
	return answered, nil
}

// pullPage does one download and its upload. asked is how many requests there were.
func (n *Intune) pullPage(ctx context.Context) (asked, done int, err error) {
	var download downloadRequest
	download.DownloadParameters.MaxRequests = n.cfg.MaxRequests
	if n.cfg.IssuerName != "" {
		download.DownloadParameters.IssuerName = &n.cfg.IssuerName
	}
	answer, err := n.call(ctx, revocationService, "CertificateAuthorityRequests/downloadRevocationRequests", download, maxDownload)
	if err != nil {
		return 0, 0, err
	}
	requests, err := answer.list("value", n.cfg.MaxRequests)
	if err != nil {
		return 0, 0, fmt.Errorf("download revocation requests: %w", err)
	}
	upload := uploadRequest{Results: []revocationResult{}}
	for _, r := range requests {
		result, err := n.revoke(ctx, r)
		if ctx.Err() != nil {
			return len(requests), 0, ctx.Err()
		}
		if err != nil {
			n.cfg.Log.ErrorContext(ctx, "Intune's revocation request cannot be answered", "issuer", n.cfg.Issuer, "error", err)
			continue
		}
		upload.Results = append(upload.Results, result)
	}
	if len(upload.Results) == 0 {
		return len(requests), 0, nil
	}
	if answer, err = n.call(ctx, revocationService, "CertificateAuthorityRequests/uploadRevocationResults", upload, maxAnswer); err != nil {
		return len(requests), 0, err
	}
	if ok, err := answer.flag("value"); err != nil || !ok {
		return len(requests), 0, errors.New("upload revocation results: Intune has not taken them")
	}
	return len(requests), len(upload.Results), nil
}

// revoke carries out one request. The error is for one to which not even a failure can be reported.
func (n *Intune) revoke(ctx context.Context, r object) (revocationResult, error) {
	result := revocationResult{ErrorCode: "None"}
	var err error
	if result.RequestContext, err = r.text("requestContext", maxContext); err != nil || result.RequestContext == "" {
		return result, errors.New("revocation request without context")
	}
	failed := func(code, text string) (revocationResult, error) {
		result.ErrorCode, result.ErrorMessage = code, &text
		n.cfg.Log.WarnContext(ctx, "Intune's revocation request failed", "issuer", n.cfg.Issuer, "code", code, "error", text)
		return result, nil
	}
	text, err1 := r.text("serialNumber", 256)
	configuration, err2 := r.text("caConfiguration", 1024)
	if err1 != nil || err2 != nil {
		return failed("DataSerializationError", "the request cannot be read")
	}
	serial, err := trust.ParseSerial(text)
	if err != nil {
		return failed("ParameterDataInvalidError", "the serial number is not hex")
	}
	// The name of the issuer that Issued sent: a certificate of another one is not this connection's to revoke.
	if configuration != "" && configuration != n.cfg.Issuer {
		return failed("CertificateNotFoundError", "the certificate was issued under another CA configuration")
	}
	_, err = n.cfg.Registry.Revoke(ctx, n.cfg.Principal, n.cfg.Issuer, serial, trust.CessationOfOperation, "requested by "+n.cfg.Name)
	switch {
	case err == nil:
		result.Succeeded = true
		return result, nil
	case errors.Is(err, trust.ErrNotFound):
		return failed("CertificateNotFoundError", "no certificate has this serial number")
	case errors.Is(err, trust.ErrConflict):
		return failed("ConflictError", "the certificate cannot be revoked in its state")
	case errors.Is(err, trust.ErrForbidden):
		return failed("AuthenticationException", "this connection may not revoke")
	}
	n.cfg.Log.ErrorContext(ctx, "certificate not revoked for Intune", "issuer", n.cfg.Issuer, "serial", string(serial), "error", err)
	return failed("RetryableServiceException", "the registry cannot be written now")
}

// Run pulls revocations until ctx is done, then returns nil. After a failed round it waits longer and longer, up to an hour, or as long as it was told.
func (n *Intune) Run(ctx context.Context) error {
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		answered, err := n.PullRevocations(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if answered > 0 {
			n.cfg.Log.InfoContext(ctx, "revocations requested by Intune answered", "issuer", n.cfg.Issuer, "count", answered)
		}
		if err == nil {
			wait = n.cfg.PullInterval
			continue
		}
		wait = n.pause(wait, err)
		n.cfg.Log.ErrorContext(ctx, "revocations not pulled from Intune", "issuer", n.cfg.Issuer, "error", err, "again", wait)
	}
}

// pause is how long to wait after an error.
func (n *Intune) pause(last time.Duration, err error) time.Duration {
	wait := max(n.cfg.PullInterval, min(2*last, maxBackoff))
	var f *httpFault
	if errors.As(err, &f) {
		wait = max(wait, f.retryAfter)
	}
	return wait
}
