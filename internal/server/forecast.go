package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/revocation"
	"postern/internal/trust"
)

// forecastEvery is how often health looks at how CRLs grow. They do so in days; and reading a million revocations takes seconds.
const forecastEvery = time.Hour

// forecasts are those that health knows.
type forecasts struct {
	mu   sync.Mutex
	last []revocation.Forecast
}

func (f *forecasts) set(all []revocation.Forecast) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = all
}

// warnings name the CAs whose lists become too large.
func (f *forecasts) warnings() (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.last {
		switch {
		case one.Propose:
			out = append(out, fmt.Sprintf("%s: prepare it with `postern crl forecast --open`, register it with relying parties, then `postern issuer activate %s`", one, one.Issuer))
		case !one.InForce && !one.LimitAt.IsZero():
			out = append(out, fmt.Sprintf("%s; certificates of this CA are not issued any more: renew what is left of them under the CA in force", one))
		}
	}
	return out
}

// followForecast keeps what health knows up to date until ctx ends.
func (s *Server) followForecast(ctx context.Context) error {
	t := time.NewTicker(forecastEvery)
	defer t.Stop()
	for {
		switch all, err := s.publisher.Forecasts(ctx); {
		case err == nil:
			s.forecasts.set(all)
		case ctx.Err() != nil || errors.Is(err, registry.ErrClosed):
			return nil
		default:
			s.opts.Log.WarnContext(ctx, "how CRLs grow is not known", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// forecast is for the admin API: it looks anew.
func (s *Server) forecast(ctx context.Context) ([]api.Forecast, error) {
	if s.publisher == nil {
		return nil, fmt.Errorf("this node publishes no CRLs: ask the one with the section `public`: %w", trust.ErrNotFound)
	}
	all, err := s.publisher.Forecasts(ctx)
	if err != nil {
		return nil, err
	}
	s.forecasts.set(all)
	out := make([]api.Forecast, len(all))
	for i, f := range all {
		out[i] = api.Forecast(f)
	}
	return out, nil
}
