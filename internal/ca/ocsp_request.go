package ca

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Limits of an OCSP request. RFC 9919 asks for one CertID; a chain of two, asked for in both hashes, needs four.
const (
	MaxOCSPRequest = 4096 // octets
	maxCertIDs     = 8
	maxNonce       = 128 // octets, RFC 9654, section 2.1
)

var (
	oidOCSPNonce   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidOCSPNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	oidOCSPBasic   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidSHA1        = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

// ErrOCSPMalformed is why an OCSP request was not understood. The answer to it is OCSPErrorResponse(OCSPMalformedRequest).
var ErrOCSPMalformed = errors.New("malformed OCSP request")

// CertID names a certificate in OCSP (RFC 6960, section 4.1.1). It is made by ParseOCSPRequest or Issuer.CertID.
type CertID struct {
	Hash     crypto.Hash // SHA1, SHA256, or 0 for a hash that is not known here: no CA has that CertID
	NameHash []byte      // of the issuer's name
	KeyHash  []byte      // of the issuer's public key
	Serial   *big.Int
	der      []byte // as the client wrote it: some clients compare it octet by octet with the one in the answer
}

// DER returns the CertID as the client wrote it, which is how an answer repeats it. It must not be changed.
func (c CertID) DER() []byte { return c.der }

// OCSPRequest is a request for the status of one certificate or a few. A signature on it has no meaning here and is ignored.
type OCSPRequest struct {
	IDs   []CertID // at least one
	Nonce []byte   // 1 to 128 octets; nil if the client sent none
}

// ParseOCSPRequest reads the DER of an OCSPRequest (RFC 6960, section 4.1.1) of at most MaxOCSPRequest octets. All errors wrap ErrOCSPMalformed.
func ParseOCSPRequest(raw []byte) (*OCSPRequest, error) {
	if len(raw) > MaxOCSPRequest {
		return nil, fmt.Errorf("%w: larger than %d octets", ErrOCSPMalformed, MaxOCSPRequest)
	}
	r := new(OCSPRequest)
	if what := r.parse(cryptobyte.String(raw)); what != "" {
		return nil, fmt.Errorf("%w: %s", ErrOCSPMalformed, what)
	}
	return r, nil
}

// parse returns what is wrong, or nothing.
func (r *OCSPRequest) parse(in cryptobyte.String) string {
	var outer, tbs, list, exts, skip cryptobyte.String
	var present bool
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return "not an OCSPRequest"
	}
	if !outer.SkipOptionalASN1(tag0Cons) || !outer.Empty() {
		return "something after the signature"
	}
	if !tbs.ReadOptionalASN1(&skip, &present, tag0Cons) || present { // DER leaves out version 1, and there is no other
		return "a version other than 1"
	}
	if !tbs.SkipOptionalASN1(tag1Cons) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) || list.Empty() {
		return "no list of requests"
	}
	for !list.Empty() {
		if len(r.IDs) == maxCertIDs {
			return fmt.Sprintf("more than %d requests", maxCertIDs)
		}
		if what := r.parseRequest(&list); what != "" {
			return what
		}
	}
	if !tbs.ReadOptionalASN1(&exts, &present, tag2Cons) || !tbs.Empty() {
		return "something after the extensions"
	}
	if present {
		return r.parseExtensions(exts)
	}
	return ""
}

func (r *OCSPRequest) parseRequest(list *cryptobyte.String) string {
	var req, exts cryptobyte.String
	var present bool
	if !list.ReadASN1(&req, cbasn1.SEQUENCE) {
		return "a request that is none"
	}
	id, ok := parseCertID(&req)
	if !ok {
		return "a CertID that is none"
	}
	if !req.ReadOptionalASN1(&exts, &present, tag0Cons) || !req.Empty() {
		return "something after a request"
	}
	if present {
		if what := (new(OCSPRequest)).parseExtensions(exts); what != "" { // a nonce belongs to the whole: here it has no effect
			return what
		}
	}
	r.IDs = append(r.IDs, id)
	return ""
}

func parseCertID(in *cryptobyte.String) (CertID, bool) {
	id := CertID{Serial: new(big.Int)}
	var raw, body, alg cryptobyte.String
	var oid asn1.ObjectIdentifier
	var name, key cryptobyte.String
	if !in.ReadASN1Element(&raw, cbasn1.SEQUENCE) {
		return id, false
	}
	whole := raw
	if !whole.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) ||
		!body.ReadASN1(&name, cbasn1.OCTET_STRING) || !body.ReadASN1(&key, cbasn1.OCTET_STRING) || !body.ReadASN1Integer(id.Serial) || !body.Empty() {
		return id, false
	}
	if !alg.Empty() { // parameters are NULL or absent
		if null := (cryptobyte.String{}); !alg.ReadASN1(&null, cbasn1.NULL) || !null.Empty() || !alg.Empty() {
			return id, false
		}
	}
	switch {
	case oid.Equal(oidSHA1):
		id.Hash = crypto.SHA1
	case oid.Equal(oidSHA256):
		id.Hash = crypto.SHA256
	}
	id.NameHash, id.KeyHash, id.der = name, key, raw
	return id, true
}

// parseExtensions takes the nonce, lets other extensions pass and refuses those that are critical.
func (r *OCSPRequest) parseExtensions(in cryptobyte.String) string {
	var exts cryptobyte.String
	if !in.ReadASN1(&exts, cbasn1.SEQUENCE) || !in.Empty() || exts.Empty() {
		return "extensions that are none"
	}
	seen := map[string]bool{}
	for !exts.Empty() {
		var ext, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		critical := false
		if !exts.ReadASN1(&ext, cbasn1.SEQUENCE) || !ext.ReadASN1ObjectIdentifier(&oid) || !readCritical(&ext, &critical) ||
			!ext.ReadASN1(&value, cbasn1.OCTET_STRING) || !ext.Empty() || seen[oid.String()] {
			return "an extension that is none, or is there twice"
		}
		seen[oid.String()] = true
		if !oid.Equal(oidOCSPNonce) {
			if critical {
				return "an unknown critical extension"
			}
			continue
		}
		var nonce cryptobyte.String
		if !value.ReadASN1(&nonce, cbasn1.OCTET_STRING) || !value.Empty() || len(nonce) == 0 || len(nonce) > maxNonce {
			return fmt.Sprintf("a nonce that is not of 1 to %d octets", maxNonce)
		}
		r.Nonce = nonce
	}
	return ""
}

// readCritical reads critical BOOLEAN DEFAULT FALSE.
func readCritical(ext *cryptobyte.String, critical *bool) bool {
	return !ext.PeekASN1Tag(cbasn1.BOOLEAN) || ext.ReadASN1Boolean(critical)
}
