package lab

import (
	"strings"
	"time"

	"postern/internal/eas"
	"postern/internal/trust"
)

// Message is one message of a mailbox, or as a phone has received it.
type Message struct {
	ID       string // the ServerId; "" before it is delivered
	From, To string
	Subject  string
	Body     string // plain text
	Received time.Time
	Read     bool
}

// mailbox is one user's mail. It is guarded by Exchange.mu.
type mailbox struct {
	mail, password, cookie string
	inbox                  []*Message
	gone                   map[string]bool // ServerIds that a client deleted
	sent                   map[string]bool // ClientIds of SendMail
	changed                chan struct{}   // closed and replaced by each delivery
	partners               map[eas.DeviceID]*partner
}

// partner is what Exchange keeps about one device of a mailbox: the partnership.
type partner struct {
	offered, policyKey uint32
	folders            bool                   // FolderSync has been answered
	collections        map[string]*collection // by CollectionId
	ping               pingRequest            // of the last Ping, for those without a body
	sync               *eas.Element           // the last Sync, for those without a body
}

// collection is how far one device has come in one folder. A client that lost an answer asks again with the key before.
type collection struct {
	key, previous int // previous is zero where there is none to go back to
	at, before    int // how many messages of the inbox the device has had under key and under previous
}

func newMailbox(mail, password string) *mailbox {
	return &mailbox{
		mail: mail, password: password, cookie: trust.NewID("be"),
		gone: map[string]bool{}, sent: map[string]bool{}, changed: make(chan struct{}), partners: map[eas.DeviceID]*partner{},
	}
}

func (b *mailbox) deliver(m Message) {
	m.ID = inboxID + ":" + itoa(len(b.inbox)+1)
	b.inbox = append(b.inbox, &m)
	close(b.changed)
	b.changed = make(chan struct{})
}

// after gives up to n messages from position at on, and the position behind them.
func (b *mailbox) after(at, n int) (messages []*Message, next int) {
	for next = at; next < len(b.inbox) && len(messages) < n; next++ {
		if !b.gone[b.inbox[next].ID] {
			messages = append(messages, b.inbox[next])
		}
	}
	return messages, next
}

// news reports whether a folder holds something that the device has not had.
func (b *mailbox) news(p *partner, folder string) bool {
	if folder != inboxID {
		return false
	}
	at := 0
	if c := p.collections[folder]; c != nil {
		at = c.at
	}
	messages, _ := b.after(at, 1)
	return len(messages) > 0
}

// partner finds the partnership of a device, and makes one with the first request.
func (e *Exchange) partner(box *mailbox, id eas.DeviceID) *partner {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := box.partners[id]
	if p == nil {
		p = &partner{collections: map[string]*collection{}}
		box.partners[id] = p
	}
	return p
}

func domainOf(mail string) string {
	_, domain, _ := strings.Cut(mail, "@")
	return domain
}
