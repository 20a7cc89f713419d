package lab

import (
	"context"
	"strconv"
	"time"

	"postern/internal/eas"
)

// pingRequest is what a Ping asks for; a Ping without a body, or without one of the two, repeats what was asked before
// (MS-ASCMD, section 2.2.1.13).
type pingRequest struct {
	heartbeat time.Duration
	folders   []string
}

// ping answers Ping: at once if something has come since the last Sync, when something comes, or after the heartbeat.
func (e *Exchange) ping(ctx context.Context, c *call) answer {
	ask, refusal := e.pingRequest(c)
	if refusal != "" {
		return pingAnswer(refusal, ask, nil)
	}
	var news []string
	switch e.wait(ctx, c.box, ask.heartbeat, func() bool {
		for _, id := range ask.folders {
			if c.box.news(c.partner, id) {
				news = append(news, id)
			}
		}
		return len(news) > 0
	}) {
	case waitCanceled:
		return bare(statusCanceled)
	case waitExpired:
		return pingAnswer("1", ask, nil)
	}
	return pingAnswer("2", ask, news)
}

// pingRequest completes the request from the one before and checks it; refusal is the Status that refuses it.
func (e *Exchange) pingRequest(c *call) (ask pingRequest, refusal string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ask = c.partner.ping
	if text := c.doc.Value("HeartbeatInterval"); text != "" {
		seconds, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return ask, "4"
		}
		ask.heartbeat = time.Duration(seconds) * time.Second
	}
	if list := c.doc.Find("Folders"); list != nil {
		ask.folders = nil
		for _, f := range list.All("Folder") {
			ask.folders = append(ask.folders, f.Value("Id"))
		}
	}
	switch {
	case ask.heartbeat == 0 || len(ask.folders) == 0:
		return ask, "3"
	case ask.heartbeat < e.minHeartbeat:
		ask.heartbeat = e.minHeartbeat
		return ask, "5"
	case ask.heartbeat > MaxHeartbeat:
		ask.heartbeat = MaxHeartbeat
		return ask, "5"
	case len(ask.folders) > len(folders()):
		return ask, "6"
	}
	for _, id := range ask.folders {
		if _, ok := folderByID(id); !ok || !c.partner.folders {
			return ask, "7"
		}
	}
	c.partner.ping = ask
	return ask, ""
}

// pingAnswer writes a Status with what belongs to it: the folders that changed with 2, the nearest heartbeat with 5, the
// largest number of folders with 6.
func pingAnswer(status string, ask pingRequest, news []string) answer {
	enc := eas.NewEncoder().Start(eas.PagePing, "Ping").Element(eas.PagePing, "Status", status)
	switch status {
	case "2":
		enc.Start(eas.PagePing, "Folders")
		for _, id := range news {
			enc.Element(eas.PagePing, "Folder", id)
		}
		enc.End()
	case "5":
		enc.Element(eas.PagePing, "HeartbeatInterval", itoa(int(ask.heartbeat/time.Second)))
	case "6":
		enc.Element(eas.PagePing, "MaxFolders", itoa(len(folders())))
	}
	return document(enc.End())
}

// outcome is how a wait ended.
type outcome int

const (
	waitReady outcome = iota
	waitExpired
	waitCanceled // the client went away, or the server is shutting down
)

// wait holds a request until ready, which is called under Exchange.mu, or for as long as d. An expired wait has looked once
// more, so that nothing that came in time is missed.
func (e *Exchange) wait(ctx context.Context, box *mailbox, d time.Duration, ready func() bool) outcome {
	e.mu.Lock()
	e.waiting++
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.waiting--
		e.mu.Unlock()
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	for expired := false; ; {
		e.mu.Lock()
		done, changed := ready(), box.changed
		e.mu.Unlock()
		switch {
		case done:
			return waitReady
		case expired:
			return waitExpired
		}
		select {
		case <-changed:
		case <-timer.C:
			expired = true
		case <-ctx.Done():
			return waitCanceled
		}
	}
}
