//go:build pkcs11

package ca

import _ "go.step.sm/crypto/kms/pkcs11" // registers itself for pkcs11: URIs
