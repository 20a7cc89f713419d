package registry

import (
	"time"

	"postern/internal/trust"
)

// Standing is what a decision needs of a certificate. It costs no memory of its own: the digest and the serial numbers stay octets.
type Standing struct {
	Issuer, Owner        string
	Device               trust.DeviceID
	Status               trust.CertStatus
	Reason               trust.ReasonCode
	ChangedAt, FirstUsed int64 // Unix seconds; 0: never

	fingerprint [32]byte
	successor   serialOctets
}

// Is reports whether it is the standing of the certificate with a SHA-256: another one may have the same serial number. Of one that came into the registry without
// its digest nothing is known.
func (s *Standing) Is(fingerprint *[32]byte) bool {
	return s.fingerprint == *fingerprint && s.fingerprint != [32]byte{}
}

// Standing returns the standing of a certificate.
func (x *Index) Standing(issuer string, s trust.Serial) (Standing, bool) {
	o, ok := packSerial(s)
	if !ok {
		return Standing{}, false
	}
	return x.standing(issuer, o)
}

func (x *Index) standing(issuer string, serial serialOctets) (Standing, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	number, ok := x.names.number[issuer]
	if !ok {
		return Standing{}, false
	}
	r, ok := x.certs[certID{number, serial}]
	if !ok {
		return Standing{}, false
	}
	text := x.names.text
	return Standing{Issuer: text[number], Owner: text[r.owner], Device: trust.DeviceID(text[r.device]), Status: statuses[r.status], Reason: reasons[r.reason],
		ChangedAt: seconds(r.changedAt), FirstUsed: seconds(r.firstUsed), fingerprint: r.fingerprint, successor: r.successor}, true
}

// Surroundings are what is known around a device: its owner, how many devices he has and which of them it is, and what was granted to both.
type Surroundings struct {
	Owner          *trust.Owner // nil: not known. It must not be changed
	Withdrawn      bool         // see Index.Withdrawn
	Devices, Place int          // see Index.Fleet
	Exceptions     []trust.Exception
}

// Surroundings returns what is known around a device, all of it of one moment.
func (x *Index) Surroundings(d *trust.Device) Surroundings {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := Surroundings{Owner: x.owners[d.Owner], Withdrawn: x.isWithdrawn(d.ID), Exceptions: x.exceptionsOf(d)}
	s.Devices, s.Place = x.placeInFleet(d.Owner, x.devices[d.ID])
	return s
}

// seconds returns Unix seconds of milliseconds, and 0 for the zero time.
func seconds(ms int64) int64 {
	t := time.UnixMilli(ms)
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
