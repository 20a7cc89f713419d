package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"postern/internal/eas"
)

// Path is where Exchange answers ActiveSync (MS-ASHTTP, section 2.2.1.1.1).
const Path = "/Microsoft-Server-ActiveSync"

// The range of heartbeats that Exchange accepts unless it is configured otherwise (MS-ASCMD, section 2.2.3, HeartbeatInterval).
const (
	DefaultMinHeartbeat = 60 * time.Second
	MaxHeartbeat        = 3540 * time.Second
)

// Personality is whose manners an Exchange has.
type Personality int

const (
	// Online is Exchange Online since March 2026: protocol 16.1 only, bearer tokens only, and no word to a request without
	// Authorization except HTTP 451 to the address for certificates.
	Online Personality = iota
	// OnPremises is an Exchange server: protocols 2.5 to 16.1, Basic, and bearer tokens as in hybrid modern authentication.
	OnPremises
)

// ExchangeOptions configures an [Exchange]. The zero value is an Exchange Online that logs nothing.
type ExchangeOptions struct {
	Personality  Personality
	Log          *slog.Logger     // nil: discard
	Now          func() time.Time // nil: time.Now
	MinHeartbeat time.Duration    // of Ping and Sync, whole seconds from 1 s; zero: DefaultMinHeartbeat
}

// Exchange is a mail server in memory. It is safe for concurrent use.
type Exchange struct {
	online       bool
	log          *slog.Logger
	now          func() time.Time
	minHeartbeat time.Duration

	mu        sync.Mutex
	mailboxes map[string]*mailbox // by lower-case address
	tokens    map[string]*mailbox // opaque bearer tokens
	seen      []*Seen
	counts    map[eas.Command]int
	waiting   int
	fault     Fault
	elsewhere string
}

// NewExchange makes an Exchange without mailboxes.
func NewExchange(opts ExchangeOptions) *Exchange {
	e := &Exchange{
		online: opts.Personality == Online, log: opts.Log, now: opts.Now, minHeartbeat: opts.MinHeartbeat,
		mailboxes: map[string]*mailbox{}, tokens: map[string]*mailbox{}, counts: map[eas.Command]int{},
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.minHeartbeat == 0 {
		e.minHeartbeat = DefaultMinHeartbeat
	}
	return e
}

// AddMailbox makes a mailbox for an address, or changes its password. The password is good for Basic (OnPremises); every
// token of [Token] for this user is good without further ado.
func (e *Exchange) AddMailbox(mail, password string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := strings.ToLower(mail)
	if box := e.mailboxes[key]; box != nil {
		box.password = password
		return
	}
	e.mailboxes[key] = newMailbox(mail, password)
}

// AddToken makes an opaque bearer token good for a mailbox. The error says that there is none.
func (e *Exchange) AddToken(mail, token string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	box := e.mailboxes[strings.ToLower(mail)]
	if box == nil {
		return fmt.Errorf("add token: no mailbox %q", mail)
	}
	e.tokens[token] = box
	return nil
}

// Deliver puts a message into the inbox and wakes whoever waits for it: every Ping and hanging Sync of that mailbox. The error
// says that there is no such mailbox.
func (e *Exchange) Deliver(mail, subject, body string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	box := e.mailboxes[strings.ToLower(mail)]
	if box == nil {
		return fmt.Errorf("deliver message: no mailbox %q", mail)
	}
	box.deliver(Message{From: "news@" + domainOf(mail), To: box.mail, Subject: subject, Body: body, Received: e.now().UTC()})
	return nil
}

// Handler answers HTTP requests; it needs no router in front, as routers clean paths and answer with redirects.
func (e *Exchange) Handler() http.Handler { return http.HandlerFunc(e.serve) }

// Serve answers on a listener, which it closes, until ctx is done; open long polls end then too. It returns nil after a
// shutdown that ctx asked for. For TLS, hand it a TLS listener.
func (e *Exchange) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           e.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(grace)
	})
	err := srv.Serve(ln)
	if !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve Exchange: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("shut down Exchange: %w", err)
	}
	return nil
}
