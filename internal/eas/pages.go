package eas

import (
	"strconv"
	"strings"
)

// Page is a WBXML code page of ActiveSync (MS-ASWBXML, section 2.1.2.1).
type Page byte

// The code pages whose names Postern knows. A document may use any page up to [lastPage].
const (
	PageAirSync           Page = 0
	PageEmail             Page = 2
	PageMove              Page = 5
	PageGetItemEstimate   Page = 6
	PageFolderHierarchy   Page = 7
	PageMeetingResponse   Page = 8
	PageResolveRecipients Page = 10
	PageValidateCert      Page = 11
	PagePing              Page = 13
	PageProvision         Page = 14
	PageSearch            Page = 15
	PageAirSyncBase       Page = 17
	PageSettings          Page = 18
	PageItemOperations    Page = 20
	PageComposeMail       Page = 21
	PageFind              Page = 25

	lastPage = PageFind
)

// Each table holds " XX:Name" for every token of a page, the token in upper-case hexadecimal (MS-ASWBXML, sections
// 2.1.2.1.1 to 2.1.2.1.26). Text instead of a map: it cannot change, and costs nothing until it is looked at.
const (
	namesAirSync = " 05:Sync 06:Responses 07:Add 08:Change 09:Delete 0A:Fetch 0B:SyncKey 0C:ClientId 0D:ServerId 0E:Status" +
		" 0F:Collection 10:Class 12:CollectionId 13:GetChanges 14:MoreAvailable 15:WindowSize 16:Commands 17:Options" +
		" 18:FilterType 1B:Conflict 1C:Collections 1D:ApplicationData 1E:DeletesAsMoves 20:Supported 21:SoftDelete" +
		" 22:MIMESupport 23:MIMETruncation 24:Wait 25:Limit 26:Partial 27:ConversationMode 28:MaxItems" +
		" 29:HeartbeatInterval "
	namesEmail = " 0F:DateReceived 11:DisplayTo 12:Importance 13:MessageClass 14:Subject 15:Read 16:To 17:Cc 18:From" +
		" 19:ReplyTo 1A:AllDayEvent 1B:Categories 1C:Category 1D:DtStamp 1E:EndTime 1F:InstanceType 20:BusyStatus" +
		" 21:Location 22:MeetingRequest 23:Organizer 24:RecurrenceId 25:Reminder 26:ResponseRequested 27:Recurrences" +
		" 28:Recurrence 29:Type 2A:Until 2B:Occurrences 2C:Interval 2D:DayOfWeek 2E:DayOfMonth 2F:WeekOfMonth" +
		" 30:MonthOfYear 31:StartTime 32:Sensitivity 33:TimeZone 34:GlobalObjId 35:ThreadTopic 39:InternetCPID 3A:Flag" +
		" 3B:Status 3C:ContentClass 3D:FlagType 3E:CompleteTime 3F:DisallowNewTimeProposal "
	namesMove = " 05:MoveItems 06:Move 07:SrcMsgId 08:SrcFldId 09:DstFldId 0A:Response 0B:Status 0C:DstMsgId "
	namesGIE  = " 05:GetItemEstimate 07:Collections 08:Collection 09:Class 0A:CollectionId 0C:Estimate 0D:Response 0E:Status "

	namesFolderHierarchy = " 05:Folders 06:Folder 07:DisplayName 08:ServerId 09:ParentId 0A:Type 0C:Status 0E:Changes 0F:Add" +
		" 10:Delete 11:Update 12:SyncKey 13:FolderCreate 14:FolderDelete 15:FolderUpdate 16:FolderSync 17:Count "
	namesMeetingResponse = " 05:CalendarId 06:CollectionId 07:MeetingResponse 08:RequestId 09:Request 0A:Result 0B:Status" +
		" 0C:UserResponse 0E:InstanceId 12:SendResponse "
	namesResolveRecipients = " 05:ResolveRecipients 06:Response 07:Status 08:Type 09:Recipient 0A:DisplayName 0B:EmailAddress" +
		" 0C:Certificates 0D:Certificate 0E:MiniCertificate 0F:Options 10:To 11:CertificateRetrieval 12:RecipientCount" +
		" 13:MaxCertificates 14:MaxAmbiguousRecipients 15:CertificateCount 16:Availability 17:StartTime 18:EndTime" +
		" 19:MergedFreeBusy 1A:Picture 1B:MaxSize 1C:Data 1D:MaxPictures "
	namesValidateCert = " 05:ValidateCert 06:Certificates 07:Certificate 08:CertificateChain 09:CheckCrl 0A:Status "
	namesPing         = " 05:Ping 07:Status 08:HeartbeatInterval 09:Folders 0A:Folder 0B:Id 0C:Class 0D:MaxFolders "
	namesProvision    = " 05:Provision 06:Policies 07:Policy 08:PolicyType 09:PolicyKey 0A:Data 0B:Status 0C:RemoteWipe" +
		" 0D:EASProvisionDoc 0E:DevicePasswordEnabled 0F:AlphanumericDevicePasswordRequired" +
		" 10:RequireStorageCardEncryption 11:PasswordRecoveryEnabled 13:AttachmentsEnabled 14:MinDevicePasswordLength" +
		" 15:MaxInactivityTimeDeviceLock 16:MaxDevicePasswordFailedAttempts 17:MaxAttachmentSize" +
		" 18:AllowSimpleDevicePassword 19:DevicePasswordExpiration 1A:DevicePasswordHistory 1B:AllowStorageCard" +
		" 1C:AllowCamera 1D:RequireDeviceEncryption 1E:AllowUnsignedApplications 1F:AllowUnsignedInstallationPackages" +
		" 20:MinDevicePasswordComplexCharacters 21:AllowWiFi 22:AllowTextMessaging 23:AllowPOPIMAPEmail" +
		" 24:AllowBluetooth 25:AllowIrDA 26:RequireManualSyncWhenRoaming 27:AllowDesktopSync 28:MaxCalendarAgeFilter" +
		" 29:AllowHTMLEmail 2A:MaxEmailAgeFilter 2B:MaxEmailBodyTruncationSize 2C:MaxEmailHTMLBodyTruncationSize" +
		" 2D:RequireSignedSMIMEMessages 2E:RequireEncryptedSMIMEMessages 2F:RequireSignedSMIMEAlgorithm" +
		" 30:RequireEncryptionSMIMEAlgorithm 31:AllowSMIMEEncryptionAlgorithmNegotiation 32:AllowSMIMESoftCerts" +
		" 33:AllowBrowser 34:AllowConsumerEmail 35:AllowRemoteDesktop 36:AllowInternetSharing" +
		" 37:UnapprovedInROMApplicationList 38:ApplicationName 39:ApprovedApplicationList 3A:Hash" +
		" 3B:AccountOnlyRemoteWipe "
	namesSearch = " 05:Search 07:Store 08:Name 09:Query 0A:Options 0B:Range 0C:Status 0D:Response 0E:Result 0F:Properties" +
		" 10:Total 11:EqualTo 12:Value 13:And 14:Or 15:FreeText 17:DeepTraversal 18:LongId 19:RebuildResults" +
		" 1A:LessThan 1B:GreaterThan 1E:UserName 1F:Password 20:ConversationId 21:Picture 22:MaxSize 23:MaxPictures "
	namesAirSyncBase = " 05:BodyPreference 06:Type 07:TruncationSize 08:AllOrNone 0A:Body 0B:Data 0C:EstimatedDataSize" +
		" 0D:Truncated 0E:Attachments 0F:Attachment 10:DisplayName 11:FileReference 12:Method 13:ContentId" +
		" 14:ContentLocation 15:IsInline 16:NativeBodyType 17:ContentType 18:Preview 19:BodyPartPreference 1A:BodyPart" +
		" 1B:Status 1C:Add 1D:Delete 1E:ClientId 1F:Content 20:Location 21:Annotation 22:Street 23:City 24:State" +
		" 25:Country 26:PostalCode 27:Latitude 28:Longitude 29:Accuracy 2A:Altitude 2B:AltitudeAccuracy 2C:LocationUri" +
		" 2D:InstanceId "
	namesSettings = " 05:Settings 06:Status 07:Get 08:Set 09:Oof 0A:OofState 0B:StartTime 0C:EndTime 0D:OofMessage" +
		" 0E:AppliesToInternal 0F:AppliesToExternalKnown 10:AppliesToExternalUnknown 11:Enabled 12:ReplyMessage" +
		" 13:BodyType 14:DevicePassword 15:Password 16:DeviceInformation 17:Model 18:IMEI 19:FriendlyName 1A:OS" +
		" 1B:OSLanguage 1C:PhoneNumber 1D:UserInformation 1E:EmailAddresses 1F:SMTPAddress 20:UserAgent" +
		" 21:EnableOutboundSMS 22:MobileOperator 23:PrimarySmtpAddress 24:Accounts 25:Account 26:AccountId" +
		" 27:AccountName 28:UserDisplayName 29:SendDisabled 2B:RightsManagementInformation "
	namesItemOperations = " 05:ItemOperations 06:Fetch 07:Store 08:Options 09:Range 0A:Total 0B:Properties 0C:Data 0D:Status" +
		" 0E:Response 0F:Version 10:Schema 11:Part 12:EmptyFolderContents 13:DeleteSubFolders 14:UserName 15:Password" +
		" 16:Move 17:DstFldId 18:ConversationId 19:MoveAlways "
	namesComposeMail = " 05:SendMail 06:SmartForward 07:SmartReply 08:SaveInSentItems 09:ReplaceMime 0B:Source 0C:FolderId" +
		" 0D:ItemId 0E:LongId 0F:InstanceId 10:Mime 11:ClientId 12:Status 13:AccountId 15:Forwardees 16:Forwardee" +
		" 17:ForwardeeName 18:ForwardeeEmail "
	namesFind = " 05:Find 06:SearchId 07:ExecuteSearch 08:MailBoxSearchCriterion 09:Query 0A:Status 0B:FreeText 0C:Options" +
		" 0D:Range 0E:DeepTraversal 11:Response 12:Result 13:Properties 14:Preview 15:HasAttachments 16:Total" +
		" 17:DisplayCc 18:DisplayBcc 19:GALSearchCriterion 20:MaxPictures 21:MaxSize 22:Picture "
)

