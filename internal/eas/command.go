package eas

import (
	"strconv"
	"strings"
)

// Command is a command of the protocol. The set is closed: what is not in it is refused with Status 137.
type Command uint8

// The commands up to protocol 16.1 (MS-ASHTTP, section 2.2.1.1.1.1.2). The collection commands of 2.5 and earlier,
// which 12.0 replaced by the Folder commands, are not among them. Options stands for the HTTP method OPTIONS, which
// has no command code; NoCommand is the zero value, a request whose command is not known.
const (
	NoCommand Command = iota
	Sync
	SendMail
	SmartForward
	SmartReply
	GetAttachment
	FolderSync
	FolderCreate
	FolderDelete
	FolderUpdate
	MoveItems
	GetItemEstimate
	MeetingResponse
	Search
	Settings
	Ping
	ItemOperations
	Provision
	ResolveRecipients
	ValidateCert
	Find
	Options
)

// Root says how the answer to a command carries a top-level Status: the code page of its root element and the tokens
// of the root and of its Status child (MS-ASWBXML, section 2.1.2.1).
type Root struct {
	Page            Page
	Element, Status byte
	Since           Version // the first version whose answer has this root
}

// info is what the tables of the standards say about one command; code is -1 where a command has none.
type info struct {
	name string
	code int
	root Root
}

func (c Command) info() info {
	switch c {
	case Sync:
		return info{"Sync", 0, Root{PageAirSync, 0x05, 0x0E, Version25}}
	case SendMail:
		return info{"SendMail", 1, Root{PageComposeMail, 0x05, 0x12, Version140}}
	case SmartForward:
		return info{"SmartForward", 2, Root{PageComposeMail, 0x06, 0x12, Version140}}
	case SmartReply:
		return info{"SmartReply", 3, Root{PageComposeMail, 0x07, 0x12, Version140}}
	case GetAttachment:
		return info{"GetAttachment", 4, Root{}}
	case FolderSync:
		return info{"FolderSync", 9, Root{PageFolderHierarchy, 0x16, 0x0C, Version25}}
	case FolderCreate:
		return info{"FolderCreate", 10, Root{PageFolderHierarchy, 0x13, 0x0C, Version25}}
	case FolderDelete:
		return info{"FolderDelete", 11, Root{PageFolderHierarchy, 0x14, 0x0C, Version25}}
	case FolderUpdate:
		return info{"FolderUpdate", 12, Root{PageFolderHierarchy, 0x15, 0x0C, Version25}}
	case MoveItems:
		return info{"MoveItems", 13, Root{PageMove, 0x05, 0x0B, Version25}}
	case GetItemEstimate:
		return info{"GetItemEstimate", 14, Root{PageGetItemEstimate, 0x05, 0x0E, Version25}}
	case MeetingResponse:
		return info{"MeetingResponse", 15, Root{PageMeetingResponse, 0x07, 0x0B, Version25}}
	case Search:
		return info{"Search", 16, Root{PageSearch, 0x05, 0x0C, Version25}}
	case Settings:
		return info{"Settings", 17, Root{PageSettings, 0x05, 0x06, Version120}}
	case Ping:
		return info{"Ping", 18, Root{PagePing, 0x05, 0x07, Version25}}
	case ItemOperations:
		return info{"ItemOperations", 19, Root{PageItemOperations, 0x05, 0x0D, Version120}}
	case Provision:
		return info{"Provision", 20, Root{PageProvision, 0x05, 0x0B, Version25}}
	case ResolveRecipients:
		return info{"ResolveRecipients", 21, Root{PageResolveRecipients, 0x05, 0x07, Version25}}
	case ValidateCert:
		return info{"ValidateCert", 22, Root{PageValidateCert, 0x05, 0x0A, Version25}}
	case Find:
		return info{"Find", 23, Root{PageFind, 0x05, 0x0A, Version161}}
	case Options:
		return info{"Options", -1, Root{}}
	}
	return info{"", -1, Root{}}
}

