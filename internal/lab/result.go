package lab

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"postern/internal/eas"
)

// Result is the answer to one request of a phone.
type Result struct {
	Command    string
	HTTPStatus int
	Status     int    // of the document, or of its first collection or policy if that is not 1; zero where there is none
	Reference  string // of the refusal, from X-Postern-Reference
	Header     http.Header
	Body       []byte
	Document   *eas.Element // the body, where it is WBXML
	Duration   time.Duration
	Messages   []Message // that came with a Sync
	Sent       Sent
}

// Sent is a request as the phone made it, for comparing with what the server got. It holds no credential.
type Sent struct {
	Method, Path, RawQuery string
	Header                 http.Header // without Authorization; with the cookies
	Body                   []byte
}

// OK reports whether the command did what it was asked: HTTP 200, and a Status that is no error.
func (r Result) OK() bool {
	return r.HTTPStatus == http.StatusOK && (r.Status <= 1 || r.Command == eas.Ping.String() && r.Status == 2)
}

// NeedsProvisioning reports whether the server wants a Provision first (Status 140 to 144, or HTTP 449).
func (r Result) NeedsProvisioning() bool {
	return r.HTTPStatus == 449 || r.Status >= 140 && r.Status <= 144
}

// String says what came back in one line, without the reference.
func (r Result) String() string {
	s := fmt.Sprintf("%s: HTTP %d", r.Command, r.HTTPStatus)
	if r.Status != 0 {
		s += ", Status " + strconv.Itoa(r.Status)
		if name := eas.Status(r.Status).String(); r.Status > 100 && name != strconv.Itoa(r.Status) {
			s += " " + name
		}
	}
	if n := len(r.Messages); n > 0 {
		s += fmt.Sprintf(", %d new", n)
	}
	return s
}

// read takes the body apart, where it is WBXML. The error says that it says so and is not.
func (r *Result) read() error {
	if len(r.Body) == 0 || !strings.HasPrefix(r.Header.Get("Content-Type"), eas.ContentTypeWBXML) {
		return nil
	}
	doc, err := eas.Decode(r.Body, maxAnswer)
	if err != nil {
		return fmt.Errorf("%s: read answer: %w", r.Command, err)
	}
	r.Document, r.Status = doc, statusOf(doc)
	for _, c := range doc.Find("Collections").All("Collection") {
		for _, add := range c.Find("Commands").All("Add") {
			r.Messages = append(r.Messages, readMessage(add))
		}
	}
	return nil
}

func readMessage(add *eas.Element) Message {
	data := add.Find("ApplicationData")
	received, err := time.Parse(dateLayout, data.Value("DateReceived"))
	if err != nil {
		received = time.Time{}
	}
	return Message{
		ID: add.Value("ServerId"), From: data.Value("From"), To: data.Value("To"), Subject: data.Value("Subject"),
		Body: data.Value("Body", "Data"), Received: received, Read: data.Value("Read") == "1",
	}
}

// statusOf finds the Status that matters: the document's own, unless that is absent or 1 and an inner one is not.
func statusOf(doc *eas.Element) int {
	top := doc.Value("Status")
	for _, inner := range []string{
		doc.Value("Collections", "Collection", "Status"),
		doc.Value("Policies", "Policy", "Status"),
		doc.Value("Response", "Status"),
	} {
		if inner != "" && (top == "" || top == "1") {
			top = inner
		}
	}
	n, err := strconv.Atoi(top)
	if err != nil {
		return 0
	}
	return n
}
