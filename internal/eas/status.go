package eas

import (
	"net/http"
	"strconv"
	"strings"
)

// Status is a common status code (MS-ASCMD, section 2.2.2): what the top-level Status element of an answer says.
type Status int

// The status codes that a gate has reasons to send. Status 129 is final for a phone; 111 asks it to come back.
const (
	StatusInvalidContent                     Status = 101
	StatusInvalidWBXML                       Status = 102
	StatusInvalidXML                         Status = 103
	StatusInvalidIDs                         Status = 106
	StatusDeviceIDMissingOrInvalid           Status = 108
	StatusDeviceTypeMissingOrInvalid         Status = 109
	StatusServerError                        Status = 110
	StatusServerErrorRetryLater              Status = 111
	StatusActiveDirectoryAccessDenied        Status = 112
	StatusUserHasNoMailbox                   Status = 123
	StatusUserCannotBeAnonymous              Status = 124
	StatusUserPrincipalCouldNotBeFound       Status = 125
	StatusUserDisabledForSync                Status = 126
	StatusUserOnNewMailboxCannotSync         Status = 127
	StatusUserOnLegacyMailboxCannotSync      Status = 128
	StatusDeviceIsBlockedForThisUser         Status = 129
	StatusAccessDenied                       Status = 130
	StatusAccountDisabled                    Status = 131
	StatusCommandNotSupported                Status = 137
	StatusVersionNotSupported                Status = 138
	StatusDeviceNotFullyProvisionable        Status = 139
	StatusRemoteWipeRequested                Status = 140
	StatusLegacyDeviceOnStrictPolicy         Status = 141
	StatusDeviceNotProvisioned               Status = 142
	StatusPolicyRefresh                      Status = 143
	StatusInvalidPolicyKey                   Status = 144
	StatusExternallyManagedDevicesNotAllowed Status = 145
	StatusDeviceInformationRequired          Status = 165
	StatusMaximumDevicesReached              Status = 177
	lastStatus140                            Status = 163
	lastStatus141                            Status = 177
	lastStatus160                            Status = 183
	lastStatus161                            Status = 184
)

// statusNames is the whole table of MS-ASCMD, section 2.2.2; the answers of Exchange hold more codes than a gate sends.
const statusNames = " 101:InvalidContent 102:InvalidWBXML 103:InvalidXML 104:InvalidDateTime 105:InvalidCombinationOfIDs" +
	" 106:InvalidIDs 107:InvalidMIME 108:DeviceIdMissingOrInvalid 109:DeviceTypeMissingOrInvalid 110:ServerError" +
	" 111:ServerErrorRetryLater 112:ActiveDirectoryAccessDenied 113:MailboxQuotaExceeded 114:MailboxServerOffline" +
	" 115:SendQuotaExceeded 116:MessageRecipientUnresolved 117:MessageReplyNotAllowed 118:MessagePreviouslySent" +
	" 119:MessageHasNoRecipient 120:MailSubmissionFailed 121:MessageReplyFailed 122:AttachmentIsTooLarge" +
	" 123:UserHasNoMailbox 124:UserCannotBeAnonymous 125:UserPrincipalCouldNotBeFound 126:UserDisabledForSync" +
	" 127:UserOnNewMailboxCannotSync 128:UserOnLegacyMailboxCannotSync 129:DeviceIsBlockedForThisUser" +
	" 130:AccessDenied 131:AccountDisabled 132:SyncStateNotFound 133:SyncStateLocked 134:SyncStateCorrupt" +
	" 135:SyncStateAlreadyExists 136:SyncStateVersionInvalid 137:CommandNotSupported 138:VersionNotSupported" +
	" 139:DeviceNotFullyProvisionable 140:RemoteWipeRequested 141:LegacyDeviceOnStrictPolicy" +
	" 142:DeviceNotProvisioned 143:PolicyRefresh 144:InvalidPolicyKey 145:ExternallyManagedDevicesNotAllowed" +
	" 146:NoRecurrenceInCalendar 147:UnexpectedItemClass 148:RemoteServerHasNoSSL 149:InvalidStoredRequest" +
	" 150:ItemNotFound 151:TooManyFolders 152:NoFoldersFound 153:ItemsLostAfterMove 154:FailureInMoveOperation" +
	" 155:MoveCommandDisallowedForNonPersistentMoveAction 156:MoveCommandInvalidDestinationFolder" +
	" 160:AvailabilityTooManyRecipients 161:AvailabilityDLLimitReached 162:AvailabilityTransientFailure" +
	" 163:AvailabilityFailure 164:BodyPartPreferenceTypeNotSupported 165:DeviceInformationRequired" +
	" 166:InvalidAccountId 167:AccountSendDisabled 168:IRM_FeatureDisabled 169:IRM_TransientError" +
	" 170:IRM_PermanentError 171:IRM_InvalidTemplateID 172:IRM_OperationNotPermitted 173:NoPicture" +
	" 174:PictureTooLarge 175:PictureLimitReached 176:BodyPart_ConversationTooLarge 177:MaximumDevicesReached" +
	" 178:InvalidMimeBodyCombination 179:InvalidSmartForwardParameters 183:InvalidRecipients" +
	" 184:OneOrMoreExceptionsFailed "

