package registry

import "reflect"

// Differences names the parts of two indexes that are not the same.
func Differences(a, b *Index) (out []string) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, p := range []struct {
		name string
		a, b any
	}{{"revision", a.rev, b.rev}, {"certificates", a.certs, b.certs}, {"devices", a.devices, b.devices}, {"owners", a.owners, b.owners}, {"CAs", a.cas, b.cas},
		{"profiles", a.profiles, b.profiles}, {"profile ids", a.profIDs, b.profIDs}, {"clients", a.byClient, b.byClient}, {"devices' profiles", a.byDevice, b.byDevice},
		{"EAS DeviceIds", a.byEAS, b.byEAS}} {
		if !reflect.DeepEqual(p.a, p.b) {
			out = append(out, p.name)
		}
	}
	return out
}
