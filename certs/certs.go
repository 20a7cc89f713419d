// Package certs holds the certificate profiles: what Postern promises a device certificate to be. They are data, compiled into the binary and changed by
// review only; a key never belongs here.
//
// A profile names every part of the certificate: the certificate request gives nothing but the public key, and every name comes from the registry or from
// the issuer's configuration. What no profile can change is not here: version 3, the random serial number, key identifiers, cA FALSE, a key usage that fits
// the key, and where CRL, delta CRL, OCSP and the issuing CA's certificate are.
package certs

import (
	"slices"
	"time"
)

// Profile is one kind of certificate that a device can be given.
type Profile struct {
	Name     string
	Subject  []string      // the attributes of the subject in their order, each an RDN of its own, of the names below; one without value is left out
	SANs     []string      // the subjectAltNames in their order, likewise
	Purposes []string      // extendedKeyUsage (RFC 5280, section 4.2.1.12) as dotted object identifiers
	Lifetime time.Duration // from the moment of issue; never beyond the issuing CA's own end
	Backdate time.Duration // notBefore lies this far before the moment of issue, for devices whose clock is late
	Policies []string      // certificatePolicies (RFC 5280, section 4.2.1.4) as dotted object identifiers; none leaves the extension out
	KeyTypes []string      // which keys may be certified, of the key types below
	Names    []string      // which of the names that Names lists are certified, where the registry knows them
}

// The names of the profiles. Default is used where nothing else is asked for.
const (
	Default = "device"
	Short   = "device-short" // for devices that policy trusts less, or that renew often
)

// MaxLifetime bounds the lifetime of every profile, also where a configuration changes it. An issuing CA that no longer issues is kept alive for as long.
const MaxLifetime = 3 * 366 * 24 * time.Hour

// The key types. An RSA type means a modulus of at least that many bits.
const (
	RSA2048 = "rsa2048"
	RSA3072 = "rsa3072"
	RSA4096 = "rsa4096"
	P256    = "p256"
	P384    = "p384"
)

// The names of a certificate that every profile has.
const (
	Organization = "organization" // of the issuer
	Device       = "device"       // the device's id, as OU
	CommonName   = "common_name"  // the owner's mail address, or the device's id where that is too long for a CN
	Mail         = "mail"         // the owner's mail address: emailAddress in the subject, rfc822Name in the SAN
	UPN          = "upn"          // the owner's user principal name, or else the mail address
	URN          = "urn"          // urn:postern:device:<id>
	SID          = "sid"          // the URI by which Windows maps a certificate to its user; only where it is known
)

// The names that a profile can add, all of them from the registry.
const (
	SerialNumber = "serial_number" // the hardware's, as serialNumber in the subject (X.520, 6.2.9)
	Aliases      = "aliases"       // the owner's further mail addresses in the issuer's domains, as rfc822Names
)

// ClientAuth is the purpose of every device certificate: id-kp-clientAuth.
const ClientAuth = "1.3.6.1.5.5.7.3.2"

// KeyTypes returns every key type.
func KeyTypes() []string { return []string{RSA2048, RSA3072, RSA4096, P256, P384} }

// Names returns every name that a profile can add.
func Names() []string { return []string{SerialNumber, Aliases} }

// Lookup returns the profile of that name. The empty name is the default profile.
func Lookup(name string) (Profile, bool) {
	p := Profile{
		Name:     Default,
		Subject:  []string{Organization, Device, CommonName, SerialNumber, Mail},
		SANs:     []string{Mail, Aliases, UPN, URN, SID},
		Purposes: []string{ClientAuth},
		Lifetime: 365 * 24 * time.Hour,
		Backdate: 10 * time.Minute,
		KeyTypes: []string{RSA2048, P256, P384},
	}
	switch name {
	case "", Default:
	case Short:
		p.Name, p.Lifetime = Short, 30*24*time.Hour
	default:
		return Profile{}, false
	}
	return p, true
}

// Overrides is what an issuer changes in the profiles. Zero fields leave the profile's own; nothing here can make a certificate another kind of certificate.
type Overrides struct {
	Lifetime   time.Duration // an hour to MaxLifetime; it replaces the default profile's, and only shortens the others'
	PolicyOIDs []string
	KeyTypes   []string
	ExtraNames []string
}

// With returns the profile with an issuer's changes, which the caller has checked.
func (p Profile) With(o Overrides) Profile {
	if o.Lifetime != 0 && (p.Name == Default || o.Lifetime < p.Lifetime) {
		p.Lifetime = o.Lifetime
	}
	for _, f := range []struct{ own, other *[]string }{{&p.Policies, &o.PolicyOIDs}, {&p.KeyTypes, &o.KeyTypes}, {&p.Names, &o.ExtraNames}} {
		if len(*f.other) > 0 {
			*f.own = slices.Clone(*f.other)
		}
	}
	return p
}
