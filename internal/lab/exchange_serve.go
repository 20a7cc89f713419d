package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"postern/internal/eas"
)

// maxRequest is the largest request body in bytes; a message with attachments has to fit.
const maxRequest = 8 << 20

// statusCanceled is recorded, and not sent, where the client went away before the answer.
const statusCanceled = 499

// answer is what one request gets.
type answer struct {
	code   int
	header http.Header
	body   []byte // WBXML, or nothing
}

// call is one authenticated and well-formed request.
type call struct {
	eas.Request
	box     *mailbox
	partner *partner
	body    []byte
	doc     *eas.Element // nil where the body is empty or not WBXML
}

func (e *Exchange) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	seen := e.begin(r, body)
	var a answer
	switch tooLarge := (*http.MaxBytesError)(nil); {
	case errors.As(err, &tooLarge):
		a = bare(http.StatusRequestEntityTooLarge)
	case err != nil:
		a = bare(http.StatusBadRequest)
	case !strings.EqualFold(r.URL.Path, Path):
		a = bare(http.StatusNotFound)
	default:
		a = e.answer(r, body, seen)
	}
	if e.broken(w, seen, &a) {
		return
	}
	e.end(seen, a)
	if a.code == statusCanceled { // or this server is shutting down, and the client is still there
		a = bare(http.StatusServiceUnavailable)
	}
	h := w.Header()
	maps.Copy(h, a.header)
	h.Set("Cache-Control", "private")
	h.Set("MS-Server-ActiveSync", e.serverVersion())
	h.Set("request-id", seen.ID)
	if len(a.body) > 0 {
		h.Set("Content-Type", eas.ContentTypeWBXML)
	}
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.code)
	if _, err := io.Copy(w, bytes.NewReader(a.body)); err != nil {
		e.log.Debug("write answer", "request", seen.ID, "error", err)
	}
}

// answer goes through what Exchange asks in its order: who, in what form, which version, provisioned, and then the command.
func (e *Exchange) answer(r *http.Request, body []byte, seen *Seen) answer {
	box, refusal := e.authenticate(r)
	if box == nil {
		return refusal
	}
	req, err := eas.ParseRequest(r.Method, r.URL.RawQuery, r.Header)
	e.identify(seen, box, req)
	if err != nil {
		var bad *eas.RequestError
		if errors.As(err, &bad) && bad.HTTPStatus != bad.Status.HTTPStatus() {
			return bare(bad.HTTPStatus)
		}
		return refuse(req, bad.Status)
	}
	if req.Command == eas.Options {
		return e.withCookie(e.options(), box)
	}
	if e.online && req.Version != eas.Version161 {
		return refuse(req, eas.StatusVersionNotSupported)
	}
	c := &call{Request: req, box: box, partner: e.partner(box, req.DeviceID), body: body}
	if len(body) > 0 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/vnd.ms-sync") {
		if c.doc, err = eas.Decode(body, maxRequest); err != nil {
			return refuse(req, eas.StatusInvalidWBXML)
		}
		if c.doc.Name != req.Command.String() {
			return refuse(req, eas.StatusInvalidXML)
		}
	}
	return e.withCookie(e.run(r.Context(), c), box)
}

func (e *Exchange) run(ctx context.Context, c *call) answer {
	if status := e.provisioned(c); status != 0 {
		return refuse(c.Request, status)
	}
	switch c.Command {
	case eas.Provision:
		return e.provision(c)
	case eas.FolderSync:
		return e.folderSync(c)
	case eas.Sync:
		return e.sync(ctx, c)
	case eas.Ping:
		return e.ping(ctx, c)
	case eas.Settings:
		return e.settings(c)
	case eas.SendMail:
		return e.sendMail(c)
	case eas.GetItemEstimate:
		return e.estimate(c)
	}
	return refuse(c.Request, eas.StatusCommandNotSupported)
}

// commandNames is what OPTIONS says of commands, in Exchange's order (MS-ASHTTP, section 2.2.2.1.2.3).
const commandNames = "Sync,SendMail,SmartForward,SmartReply,GetAttachment,GetHierarchy,CreateCollection,DeleteCollection," +
	"MoveCollection,FolderSync,FolderCreate,FolderDelete,FolderUpdate,MoveItems,GetItemEstimate,MeetingResponse,Search,Settings," +
	"Ping,ItemOperations,Provision,ResolveRecipients,ValidateCert,Find"

func (e *Exchange) options() answer {
	a := bare(http.StatusOK)
	versions := "2.5,12.0,12.1,14.0,14.1,16.0,16.1"
	if e.online {
		versions = "16.1"
	}
	a.header.Set("MS-ASProtocolVersions", versions)
	a.header.Set("MS-ASProtocolCommands", commandNames)
	a.header.Set("Allow", "OPTIONS,POST")
	a.header.Set("Public", "OPTIONS,POST")
	return a
}

func (e *Exchange) serverVersion() string {
	if e.online {
		return "15.21"
	}
	return "15.2"
}

// withCookie adds the cookie by which Exchange finds the mailbox's server again; clients of 16.0 and later, and those with
// bearer tokens, have to send it back (MS-ASHTTP, section 3.1.5.1).
func (e *Exchange) withCookie(a answer, box *mailbox) answer {
	c := http.Cookie{Name: "X-BackEndCookie", Value: box.cookie, Path: Path, Secure: true, HttpOnly: true}
	a.header.Add("Set-Cookie", c.String())
	return a
}

// bare is an answer without a body.
func bare(code int) answer { return answer{code: code, header: http.Header{}} }

// refuse is the answer that carries a common status code.
func refuse(req eas.Request, s eas.Status) answer {
	code, _, body := eas.Refusal(req.Command, req.Version, s)
	a := bare(code)
	a.body = body
	return a
}

// document is an answer with a body, and HTTP 500 should it not encode.
func document(enc *eas.Encoder) answer {
	body, err := enc.Bytes()
	if err != nil {
		return bare(http.StatusInternalServerError)
	}
	a := bare(http.StatusOK)
	a.body = body
	return a
}
