//go:build awskms

package ca

import _ "go.step.sm/crypto/kms/awskms" // registers itself for awskms: URIs
