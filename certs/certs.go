// Package certs holds the certificate profiles: what Postern promises a device certificate to be, as a template and a few numbers. Both are compiled
// into the binary and are changed by review only; a key never belongs here.
//
// A profile's template is text for go.step.sm/crypto/x509util and makes JSON. It names every field of the certificate; the certificate request gives
// nothing but the public key. Every value goes through toJson, so that a name cannot end a string and begin a field. Its data:
//
//	.Organization, .Device, .CommonName, .Mail, .UPN, .URN   strings
//	.KeyUsage                                                list of names
//	.CRL, .OCSP, .CACertificate                              URLs
//	.FreshestCRL                                             DER of the extension of RFC 5280, section 5.2.6
//	.Policies                                                list of dotted object identifiers
package certs

import (
	_ "embed"
	"time"
)

//go:embed device.tmpl.json
var deviceTemplate string

// Profile is one kind of certificate that a device can be given.
type Profile struct {
	Name     string
	Template string        // text of the template, see the package comment
	Lifetime time.Duration // from the moment of issue; never beyond the issuing CA's own end
	Backdate time.Duration // notBefore lies this far before the moment of issue, for devices whose clock is late
	Policies []string      // certificatePolicies (RFC 5280, section 4.2.1.4) as dotted object identifiers; none leaves the extension out
}

// Default is the name of the profile that is used where nothing else is asked for.
const Default = "device"

// Lookup returns the profile of that name. The empty name is the default profile.
func Lookup(name string) (Profile, bool) {
	switch name {
	case "", Default:
		return Profile{Name: Default, Template: deviceTemplate, Lifetime: 365 * 24 * time.Hour, Backdate: 10 * time.Minute}, true
	default:
		return Profile{}, false
	}
}
