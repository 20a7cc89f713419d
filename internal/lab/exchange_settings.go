package lab

import (
	"bytes"
	"io"
	"mime"
	"net/mail"
	"strings"

	"postern/internal/eas"
)

// settings answers Settings (MS-ASCMD, section 2.2.1.18) for what phones ask: their own description, the user's addresses, and
// the out-of-office state, which is always off.
func (e *Exchange) settings(c *call) answer {
	if c.doc == nil {
		return document(eas.NewEncoder().Start(eas.PageSettings, "Settings").Element(eas.PageSettings, "Status", "2").End())
	}
	enc := eas.NewEncoder().Start(eas.PageSettings, "Settings").Element(eas.PageSettings, "Status", "1")
	for _, asked := range c.doc.Children {
		switch asked.Name {
		case "DeviceInformation":
			if _, _, err := eas.ReadDeviceInformation(c.body); err != nil {
				return refuse(c.Request, eas.StatusInvalidXML)
			}
			enc.Start(eas.PageSettings, asked.Name).Element(eas.PageSettings, "Status", "1").End()
		case "DevicePassword":
			enc.Start(eas.PageSettings, asked.Name).Element(eas.PageSettings, "Status", "1").End()
		case "UserInformation":
			userInformation(enc, c)
		case "Oof":
			enc.Start(eas.PageSettings, "Oof").Element(eas.PageSettings, "Status", "1")
			if asked.Find("Get") != nil {
				enc.Start(eas.PageSettings, "Get").Element(eas.PageSettings, "OofState", "0").End()
			}
			enc.End()
		}
	}
	return document(enc.End())
}

// userInformation writes the addresses; since 14.1 they belong to an account.
func userInformation(enc *eas.Encoder, c *call) {
	accounts := c.Version.AtLeast(eas.Version141)
	enc.Start(eas.PageSettings, "UserInformation").Element(eas.PageSettings, "Status", "1").Start(eas.PageSettings, "Get")
	if accounts {
		enc.Start(eas.PageSettings, "Accounts").Start(eas.PageSettings, "Account")
	}
	enc.Start(eas.PageSettings, "EmailAddresses").Element(eas.PageSettings, "SMTPAddress", c.box.mail)
	if accounts {
		enc.Element(eas.PageSettings, "PrimarySmtpAddress", c.box.mail).End().End()
	}
	enc.End().End().End()
}

// sendMail answers SendMail (MS-ASCMD, section 2.2.1.17): without a body where all went well. The message is delivered to those
// of its recipients who have a mailbox here; others are forgotten.
func (e *Exchange) sendMail(c *call) answer {
	raw := c.body
	if c.Version.AtLeast(eas.Version140) {
		raw = []byte(c.doc.Value("Mime"))
		switch id := c.doc.Value("ClientId"); {
		case id == "":
			return refuse(c.Request, eas.StatusInvalidXML)
		case !e.firstSent(c.box, id):
			return refuse(c.Request, 118) // MessagePreviouslySent
		}
	}
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return refuse(c.Request, 107) // InvalidMIME
	}
	body, err := io.ReadAll(msg.Body)
	if err != nil {
		return refuse(c.Request, 107)
	}
	to, err := recipients(msg.Header)
	if err != nil {
		return refuse(c.Request, 119) // MessageHasNoRecipient
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	if err != nil {
		subject = msg.Header.Get("Subject")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, address := range to {
		if box := e.mailboxes[strings.ToLower(address)]; box != nil {
			box.deliver(Message{From: c.box.mail, To: address, Subject: subject, Body: string(body), Received: e.now().UTC()})
		}
	}
	return bare(200)
}

// firstSent reports whether a ClientId comes for the first time.
func (e *Exchange) firstSent(box *mailbox, clientID string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if box.sent[clientID] {
		return false
	}
	box.sent[clientID] = true
	return true
}

// recipients gives the addresses of all recipients, of whom there has to be one.
func recipients(h mail.Header) ([]string, error) {
	var all []string
	for _, field := range []string{"To", "Cc", "Bcc"} {
		list, err := h.AddressList(field)
		if err != nil {
			continue // absent or unreadable
		}
		for _, a := range list {
			all = append(all, a.Address)
		}
	}
	if len(all) == 0 {
		return nil, mail.ErrHeaderNotPresent
	}
	return all, nil
}