// Commands lists every command that has a code, in the order of the codes.
func Commands() []Command {
	all := make([]Command, 0, Find)
	for c := Sync; c <= Find; c++ {
		all = append(all, c)
	}
	return all
}

// ParseCommand reads the Cmd parameter of a plain query (MS-ASHTTP, section 2.2.1.1.1.2); letter case does not matter, as
// it does not to Exchange. The error is a [*RequestError] with the code [ReasonCommandNotSupported].
func ParseCommand(name string) (Command, error) {
	for c := Sync; c <= Find; c++ {
		if strings.EqualFold(name, c.info().name) {
			return c, nil
		}
	}
	return NoCommand, refuse(StatusCommandNotSupported, ReasonCommandNotSupported)
}

// CommandByCode reads the command code of a base64 query (MS-ASHTTP, section 2.2.1.1.1.1.2). The error is a
// [*RequestError] with the code [ReasonCommandNotSupported].
func CommandByCode(code byte) (Command, error) {
	for c := Sync; c <= Find; c++ {
		if c.info().code == int(code) {
			return c, nil
		}
	}
	return NoCommand, refuse(StatusCommandNotSupported, ReasonCommandNotSupported)
}

// String gives the command's name as the Cmd parameter spells it, "" for [NoCommand].
func (c Command) String() string { return c.info().name }

// Code gives the command code of the base64 query; ok is false where the command has none.
func (c Command) Code() (code byte, ok bool) {
	n := c.info().code
	return byte(max(n, 0)), n >= 0
}

// Root gives the root of the command's answer in version v; ok is false where that answer is not WBXML, as for
// GetAttachment, OPTIONS, and SendMail, SmartReply and SmartForward before 14.0.
func (c Command) Root(v Version) (root Root, ok bool) {
	root = c.info().root
	return root, root.Element != 0 && v.AtLeast(root.Since)
}

// HasRoot reports whether the command's answer in version v is WBXML with a root of its own; see [Command.Root].
func (c Command) HasRoot(v Version) bool {
	_, ok := c.Root(v)
	return ok
}

// Version is a protocol version times ten, as the base64 query carries it (MS-ASHTTP, section 2.2.1.1.1.1.1).
// Zero means that no version is known; it is below every real one.
type Version int

// The protocol versions that Postern knows. Exchange Online speaks only 16.1.
const (
	Version25  Version = 25
	Version120 Version = 120
	Version121 Version = 121
	Version140 Version = 140
	Version141 Version = 141
	Version160 Version = 160
	Version161 Version = 161
)

// ParseVersion reads the value of an MS-ASProtocolVersion header such as "14.1" (MS-ASHTTP, section 2.2.1.1.2.6).
// The error is a [*RequestError] with the code [ReasonVersionNotSupported].
func ParseVersion(s string) (Version, error) {
	switch s {
	case "2.5":
		return Version25, nil
	case "12.0":
		return Version120, nil
	case "12.1":
		return Version121, nil
	case "14.0":
		return Version140, nil
	case "14.1":
		return Version141, nil
	case "16.0":
		return Version160, nil
	case "16.1":
		return Version161, nil
	}
	return 0, refuse(StatusVersionNotSupported, ReasonVersionNotSupported)
}

// versionOfByte reads the first byte of a base64 query, which exists only from 12.1 on.
func versionOfByte(b byte) (Version, error) {
	switch v := Version(b); v {
	case Version121, Version140, Version141, Version160, Version161:
		return v, nil
	}
	return 0, refuse(StatusVersionNotSupported, ReasonVersionNotSupported)
}

// String gives the version as headers spell it, "" for none.
func (v Version) String() string {
	if v <= 0 {
		return ""
	}
	return strconv.Itoa(int(v)/10) + "." + strconv.Itoa(int(v)%10)
}

// AtLeast reports whether v is the version w or a later one.
func (v Version) AtLeast(w Version) bool { return v >= w }
