package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/trust"
)

// BenchmarkLibrary tells what a decision about a managed phone costs with policies of the library on, as a multiple of the same with all of them off. They take
// turns in slices.
func BenchmarkLibrary(b *testing.B) {
	var table []string
	for i := range 10 {
		table = append(table, fmt.Sprintf("{name: r%d, clients: [samsung, gmail], platforms: [android], groups: [g], zones: [office], action: deny}", i))
	}
	var countries strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&countries, "%s%d.%d.%d.0/24", strings.Repeat(", ", min(i, 1)), 1+i/4000, i/200%20, i%200)
	}
	const on = "noncompliant: deny, noncompliant_grace: 60, unknown_compliance: deny, min_os_version: {ios: \"17.5\"}, unknown_os_version: deny, max_devices: 3, min_eas_version: 161, allowed_clients: [apple_mail], allowed_platforms: [ios], same_user_model: deny"
	access := func(settings string) string { return "postern: {config: {access: {" + settings + "}}}\n" }
	data := "networks: {office: 192.0.2.0/24}\ngroups: {g: [bob@contoso.com]}\ncountries: {de: [" + countries.String() + "]}\n"
	in := managedSample()
	in.Request.SourceIP = "1.2.3.4"
	contestants := []struct {
		name, data string
		do         func()
		took       []float64
	}{
		{name: "off"},
		{name: "compliance", data: access("noncompliant: deny")},
		{name: "versions", data: access(`min_os_version: {ios: "17.5"}, min_eas_version: 161`)},
		{name: "zones", data: data + access("denied_zones: [office]")},
		{name: "sign-on", data: data + access("sign_on: ["+strings.Join(table, ", ")+", {action: allow}]")},
		{name: "all", data: data + access(on+", denied_zones: [office], sign_on: ["+strings.Join(table, ", ")+", {action: allow}]")},
	}
	for i := range contestants {
		e := mustLoad(b, Options{Files: Files{"a.yaml": []byte(contestants[i].data)}})
		contestants[i].do = func() {
			if d, err := e.decideAccess(b.Context(), &in); err != nil || d.Action != trust.Allow {
				b.Fatal(contestants[i].name, d, err)
			}
		}
	}
	const slice, rounds = 20 * time.Millisecond, 15
	for b.Loop() {
		for range rounds {
			for i := range contestants {
				c := &contestants[i]
				n, began := 0, time.Now()
				for time.Since(began) < slice {
					for range 50 {
						c.do()
					}
					n += 50
				}
				c.took = append(c.took, float64(time.Since(began).Nanoseconds())/float64(n))
			}
		}
	}
	middle := func(i int) float64 {
		return slices.Sorted(slices.Values(contestants[i].took))[len(contestants[i].took)/2]
	}
	for i, c := range contestants[1:] {
		b.ReportMetric(middle(i+1)/middle(0), c.name+"/off")
	}
	b.ReportMetric(0, "ns/op")
}
