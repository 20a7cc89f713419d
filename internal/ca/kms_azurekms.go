//go:build azurekms

package ca

import _ "go.step.sm/crypto/kms/azurekms" // registers itself for azurekms: URIs
