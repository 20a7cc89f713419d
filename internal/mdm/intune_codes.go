package mdm

// intuneCode is what one error code of Intune's validation service means for the device and for the administrator.
type intuneCode struct{ info, text string }

// intuneCodes lists every code of the validation service but Success. A code that is not here is a refusal too.
func intuneCodes() map[string]intuneCode {
	return map[string]intuneCode{
		"Unknown": {BadRequest, "Intune gives no reason: look at the SCEP profile's device status in Intune"},
		"CertificateRequestDecodingFailed": {BadRequest,
			"the certificate request cannot be read: the device's SCEP client is broken, or this is no SCEP client"},
		"ChallengePasswordMissing":      {BadRequest, "the request has no challenge: this device was not told by Intune to enrol"},
		"ChallengeDeserializationError": {BadMessageCheck, "the challenge is not one of Intune's: it belongs to another MDM, or was made up"},
		"ChallengeDecryptionError":      {BadMessageCheck, "the challenge was not made for this tenant: check tenant and app registration"},
		"ChallengeDecodingError":        {BadMessageCheck, "the challenge is not one of Intune's: it belongs to another MDM, or was made up"},
		"ChallengeInvalidTimestamp":     {BadTime, "the challenge has an impossible time: it was tampered with, or a clock is wrong"},
		"ChallengeExpired":              {BadTime, "the challenge has expired: let the device sync with Intune to get a new one"},
		"SubjectNameMissing":            {BadRequest, "the request has no subject, but the SCEP profile has one"},
		"SubjectNameMismatch":           {BadRequest, "the request's subject is not the one in the SCEP profile: somebody asks for another's name, or the profile was changed meanwhile"},
		"SubjectAltNameMissing":         {BadRequest, "the request has no subject alternative name, but the SCEP profile has one"},
		"SubjectAltNameMismatch": {BadRequest,
			"the request's subject alternative name is not the one in the SCEP profile: somebody asks for another's name, or the profile was changed meanwhile"},
		"KeyUsageMismatch":            {BadRequest, "the request's key usage is not the one in the SCEP profile"},
		"KeyLengthMismatch":           {BadAlg, "the request's key does not have the size in the SCEP profile"},
		"EnhancedKeyUsageMissing":     {BadRequest, "the request has no extended key usage, but the SCEP profile has one"},
		"EnhancedKeyUsageMismatch":    {BadRequest, "the request's extended key usage is not the one in the SCEP profile"},
		"AadKeyIdentifierListMissing": {BadRequest, "Entra ID knows no key of this device: let it register with Entra ID again"},
		"RegisteredKeyMismatch":       {BadRequest, "the device's key is not the one registered with Entra ID: let it register again"},
		"SigningCertThumbprintMismatch": {BadMessageCheck,
			"the request is signed by another certificate than the device's Intune certificate: let it enrol in Intune again"},
		"ScepProfileNoLongerTargetedToTheClient": {BadRequest, "the SCEP profile is no longer assigned to this device or user"},
		"SignatureValidationFailed":              {BadMessageCheck, "the request's signature is wrong: it was tampered with on its way"},
		"BadCertificateRequestIdInChallenge":     {BadRequest, "the challenge belongs to another certificate request: let the device sync with Intune"},
		"BadDeviceIdInChallenge":                 {BadRequest, "the challenge was made for another device, or for one that Intune has deleted"},
		"BadUserIdInChallenge":                   {BadRequest, "the challenge was made for another user, or for one that Intune has deleted"},
	}
}

// refusal is Intune's "no", with what it wrote beside it.
func (n *Intune) refusal(code, description string) *Refusal {
	known, ok := intuneCodes()[code]
	if !ok {
		known = intuneCode{BadRequest, "Intune gives a reason that is not known here"}
	}
	r := &Refusal{Source: n.cfg.Name, Code: code, Info: known.info, Text: known.text}
	if description != "" {
		r.Text += " (Intune: " + clip(description, 255) + ")"
	}
	return r
}
