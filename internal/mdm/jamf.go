package mdm

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// maxWebhook is the largest webhook body in bytes; Jamf's have some hundreds.
const maxWebhook = 64 << 10

// JamfConfig is one issuer's answer to Jamf's SCEPChallenge webhook.
type JamfConfig struct {
	Name      string // of this source; default "jamf"
	Issuer    string // whose devices may enrol. Required
	User      string // of HTTP Basic authentication. Required
	Password  Secret // 8 characters or more. Required
	Registry  *registry.Registry
	Principal trust.Principal // who makes challenges; default: Kind "mdm", Name as above
	TTL       time.Duration   // of a challenge; default registry.DefaultChallengeTTL
	Unbound   int             // challenges that may be open at once for webhooks that name no device; 0: these are refused
	Log       *slog.Logger
	Attempts  *Attempts // wrong passwords of all pages; nil: those of this one alone
}

// Jamf answers the webhook SCEPChallenge of Jamf Pro, and of MDMs that imitate it: the answer is the challenge, and nothing else.
type Jamf struct {
	requester
	login login
}

// NewJamf checks the configuration.
func NewJamf(cfg JamfConfig) (*Jamf, error) {
	if cfg.Name == "" {
		cfg.Name = "jamf"
	}
	if cfg.TTL == 0 {
		cfg.TTL = registry.DefaultChallengeTTL
	}
	if cfg.Principal == (trust.Principal{}) {
		cfg.Principal = trust.Principal{Kind: "mdm", Name: cfg.Name}
	}
	if cfg.Attempts == nil {
		cfg.Attempts = NewAttempts(time.Now)
	}
	j := &Jamf{requester{cfg.Name, cfg.Issuer, cfg.Registry, cfg.Principal, cfg.TTL, cfg.Unbound, cfg.Log, cfg.Attempts}, login{cfg.User, cfg.Password}}
	if err := j.check([]login{j.login}); err != nil {
		return nil, fmt.Errorf("jamf: %w", err)
	}
	return j, nil
}

// ServeHTTP takes the POST of a webhook.
func (j *Jamf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		plainText(w, http.StatusMethodNotAllowed, "webhooks are posted")
		return
	}
	if !j.authenticate(w, r, j.login.matches) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWebhook))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		plainText(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the webhook is larger than %d bytes", maxWebhook))
		return
	}
	if err != nil {
		plainText(w, http.StatusBadRequest, "the webhook ended early")
		return
	}
	names, err := jamfDevice(body)
	if err != nil {
		j.log.WarnContext(r.Context(), "webhook not understood", "source", j.source, "error", err)
		plainText(w, http.StatusBadRequest, "this is not a SCEPChallenge webhook in JSON: "+err.Error())
		return
	}
	secret, err := j.challenge(r.Context(), names, true)
	if err != nil {
		status, text := j.problem(r, err)
		plainText(w, status, text)
		return
	}
	plainText(w, http.StatusOK, secret)
}

// jamfDevice returns the names that the webhook's event has for the device, of whichever place and kind; none for an event without a device. Fields
// that are not known are passed over.
func jamfDevice(body []byte) ([]string, error) {
	o, err := decodeObject(body)
	if err != nil {
		return nil, err
	}
	hook, err := o.member("webhook")
	if err != nil {
		return nil, err
	}
	kind, err := hook.text("webhookEvent", 64)
	if err != nil {
		return nil, err
	}
	if kind != "SCEPChallenge" {
		return nil, fmt.Errorf("webhookEvent is %q", clip(kind, 64))
	}
	event, err := o.member("event")
	if err != nil {
		return nil, err
	}
	if event == nil {
		return nil, errors.New("there is no event")
	}
	var names []string
	for _, place := range []string{"device", "targetDevice", ""} {
		in := event
		if place != "" {
			if in, err = event.member(place); err != nil {
				return nil, err
			}
		}
		for _, field := range []string{"serialNumber", "udid", "uuid"} {
			s, err := in.text(field, maxAttribute)
			if err != nil {
				return nil, err
			}
			if s != "" {
				names = append(names, s)
			}
		}
	}
	return names, nil
}
