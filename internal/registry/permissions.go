package registry

import (
	"slices"

	"postern/internal/trust"
)

// The actions that are authorised and audited.
const (
	ActDeviceAdd       = "device.add"
	ActDeviceUpdate    = "device.update"
	ActDeviceRetire    = "device.retire"
	ActDeviceReassign  = "device.reassign"
	ActDeviceState     = "device.state"
	ActOwnerPut        = "owner.put"
	ActDeviceSuspend   = "device.suspend"
	ActDeviceReinstate = "device.reinstate"
	ActOwnerSuspend    = "owner.suspend"
	ActOwnerReinstate  = "owner.reinstate"
	ActChallenge       = "challenge.create"
	ActUnbound         = "challenge.unbound"
	ActEnrol           = "certificate.enrol"
	ActRenew           = "certificate.renew"
	ActPend            = "certificate.pend"
	ActApprove         = "certificate.approve"
	ActReject          = "certificate.reject"
	ActConfirm         = "certificate.confirm"
	ActWithdraw        = "certificate.withdraw"
	ActDeviceReport    = "device.report"
	ActRevoke          = "certificate.revoke"
	ActHold            = "certificate.hold"
	ActRelease         = "certificate.release"
	ActUsed            = "certificate.used"
	ActSweep           = "registry.sweep"
	ActProfileObserve  = "profile.observe"
	ActProfileLink     = "profile.link"
	ActProfileForget   = "profile.forget"
	ActProfileSettle   = "profile.settle"
	ActPublish         = "crl.publish"
	ActCRLCommit       = "crl.commit"
	ActCRLRestore      = "crl.restore"
	ActCAPut           = "ca.put"
	ActTokenCreate     = "token.create"
	ActTokenRevoke     = "token.revoke"
	ActTokenList       = "token.list"
	ActTicketCreate    = "ticket.create"
	ActTicketRevoke    = "ticket.revoke"
	ActGrantRecord     = "grant.record"
)

// rights returns the actions of a principal. Reading needs no right here: the admin door asks MayRead.
func rights(p trust.Principal) []string {
	switch p.Kind {
	case "scep":
		return []string{ActEnrol, ActRenew, ActPend, ActConfirm, ActWithdraw}
	case "mdm":
		return []string{ActDeviceReport, ActChallenge, ActUnbound, ActRevoke}
	case "edge":
		return []string{ActProfileObserve, ActUsed, ActGrantRecord}
	case "publisher":
		return []string{ActCRLCommit, ActCRLRestore}
	case "policy":
		return []string{ActDeviceSuspend, ActDeviceRetire}
	case "system":
		return []string{ActLifecycle, ActCAPut, ActPublish, ActSweep, ActPolicyPut, ActPolicyActivate}
	}
	switch p.Role {
	case trust.PKIOfficer:
		return []string{ActDeviceAdd, ActDeviceUpdate, ActDeviceRetire, ActDeviceReassign, ActDeviceState, ActOwnerPut, ActDeviceSuspend, ActDeviceReinstate,
			ActOwnerSuspend, ActOwnerReinstate, ActChallenge, ActApprove, ActReject, ActRevoke, ActRevokeApprove, ActRevokeWithdraw, ActHold,
			ActRelease, ActProfileLink, ActProfileForget, ActProfileSettle, ActPublish, ActTicketCreate, ActTicketRevoke, ActExceptionGrant, ActExceptionRevoke, ActLifecycle}
	case trust.PolicyAuthor:
		return []string{ActPolicyPut, ActPolicyActivate, ActPolicyShadow, ActExceptionGrant, ActExceptionRevoke}
	case trust.HelpDesk:
		return []string{ActDeviceSuspend, ActDeviceReinstate, ActOwnerSuspend, ActOwnerReinstate, ActChallenge, ActHold, ActRelease, ActProfileLink, ActProfileForget, ActProfileSettle,
			ActTicketRevoke, ActExceptionGrant, ActExceptionRevoke}
	}
	return nil
}

// permitted reports whether p may do the action. Root may do what administrators do, and nothing that only a door does on its own evidence.
func permitted(p trust.Principal, action string) bool {
	if p.Role == trust.Root {
		switch action {
		case ActUnbound, ActEnrol, ActRenew, ActPend, ActConfirm, ActWithdraw, ActDeviceReport, ActCRLCommit, ActCRLRestore, ActProfileObserve, ActUsed, ActSweep, ActGrantRecord:
			return false
		}
		return true
	}
	return slices.Contains(rights(p), action)
}

// MayRead reports whether the principal may look at what the registry and the journal hold. Access tokens are listed to root alone.
func MayRead(p trust.Principal) bool {
	switch p.Role {
	case trust.Root, trust.PKIOfficer, trust.HelpDesk, trust.PolicyAuthor, trust.Auditor:
		return true
	}
	return false
}
