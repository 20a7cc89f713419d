package lab

import (
	"crypto/rand"
	"encoding/binary"
	"strconv"

	"postern/internal/eas"
)

// The policy types of MS-ASPROV, section 2.2.2, PolicyType; the first is for protocol 2.5 only.
const (
	policyTypeXML   = "MS-WAP-Provisioning-XML"
	policyTypeWBXML = "MS-EAS-Provisioning-WBXML"
)

// provisioned checks the policy key, which Exchange wants with every command but these (MS-ASPROV, section 3.1.5.1).
func (e *Exchange) provisioned(c *call) eas.Status {
	if c.Command == eas.Provision || c.Command == eas.Ping {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch key := c.partner.policyKey; {
	case c.PolicyKey == 0 || key == 0:
		return eas.StatusDeviceNotProvisioned
	case c.PolicyKey != key:
		return eas.StatusInvalidPolicyKey
	}
	return 0
}

// provision answers both phases (MS-ASPROV, section 3.2.5.1): the policy with a key that is good for nothing but the second
// phase, and the key for everything else once the client says that it has applied the policy.
func (e *Exchange) provision(c *call) answer {
	policy := c.doc.Find("Policies", "Policy")
	if policy == nil {
		return e.wipeAcknowledged(c)
	}
	_, informed, err := eas.ReadDeviceInformation(c.body)
	if err != nil {
		return refuse(c.Request, eas.StatusInvalidXML)
	}
	kind, key := policy.Value("PolicyType"), policy.Value("PolicyKey")
	want := policyTypeWBXML
	if !c.Version.AtLeast(eas.Version120) {
		want = policyTypeXML
	}
	enc := eas.NewEncoder().Start(eas.PageProvision, "Provision")
	if informed {
		enc.Start(eas.PageSettings, "DeviceInformation").Element(eas.PageSettings, "Status", "1").End()
	}
	enc.Element(eas.PageProvision, "Status", "1").Start(eas.PageProvision, "Policies").Start(eas.PageProvision, "Policy").
		Element(eas.PageProvision, "PolicyType", want)
	switch {
	case kind != want:
		enc.Element(eas.PageProvision, "Status", "3") // unknown policy type
	case key == "" && !informed && c.Version.AtLeast(eas.Version141):
		return refuse(c.Request, eas.StatusDeviceInformationRequired)
	case key == "":
		e.offerPolicy(c, enc)
	default:
		e.grantKey(c, enc, key, policy.Value("Status"))
	}
	return document(enc.End().End().End())
}

// wipeAcknowledged answers a Provision without a policy: only a client that acknowledges a wipe, which this Exchange never
// asks for, has reason to send one.
func (e *Exchange) wipeAcknowledged(c *call) answer {
	return document(eas.NewEncoder().Start(eas.PageProvision, "Provision").Element(eas.PageProvision, "Status", "2").End())
}

// offerPolicy writes the first phase.
func (e *Exchange) offerPolicy(c *call, enc *eas.Encoder) {
	e.mu.Lock()
	c.partner.offered = newPolicyKey()
	key := c.partner.offered
	e.mu.Unlock()
	enc.Element(eas.PageProvision, "Status", "1").
		Element(eas.PageProvision, "PolicyKey", strconv.FormatUint(uint64(key), 10)).
		Start(eas.PageProvision, "Data")
	if !c.Version.AtLeast(eas.Version120) {
		enc.Text(`<wap-provisioningdoc><characteristic type="SecurityPolicy"><parm name="4131" value="1"/></characteristic></wap-provisioningdoc>`)
	} else {
		enc.Start(eas.PageProvision, "EASProvisionDoc").
			Element(eas.PageProvision, "DevicePasswordEnabled", "0").
			Element(eas.PageProvision, "PasswordRecoveryEnabled", "0").
			Element(eas.PageProvision, "AttachmentsEnabled", "1").
			Element(eas.PageProvision, "AllowSimpleDevicePassword", "1").
			Element(eas.PageProvision, "MaxInactivityTimeDeviceLock", "900").
			End()
	}
	enc.End()
}

// grantKey writes the second phase.
func (e *Exchange) grantKey(c *call, enc *eas.Encoder, key, applied string) {
	n, err := strconv.ParseUint(key, 10, 32)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil || c.partner.offered == 0 || uint32(n) != c.partner.offered {
		enc.Element(eas.PageProvision, "Status", "5") // wrong policy key
		return
	}
	if applied != "1" {
		enc.Element(eas.PageProvision, "Status", "4") // the policy is not applied: no key
		return
	}
	c.partner.offered, c.partner.policyKey = 0, newPolicyKey()
	enc.Element(eas.PageProvision, "Status", "1").
		Element(eas.PageProvision, "PolicyKey", strconv.FormatUint(uint64(c.partner.policyKey), 10))
}

func newPolicyKey() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint32(b[:]) | 1 // never zero, which means none
}
