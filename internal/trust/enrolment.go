package trust

// Submission is a first enrolment as it came over SCEP, for whoever can say whether its challenge is genuine: an MDM's validation service, or a webhook.
type Submission struct {
	Issuer        string
	TransactionID string
	CSR           []byte // DER
	Challenge     string // secret: never logged
	Remote        string // network address of the requester
}

// Applicant is who a validated Submission is from, in the words of the one who validated it. Mail is required, and so is one of SerialNumber and UDID.
type Applicant struct {
	Mail, UPN    string
	SerialNumber string
	UDID         string // of the hardware, or the MDM's id of the device where that is all there is
	EASDeviceID  string
	Model, OS    string
	Source       string // who said so: "intune", or the name of the webhook
	KeyAttested  bool   // that the key is held in hardware was proved
}
