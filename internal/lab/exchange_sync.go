package lab

import (
	"context"
	"strconv"
	"time"

	"postern/internal/eas"
)

// The window of a Sync: how many messages one answer holds per folder (MS-ASCMD, section 2.2.3, WindowSize).
const (
	defaultWindow = 100
	maxWindow     = 512
)

// sync answers Sync (MS-ASCMD, section 2.2.1.21). Without a body it repeats the last request with the keys of the last answer;
// with nothing to say the answer has no body either. Where the client asks for it, it waits until there is something.
func (e *Exchange) sync(ctx context.Context, c *call) answer {
	repeated := c.doc == nil
	e.mu.Lock()
	if repeated {
		c.doc = c.partner.sync
	}
	e.mu.Unlock()
	if c.doc == nil {
		return syncStatus("13")
	}
	hold, refusal := e.syncHold(c.doc)
	if refusal != nil {
		return *refusal
	}
	asked := c.doc.Find("Collections").All("Collection")
	if len(asked) == 0 {
		return syncStatus("4")
	}
	e.mu.Lock()
	c.partner.sync = c.doc
	enc := eas.NewEncoder().Start(eas.PageAirSync, "Sync").Start(eas.PageAirSync, "Collections")
	n := e.syncCollections(c, enc, asked, repeated)
	e.mu.Unlock()
	if n > 0 {
		return document(enc.End().End())
	}
	if hold > 0 {
		switch e.wait(ctx, c.box, hold, func() bool {
			enc = eas.NewEncoder().Start(eas.PageAirSync, "Sync").Start(eas.PageAirSync, "Collections")
			n = e.syncCollections(c, enc, asked, true)
			return n > 0
		}) {
		case waitCanceled:
			return bare(statusCanceled)
		case waitReady:
			return document(enc.End().End())
		}
	}
	return bare(200)
}

// syncHold says how long to wait: Wait in minutes or HeartbeatInterval in seconds, of which there may be one.
func (e *Exchange) syncHold(doc *eas.Element) (time.Duration, *answer) {
	wait, heartbeat := doc.Value("Wait"), doc.Value("HeartbeatInterval")
	fail := func(a answer) (time.Duration, *answer) { return 0, &a }
	switch {
	case wait == "" && heartbeat == "":
		return 0, nil
	case wait != "" && heartbeat != "":
		return fail(syncStatus("4"))
	}
	text, unit, least, most := heartbeat, time.Second, e.minHeartbeat, MaxHeartbeat
	if wait != "" {
		text, unit, least, most = wait, time.Minute, time.Minute, 59*time.Minute
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fail(syncStatus("4"))
	}
	limit := time.Duration(0)
	switch d := time.Duration(n) * unit; {
	case d < least:
		limit = least
	case d > most:
		limit = most
	default:
		return d, nil
	}
	return fail(document(eas.NewEncoder().Start(eas.PageAirSync, "Sync").Element(eas.PageAirSync, "Status", "14").
		Element(eas.PageAirSync, "Limit", itoa(int(limit/unit))).End()))
}

// syncCollections writes an answer for each folder that has one, and says how many have. With current, the keys of the request
// are passed over and the current ones count. It runs under Exchange.mu.
func (e *Exchange) syncCollections(c *call, enc *eas.Encoder, asked []*eas.Element, current bool) (n int) {
	for _, one := range asked {
		if e.syncCollection(c, enc, one, current) {
			n++
		}
	}
	return n
}

func (e *Exchange) syncCollection(c *call, enc *eas.Encoder, asked *eas.Element, current bool) bool {
	id := asked.Value("CollectionId")
	where, ok := folderByID(id)
	if !ok {
		writeCollection(enc, c, folder{id: id}, asked.Value("SyncKey"), "8", nil, false)
		return true
	}
	state := c.partner.collections[id]
	key := asked.Value("SyncKey")
	if current && state != nil {
		key = itoa(state.key)
	}
	switch {
	case key == "0":
		c.partner.collections[id] = &collection{key: 1}
		writeCollection(enc, c, where, "1", "1", nil, false)
		return true
	case state == nil || key != itoa(state.key) && (state.previous == 0 || key != itoa(state.previous)):
		delete(c.partner.collections, id)
		writeCollection(enc, c, where, "0", "3", nil, false)
		return true
	case key != itoa(state.key): // the last answer was lost
		state.key, state.at, state.previous = state.previous, state.before, 0
	}
	changed := !current && c.apply(asked.Find("Commands"))
	var messages []*Message
	next := state.at
	if id == inboxID && asked.Value("GetChanges") != "0" {
		messages, next = c.box.after(state.at, window(asked, c.doc))
	}
	if len(messages) == 0 && !changed {
		return false
	}
	rest, _ := c.box.after(next, 1)
	*state = collection{key: state.key + 1, previous: state.key, at: next, before: state.at}
	writeCollection(enc, c, where, itoa(state.key), "1", messages, id == inboxID && len(rest) > 0)
	return true
}

