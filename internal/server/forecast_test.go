package server

import (
	"strings"
	"testing"
	"time"

	"postern/internal/revocation"
)

func TestForecastWarnings(t *testing.T) {
	t.Parallel()
	day := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	var f forecasts
	f.set([]revocation.Forecast{
		{Issuer: "contoso", CA: "issuing-2", InForce: true, Size: 14_300_000, PerDay: 812.5, WarningAt: day, LimitAt: day.AddDate(0, 2, 0), OpenBy: day, Propose: true},
		{Issuer: "contoso", CA: "issuing", Size: 19_000_000, WarningAt: day, LimitAt: day},
		{Issuer: "fabrikam", CA: "issuing", InForce: true, Size: 1000, WarningAt: day, OpenBy: day},
		{Issuer: "northwind", CA: "issuing", InForce: true, Size: 1000},
	})
	got := f.warnings()
	if len(got) != 2 || !strings.HasPrefix(got[0], "the CRL of contoso/issuing-2 has 14.3 MB and grows by 812.5 revocations a day: 15 MB on 2027-03-01, 20 MB, Entra ID's limit, on 2027-05-01; "+
		"a new issuing CA has to be in force by 2027-03-01: prepare it with `postern crl forecast --open`") || !strings.Contains(got[1], "certificates of this CA are not issued any more") {
		t.Errorf("%q", got)
	}
}