// String gives the name that MS-ASCMD gives the code, or the number where it has none.
func (s Status) String() string {
	n := strconv.Itoa(int(s))
	_, rest, ok := strings.Cut(statusNames, " "+n+":")
	if !ok {
		return n
	}
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// DefinedFor reports whether a client of version v knows the code as an element of an answer (MS-ASCMD, section 2.2.2);
// before 14.0 no common status code exists.
func (s Status) DefinedFor(v Version) bool {
	last := Status(0)
	switch {
	case v.AtLeast(Version161):
		last = lastStatus161
	case v.AtLeast(Version160):
		last = lastStatus160
	case v.AtLeast(Version141):
		last = lastStatus141
	case v.AtLeast(Version140):
		last = lastStatus140
	}
	return s >= StatusInvalidContent && s <= last && s.String() != strconv.Itoa(int(s))
}

// HTTPStatus gives the HTTP status code that stands for s where the answer cannot hold a Status element: before 14.0,
// or for a command without WBXML (MS-ASCMD, section 2.2.2; MS-ASHTTP, section 2.2.2.1.1). It is never 401, which a phone
// turns into a password prompt, and never a success: a code that is not known is 500.
func (s Status) HTTPStatus() int {
	switch {
	case s == StatusServerErrorRetryLater, s == 114:
		return http.StatusServiceUnavailable
	case s == 113, s == 115:
		return http.StatusInsufficientStorage
	case s == StatusCommandNotSupported, s == 147:
		return http.StatusNotImplemented
	case s >= StatusRemoteWipeRequested && s <= StatusInvalidPolicyKey:
		return statusNeedProvisioning
	case s >= 101 && s <= 109, s == StatusVersionNotSupported, s == StatusDeviceInformationRequired:
		return http.StatusBadRequest
	case s == 112, s >= 123 && s <= 132, s == StatusDeviceNotFullyProvisionable, s == 145, s == 177:
		return http.StatusForbidden
	}
	return http.StatusInternalServerError
}

// statusNeedProvisioning is HTTP 449: the client has to run Provision (MS-ASHTTP, section 2.2.2.1.1).
const statusNeedProvisioning = 449

// ContentTypeWBXML is the Content-Type of a WBXML body (MS-ASHTTP, section 2.2.1.1.2.2).
const ContentTypeWBXML = "application/vnd.ms-sync.wbxml"

// Refusal gives the answer that refuses a request in the protocol's own words, as Exchange does. Where the version is
// 14.0 or later, the command's answer is WBXML and the version defines the status, it is HTTP 200 and the command's root
// with a single Status (MS-ASCMD, section 2.2.2); otherwise it is the bare HTTP status with an empty body and no
// content type. It is never 401. A version of zero, one that could not be read, gets the bare HTTP status.
//
// An answer of 503 (Status 111) ought to carry Retry-After; headers are the caller's.
func Refusal(c Command, v Version, s Status) (httpStatus int, contentType string, body []byte) {
	root, ok := c.Root(v)
	if !ok || !s.DefinedFor(v) {
		return s.HTTPStatus(), "", nil
	}
	e := NewEncoder()
	e.start(root.Page, root.Element)
	e.start(root.Page, root.Status)
	e.Text(strconv.Itoa(int(s)))
	e.End()
	e.End()
	body, err := e.Bytes()
	if err != nil {
		return s.HTTPStatus(), "", nil
	}
	return http.StatusOK, ContentTypeWBXML, body
}
