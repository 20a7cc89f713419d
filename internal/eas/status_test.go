package eas

import (
	"encoding/hex"
	"strings"
	"testing"
)

// golden holds, for each command with a WBXML answer, the bytes of Status 129 after the header.
func golden() map[Command]string {
	const end = "03313239000101"
	return map[Command]string{
		Sync: "454E" + end, FolderSync: "0007564C" + end, FolderCreate: "0007534C" + end, FolderDelete: "0007544C" + end,
		FolderUpdate: "0007554C" + end, MoveItems: "0005454B" + end, GetItemEstimate: "0006454E" + end,
		MeetingResponse: "0008474B" + end, ResolveRecipients: "000A4547" + end, ValidateCert: "000B454A" + end,
		Ping: "000D4547" + end, Provision: "000E454B" + end, Search: "000F454C" + end, Settings: "00124546" + end,
		ItemOperations: "0014454D" + end, SendMail: "00154552" + end, SmartForward: "00154652" + end,
		SmartReply: "00154752" + end, Find: "0019454A" + end,
	}
}

func TestRefusalBytes(t *testing.T) {
	want := golden()
	for _, c := range Commands() {
		code, contentType, body := Refusal(c, Version161, StatusDeviceIsBlockedForThisUser)
		if want[c] == "" {
			if code != 403 || contentType != "" || len(body) != 0 {
				t.Errorf("%s: %d %q %x", c, code, contentType, body)
			}
			continue
		}
		if got := strings.ToUpper(hex.EncodeToString(body)); code != 200 || contentType != ContentTypeWBXML || got != "03016A00"+want[c] {
			t.Errorf("%s: %d %q\ngot  %s\nwant 03016A00%s", c, code, contentType, got, want[c])
		}
		root, err := Decode(body, 0)
		if err != nil || root.Name != rootName(c) || root.Value("Status") != "129" {
			t.Errorf("%s: own decoder: %+v, %v", c, root, err)
		}
	}
}

// rootName is the name of a command's root element, which is that of the command.
func rootName(c Command) string { return c.String() }

func TestRefusalByVersionAndStatus(t *testing.T) {
	tests := []struct {
		command Command
		version Version
		status  Status
		code    int
	}{
		{FolderSync, 0, StatusVersionNotSupported, 400},
		{FolderSync, Version25, StatusDeviceIsBlockedForThisUser, 403},
		{FolderSync, Version121, StatusDeviceIsBlockedForThisUser, 403},
		{FolderSync, Version140, StatusDeviceIsBlockedForThisUser, 200},
		{SendMail, Version121, StatusDeviceIsBlockedForThisUser, 403},
		{SendMail, Version140, StatusDeviceIsBlockedForThisUser, 200},
		{Find, Version160, StatusDeviceIsBlockedForThisUser, 403},
		{GetAttachment, Version161, StatusDeviceIsBlockedForThisUser, 403},
		{Options, Version161, StatusDeviceIsBlockedForThisUser, 403},
		{NoCommand, Version161, StatusCommandNotSupported, 501},
		{Ping, Version140, StatusMaximumDevicesReached, 403},
		{Ping, Version141, StatusMaximumDevicesReached, 200},
		{Ping, Version140, StatusDeviceInformationRequired, 400},
		{Ping, Version141, 183, 500},
		{Ping, Version160, 183, 200},
		{Ping, Version160, 184, 500},
		{Ping, Version161, 184, 200},
		{Ping, Version161, 185, 500},
		{Ping, Version161, 157, 500}, // not in the table
		{Ping, Version161, 1, 500},
		{Ping, Version161, 0, 500},
		{Ping, Version121, StatusServerErrorRetryLater, 503},
		{Ping, Version121, StatusDeviceNotProvisioned, 449},
		{Ping, Version121, StatusDeviceIDMissingOrInvalid, 400},
		{Ping, Version121, StatusServerError, 500},
	}
	for _, tt := range tests {
		code, _, body := Refusal(tt.command, tt.version, tt.status)
		if code != tt.code || (code == 200) != (len(body) > 0) {
			t.Errorf("%s %s %d: %d with %d bytes, want %d", tt.command, tt.version, tt.status, code, len(body), tt.code)
		}
	}
}

func TestRefusalIsNever401(t *testing.T) {
	for c := NoCommand; c <= Options+1; c++ {
		for v := Version(0); v < 200; v++ {
			for s := Status(-1); s < 200; s++ {
				code, _, body := Refusal(c, v, s)
				if code == 401 || code < 400 && (code != 200 || len(body) == 0) {
					t.Fatalf("%s %s %d: HTTP %d with %d bytes", c, v, s, code, len(body))
				}
			}
		}
	}
}

func TestStatusNames(t *testing.T) {
	for s, want := range map[Status]string{101: "InvalidContent", 129: "DeviceIsBlockedForThisUser", 184: "OneOrMoreExceptionsFailed", 157: "157", 0: "0", 1: "1"} {
		if s.String() != want {
			t.Errorf("%d is %q, want %q", int(s), s, want)
		}
	}
}
