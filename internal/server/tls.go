package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// loadPair reads a certificate chain and its key.
func loadPair(certificate, key string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", certificate, err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("load %s: %w", certificate, err)
		}
	}
	return &pair, nil
}

// loadRoots reads trusted roots; nil for an empty path means those of the system.
func loadRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("edge.upstream_ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("edge.upstream_ca: %s holds no PEM certificate", path)
	}
	return pool, nil
}

// reloadEvery is how often the files of a certificate are looked at.
const reloadEvery = 10 * time.Second

// reloader hands out a certificate and notices when its files were replaced. A pair that does not fit keeps the old one in service.
type reloader struct {
	certificate, key string
	now              func() time.Time
	log              *slog.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	looked  time.Time
	written time.Time
}

func newReloader(certificate, key string, now func() time.Time, log *slog.Logger) (*reloader, error) {
	r := &reloader{certificate: certificate, key: key, now: now, log: log, looked: now()}
	var err error
	if r.pair, err = loadPair(certificate, key); err != nil {
		return nil, err
	}
	r.written, err = r.changed()
	return r, err
}

// changed is when the newer of the two files was written.
func (r *reloader) changed() (time.Time, error) {
	var newest time.Time
	var errs []error
	for _, path := range []string{r.certificate, r.key} {
		info, err := os.Stat(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest, errors.Join(errs...)
}

// get implements tls.Config.GetCertificate.
func (r *reloader) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); now.Sub(r.looked) >= reloadEvery {
		r.looked = now
		written, err := r.changed()
		if err == nil && !written.Equal(r.written) {
			var pair *tls.Certificate
			if pair, err = loadPair(r.certificate, r.key); err == nil {
				r.pair, r.written = pair, written
				r.log.Info("TLS certificate reloaded", "file", r.certificate, "valid_until", pair.Leaf.NotAfter)
			}
		}
		if err != nil {
			r.log.Error("TLS certificate not reloaded, the old one stays", "file", r.certificate, "error", err)
		}
	}
	return r.pair, nil
}

// secure puts TLS on a listener; key is its section in the configuration.
func (s *Server) secure(ln net.Listener, section, certificate, key string) (net.Listener, error) {
	r, err := newReloader(certificate, key, s.opts.Now, s.opts.Log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", section, err)
	}
	return tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: r.get}), nil
}
