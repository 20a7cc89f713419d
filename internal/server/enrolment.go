package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"postern/internal/mdm"
	"postern/internal/scep"
)

// enrolment makes the SCEP door with whoever may say who enrols, and the pages on which MDMs fetch challenges.
func (s *Server) enrolment() (*scep.Door, http.Handler, error) {
	c := scep.Config{Issuers: s.issuers, Legacy: map[string]bool{}, Registry: s.registry, Policy: s.policy, Journal: s.journal, Now: s.opts.Now, Log: s.opts.Log,
		Validators: map[string][]scep.Validator{}, CRL: s.publisher.Base}
	pages := pages{}
	for _, i := range s.opts.Config.Issuers {
		c.Legacy[i.ID] = i.LegacyClients
		validators, err := s.validators(i)
		if err != nil {
			return nil, nil, fmt.Errorf("issuer %s: %w", i.ID, err)
		}
		c.Validators[i.ID] = validators
		if i.Jamf != nil {
			if pages["/mdm/jamf/"+i.ID], err = s.jamf(i); err != nil {
				return nil, nil, fmt.Errorf("issuer %s: jamf: %w", i.ID, err)
			}
		}
	}
	door, err := scep.New(c)
	return door, pages, err
}

// validators are asked about challenges that are not Postern's own, in this order.
func (s *Server) validators(i Issuer) ([]scep.Validator, error) {
	var out []scep.Validator
	if i.Intune != nil {
		secret, err := readSecret(i.Intune.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("intune: %w", err)
		}
		v, err := mdm.NewIntune(mdm.IntuneConfig{Issuer: i.ID, TenantID: i.Intune.Tenant, ClientID: i.Intune.Client, ClientSecret: secret,
			Registry: s.registry, Now: s.opts.Now, Log: s.opts.Log})
		if err != nil {
			return nil, fmt.Errorf("intune: %w", err)
		}
		s.followers = append(s.followers, part{"intune of " + i.ID, v.Run})
		out = append(out, v)
	}
	if i.Webhook != nil {
		secret, err := readSecret(i.Webhook.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
		v, err := mdm.NewWebhook(mdm.WebhookConfig{Name: i.Webhook.Name, Issuer: i.ID, URL: i.Webhook.URL, Secret: secret, Notify: i.Webhook.Notify, Now: s.opts.Now})
		if err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
		out = append(out, v)
	}
	return out, nil
}

func (s *Server) jamf(i Issuer) (http.Handler, error) {
	password, err := readSecret(i.Jamf.PasswordFile)
	if err != nil {
		return nil, err
	}
	return mdm.NewJamf(mdm.JamfConfig{Issuer: i.ID, User: i.Jamf.User, Password: password, Registry: s.registry, Log: s.opts.Log})
}

// maxSecret is the size limit of a secret's file in bytes.
const maxSecret = 4096

// readSecret reads a secret from a file that nobody else may read.
func readSecret(path string) (mdm.Secret, error) {
	text, err := readSecretText(path)
	if err != nil {
		return mdm.Secret{}, err
	}
	return mdm.NewSecret(text), nil
}

func readSecretText(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("read secret: %s may be read by others: chmod 600 it", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" || len(b) > maxSecret {
		return "", errors.New("read secret: " + path + " is empty, or larger than 4096 bytes")
	}
	return text, nil
}

// pages are handlers by exact path.
type pages map[string]http.Handler

// ServeHTTP implements http.Handler.
func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := p[r.URL.Path]; ok {
		h.ServeHTTP(w, r)
		return
	}
	http.Error(w, "there is nothing here", http.StatusNotFound)
}