// window reads WindowSize, of the folder or of the whole Sync.
func window(asked, doc *eas.Element) int {
	text := asked.Value("WindowSize")
	if text == "" {
		text = doc.Value("WindowSize")
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return defaultWindow
	}
	return min(n, maxWindow)
}

// apply does what the client changed: messages read and deleted. Its other devices do not hear of it. It reports whether there
// was anything, as every change gets a new key.
func (c *call) apply(commands *eas.Element) bool {
	if commands == nil {
		return false
	}
	for _, one := range commands.Children {
		for _, m := range c.box.inbox {
			switch id := one.Value("ServerId"); {
			case id != m.ID:
			case one.Name == "Delete":
				c.box.gone[id] = true
			case one.Name == "Change":
				m.Read = one.Value("ApplicationData", "Read") == "1"
			}
		}
	}
	return len(commands.Children) > 0
}

// writeCollection writes what one folder has to say.
func writeCollection(enc *eas.Encoder, c *call, f folder, key, status string, messages []*Message, more bool) {
	enc.Start(eas.PageAirSync, "Collection")
	if !c.Version.AtLeast(eas.Version140) && f.class != "" {
		enc.Element(eas.PageAirSync, "Class", f.class)
	}
	enc.Element(eas.PageAirSync, "SyncKey", key)
	if f.id != "" {
		enc.Element(eas.PageAirSync, "CollectionId", f.id)
	}
	enc.Element(eas.PageAirSync, "Status", status)
	if more {
		enc.Empty(eas.PageAirSync, "MoreAvailable")
	}
	if len(messages) > 0 {
		enc.Start(eas.PageAirSync, "Commands")
		for _, m := range messages {
			writeMessage(enc, c.Version, m)
		}
		enc.End()
	}
	enc.End()
}

// writeMessage writes a message as plain text (MS-ASEMAIL, section 2.2.2). Protocol 2.5 has no AirSyncBase and gets no body.
func writeMessage(enc *eas.Encoder, v eas.Version, m *Message) {
	read := "0"
	if m.Read {
		read = "1"
	}
	enc.Start(eas.PageAirSync, "Add").Element(eas.PageAirSync, "ServerId", m.ID).Start(eas.PageAirSync, "ApplicationData").
		Element(eas.PageEmail, "To", m.To).Element(eas.PageEmail, "From", m.From).Element(eas.PageEmail, "Subject", m.Subject).
		Element(eas.PageEmail, "DateReceived", m.Received.UTC().Format(dateLayout)).
		Element(eas.PageEmail, "DisplayTo", m.To).Element(eas.PageEmail, "ThreadTopic", m.Subject).
		Element(eas.PageEmail, "Importance", "1").Element(eas.PageEmail, "Read", read).
		Element(eas.PageEmail, "MessageClass", "IPM.Note").Element(eas.PageEmail, "InternetCPID", "65001")
	if v.AtLeast(eas.Version120) {
		enc.Element(eas.PageEmail, "ContentClass", "urn:content-classes:message").
			Start(eas.PageAirSyncBase, "Body").Element(eas.PageAirSyncBase, "Type", "1").
			Element(eas.PageAirSyncBase, "EstimatedDataSize", itoa(len(m.Body))).
			Element(eas.PageAirSyncBase, "Truncated", "0").Element(eas.PageAirSyncBase, "Data", m.Body).End().
			Element(eas.PageAirSyncBase, "NativeBodyType", "1")
	}
	enc.End().End()
}

// dateLayout is how a date is written (MS-ASDTYPE, section 2.3).
const dateLayout = "2006-01-02T15:04:05.000Z"

// syncStatus is a Sync with a Status for the whole of it.
func syncStatus(status string) answer {
	return document(eas.NewEncoder().Start(eas.PageAirSync, "Sync").Element(eas.PageAirSync, "Status", status).End())
}
