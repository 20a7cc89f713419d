//go:build cloudkms

package ca

import _ "go.step.sm/crypto/kms/cloudkms" // registers itself for cloudkms: URIs
