package server

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"postern/internal/ca"
	"postern/internal/mdm"
	"postern/internal/scep"
)

// enrolment makes the SCEP door with whoever may say who enrols, and the pages on which MDMs fetch challenges.
func (s *Server) enrolment() (*entrances, error) {
	c := scep.Config{Issuers: s.issuers, Legacy: map[string]bool{}, NoChallenges: s.noChallenges(), Registry: s.registry, Policy: s.policy, Journal: s.journal,
		Now: s.opts.Now, Log: s.opts.Log, Validators: map[string][]scep.Validator{}, CRL: s.publisher.Base, Index: s.index, Limits: scep.Limits{Exempt: s.opts.Config.Public.Proxies}}
	attempts := mdm.NewAttempts(s.opts.Now, s.opts.Config.Public.Proxies...)
	e := &entrances{pages: pages{}, ndes: map[string]http.Handler{}}
	for _, i := range s.opts.Config.Issuers {
		c.Legacy[i.ID] = i.LegacyClients
		validators, err := s.validators(i)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", i.ID, err)
		}
		c.Validators[i.ID] = validators
		if i.Jamf != nil {
			if e.pages["/mdm/jamf/"+i.ID], err = s.jamf(i, attempts); err != nil {
				return nil, fmt.Errorf("issuer %s: jamf: %w", i.ID, err)
			}
		}
		if i.NDES != nil {
			if e.ndes[i.ID], err = s.ndes(i, attempts); err != nil {
				return nil, fmt.Errorf("issuer %s: ndes: %w", i.ID, err)
			}
		}
	}
	var err error
	e.scep, err = scep.New(c)
	return e, err
}

// noChallenges are the issuers that take no one-time challenges.
func (s *Server) noChallenges() map[string]bool {
	out := map[string]bool{}
	for _, i := range s.opts.Config.Issuers {
		out[i.ID] = i.NoChallenges
	}
	return out
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

func (s *Server) jamf(i Issuer, attempts *mdm.Attempts) (http.Handler, error) {
	password, err := readSecret(i.Jamf.PasswordFile)
	if err != nil {
		return nil, err
	}
	return mdm.NewJamf(mdm.JamfConfig{Issuer: i.ID, User: i.Jamf.User, Password: password, Registry: s.registry, Unbound: i.Jamf.Unbound, Log: s.opts.Log,
		Attempts: attempts})
}

func (s *Server) ndes(i Issuer, attempts *mdm.Attempts) (http.Handler, error) {
	password, err := readSecret(i.NDES.PasswordFile)
	if err != nil {
		return nil, err
	}
	var issuer *ca.Issuer
	for _, is := range s.issuers {
		if is.Spec().ID == i.ID {
			issuer = is
		}
	}
	return mdm.NewNDES(mdm.NDESConfig{Issuer: i.ID, Users: []mdm.NDESUser{{Name: i.NDES.User, Password: password, Unbound: i.NDES.Unbound > 0}},
		CA: func() *x509.Certificate { return issuer.Chain()[0] }, Registry: s.registry, TTL: time.Duration(i.NDES.TTL), Unbound: i.NDES.Unbound, Log: s.opts.Log,
		Attempts: attempts})
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