func (p Page) names() string {
	switch p {
	case PageAirSync:
		return namesAirSync
	case PageEmail:
		return namesEmail
	case PageMove:
		return namesMove
	case PageGetItemEstimate:
		return namesGIE
	case PageFolderHierarchy:
		return namesFolderHierarchy
	case PageMeetingResponse:
		return namesMeetingResponse
	case PageResolveRecipients:
		return namesResolveRecipients
	case PageValidateCert:
		return namesValidateCert
	case PagePing:
		return namesPing
	case PageProvision:
		return namesProvision
	case PageSearch:
		return namesSearch
	case PageAirSyncBase:
		return namesAirSyncBase
	case PageSettings:
		return namesSettings
	case PageItemOperations:
		return namesItemOperations
	case PageComposeMail:
		return namesComposeMail
	case PageFind:
		return namesFind
	}
	return ""
}

// Token gives the token of an element by its name; ok is false where the page has no such element.
func (p Page) Token(name string) (token byte, ok bool) {
	names := p.names()
	at := strings.Index(names, ":"+name+" ")
	if at < 2 || name == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(names[at-2:at], 16, 8)
	return byte(n), err == nil
}

// Name gives the name of an element by its token, "" where Postern knows none.
func (p Page) Name(token byte) string {
	const digits = "0123456789ABCDEF"
	_, rest, ok := strings.Cut(p.names(), " "+string([]byte{digits[token>>4], digits[token&15]})+":")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, " ")
	return name
}
