package eas

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"postern/internal/peertest"
)

// foreignXML decodes a document by libwbxml.
func foreignXML(t *testing.T, program string, body []byte) string {
	t.Helper()
	in := filepath.Join(t.TempDir(), "in.wbxml")
	out := in + ".xml"
	if err := os.WriteFile(in, body, 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(program, "-l", "ACTIVESYNC", "-m", "0", "-o", out, in).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", program, err, said)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatalf("%s: %v: %s", program, err, said)
	}
	return string(bytes.TrimSpace(data))
}

// TestRefusalsByPeer has libwbxml read every refusal of every command in every version that has one in WBXML, with each Status that a gate sends.
func TestRefusalsByPeer(t *testing.T) {
	program := peertest.Find(t, "wbxml2xml")
	read := 0
	for _, c := range Commands() {
		t.Run(c.String(), func(t *testing.T) {
			seen := map[string]bool{} // most versions have the same bytes
			for _, v := range []Version{Version25, Version120, Version121, Version140, Version141, Version160, Version161} {
				for _, s := range []Status{StatusInvalidContent, StatusDeviceIDMissingOrInvalid, StatusServerErrorRetryLater, StatusDeviceIsBlockedForThisUser, StatusVersionNotSupported, StatusMaximumDevicesReached} {
					code, _, body := Refusal(c, v, s)
					if code != http.StatusOK && len(body) == 0 || seen[string(body)] {
						continue
					}
					seen[string(body)] = true
					text := foreignXML(t, program, body)
					if c == Find && !strings.Contains(text, "<Find") {
						t.Skip("this libwbxml does not know code page 25, Find")
					}
					_, rest, ok := strings.Cut(text, "<"+rootName(c))
					if _, rest, ok2 := strings.Cut(rest, ">"); !ok || !ok2 || !strings.Contains(rest, "Status>"+strconv.Itoa(int(s))+"</") || strings.Count(rest, "</") != 2 {
						t.Errorf("version %s, Status %d: wbxml2xml reads %s", v, s, text)
					}
					read++
				}
			}
		})
	}
	if read < 6*(len(golden())-1) { // without Find
		t.Errorf("wbxml2xml has read %d refusals", read)
	}
}

// TestNamesByPeer writes every element of every page and lets libwbxml name it.
func TestNamesByPeer(t *testing.T) {
	program := peertest.Find(t, "wbxml2xml")
	for p := Page(0); p <= lastPage; p++ {
		for token := byte(firstTag); token < bitContent; token++ {
			name := p.Name(token)
			if name == "" {
				continue
			}
			if back, ok := p.Token(name); !ok || back != token {
				t.Errorf("page %d: %s is token %02X, and back %02X", p, name, token, back)
			}
		}
		if p.names() == "" {
			continue
		}
		t.Run(strings.Fields(p.names())[0], func(t *testing.T) { namesOfPage(t, program, p) })
	}
}

func namesOfPage(t *testing.T, program string, p Page) {
	if p == PageFind {
		t.Skip("libwbxml does not know code page 25, Find")
	}
	e := NewEncoder().Start(PageSettings, "Settings")
	var names []string
	for token := byte(firstTag); token < bitContent; token++ {
		if name := p.Name(token); name != "" && !newInSixteen(p, name) {
			e.Element(p, name, "x")
			names = append(names, name)
		}
	}
	body, err := e.End().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	text := foreignXML(t, program, body)
	found := regexp.MustCompile(`</([^>]+)>`).FindAllStringSubmatch(text, -1)
	if len(found) != len(names)+1 {
		t.Fatalf("%d elements written, %d read: %s", len(names), len(found)-1, text)
	}
	for i, name := range names {
		if theirs := strings.TrimPrefix(found[i][1], "Recurrence_"); !strings.EqualFold(theirs, name) && otherSpelling(name) != theirs {
			t.Errorf("we write %s, libwbxml reads %s", name, theirs)
		}
	}
}

// otherSpelling gives the name that libwbxml has from older documents for an element that MS-ASWBXML calls name.
func otherSpelling(name string) string {
	switch name {
	case "ReplyTo":
		return "Reply-To"
	case "Status": // of Email, the state of a flag
		return "FlagStatus"
	case "RequireStorageCardEncryption":
		return "DeviceEncryptionEnabled"
	case "RightsManagementInformation":
		return "ihsManagementInformation"
	}
	return ""
}

// newInSixteen tells the elements that came with 16.0 and 16.1, which libwbxml may not know.
func newInSixteen(p Page, name string) bool {
	switch p {
	case PageAirSyncBase:
		token, _ := p.Token(name)
		return token >= 0x1C
	case PageComposeMail:
		token, _ := p.Token(name)
		return token >= 0x15
	case PageMeetingResponse:
		return name == "SendResponse"
	case PageProvision:
		return name == "AccountOnlyRemoteWipe"
	}
	return false
}
