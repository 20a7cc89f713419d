package registry

import (
	"context"
	"strings"

	"postern/internal/trust"
)

// DeviceNamed returns the device of an issuer that a text names: by its id, its hardware's serial number or its UDID. It tells what a CSR that names
// hardware really means; ok is false for a text that names no device.
func (r *Registry) DeviceNamed(ctx context.Context, issuer, text string) (id trust.DeviceID, ok bool, err error) {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > 128 {
		return "", false, nil
	}
	err = r.view(ctx, func(rd Reader) error {
		if _, known := rd.Get(tableDevices, strings.ToLower(text)); known {
			id, ok = trust.DeviceID(strings.ToLower(text)), true
			return nil
		}
		for _, key := range hardwareKeys(trust.Device{Issuer: issuer, SerialNumber: text, UDID: text}) {
			if v, known := rd.Get(tableMeta, key); known {
				id, ok = trust.DeviceID(v), true
				return nil
			}
		}
		return nil
	})
	return id, ok, err
}
