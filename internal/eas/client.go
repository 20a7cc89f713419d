package eas

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// MaxUserAgent is how many bytes of user agent are looked at; a longer one is that of no known client.
const MaxUserAgent = 512

// FamilyOther is the family of a client that no row of the table describes.
const FamilyOther = "other"

// PlatformUnknown is the platform of a client that does not tell it, such as Outlook, whose servers speak for phones of both kinds.
const PlatformUnknown = "unknown"

// Client is what a user agent and a DeviceType say about the program that speaks. All of it is claimed.
type Client struct {
	Family   string // a stable snake_case word such as apple_mail; FamilyOther for an unknown one
	Platform string // ios, visionos, watchos, android, windows, windows_phone or unknown
	Model    string // hardware model as its maker writes it, "iPhone15,4" or "SM-N900V"; "" where the client does not say
	Build    string // build of the operating system, "24A5390f"; "" where the client does not say
	Version  string // of the operating system for Apple's clients, of the program for others; "" where the client does not say
}

//go:embed clients.json
var clientsJSON []byte

// Clients is the ordered table by which clients are known. It is safe for concurrent use.
type Clients struct{ rows []clientRow }

// clientRow describes one kind of client. Every condition that is given has to hold, and the first row wins.
type clientRow struct {
	Family     string        `json:"family"`
	Platform   string        `json:"platform"`
	Prefix     string        `json:"prefix"`      // how the user agent begins, to the letter
	Second     string        `json:"second"`      // how one of its later words begins
	DeviceType string        `json:"device_type"` // the whole DeviceType, in any case
	Read       string        `json:"read"`        // what can be read from the user agent: none, product, apple, ios, samsung
	Example    clientExample `json:"example"`     // one client of this row; a test reads it
}

type clientExample struct {
	UserAgent  string `json:"user_agent"`
	DeviceType string `json:"device_type"`
	Model      string `json:"model"`
	Build      string `json:"build"`
	Version    string `json:"version"`
}

// NewClients loads the built-in table. An error means that the table in the binary is wrong.
func NewClients() (*Clients, error) { return loadClients(clientsJSON) }

func loadClients(data []byte) (*Clients, error) {
	var table struct {
		Rows []clientRow `json:"rows"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&table); err != nil {
		return nil, fmt.Errorf("load client table: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("load client table: more than one document")
	}
	if len(table.Rows) == 0 {
		return nil, errors.New("load client table: no rows")
	}
	for i, row := range table.Rows {
		if err := row.check(table.Rows[:i]); err != nil {
			return nil, fmt.Errorf("load client table: row %d: %w", i+1, err)
		}
	}
	return &Clients{rows: table.Rows}, nil
}

// check refuses a row that says nothing, says it wrongly, or can never be reached because an earlier one takes all of its.
func (row clientRow) check(earlier []clientRow) error {
	if row.Family == "" || row.Family == FamilyOther || row.Prefix == "" && (row.DeviceType == "" || row.Second != "") {
		return errors.New("needs a family and a prefix or a device type")
	}
	switch row.Platform {
	case "ios", "visionos", "watchos", "android", "windows", "windows_phone", PlatformUnknown:
	default:
		return fmt.Errorf("unknown platform %q", row.Platform)
	}
	switch row.Read {
	case "none", "product", "apple", "ios", "samsung":
	default:
		return fmt.Errorf("unknown way to read %q", row.Read)
	}
	for i, e := range earlier {
		if strings.HasPrefix(row.Prefix, e.Prefix) && (e.Second == "" || e.Second == row.Second) &&
			(e.DeviceType == "" || strings.EqualFold(e.DeviceType, row.DeviceType)) {
			return fmt.Errorf("row %d takes all of it", i+1)
		}
	}
	return nil
}

// Parse tells a client by its User-Agent header and DeviceType. Prefixes match to the letter and nothing is searched for inside, so that
// a user agent that names two systems is not taken for either. What is longer than [MaxUserAgent] bytes is of [FamilyOther].
func (c *Clients) Parse(userAgent, deviceType string) Client {
	if len(userAgent) <= MaxUserAgent {
		for i := range c.rows {
			row := &c.rows[i]
			if client := (Client{Family: row.Family, Platform: row.Platform}); row.matches(userAgent, deviceType) && row.read(&client, userAgent) {
				return client
			}
		}
	}
	return Client{Family: FamilyOther, Platform: PlatformUnknown}
}

func (row *clientRow) matches(userAgent, deviceType string) bool {
	if !strings.HasPrefix(userAgent, row.Prefix) || row.DeviceType != "" && !strings.EqualFold(row.DeviceType, deviceType) {
		return false
	}
	if row.Second == "" {
		return true
	}
	for i, word := range strings.Fields(userAgent) {
		if i > 0 && strings.HasPrefix(word, row.Second) {
			return true
		}
	}
	return false
}

// read fills in what the user agent tells; false means that it only looks like a client of this row.
func (row *clientRow) read(c *Client, userAgent string) bool {
	name, version, _ := strings.Cut(userAgent, "/")
	version, rest, _ := strings.Cut(version, " ")
	switch row.Read {
	case "product":
		c.Version = version
	case "samsung":
		c.Model, c.Version = strings.TrimPrefix(name, row.Prefix), version
	case "ios":
		c.Version = version
		if build, _, ok := strings.Cut(strings.TrimPrefix(rest, "("), ")"); ok {
			c.Build = build
		}
	case "apple":
		return c.readApple(strings.TrimPrefix(name, "Apple-"), version)
	}
	return true
}

// readApple decodes what dataaccessd writes: the hardware model with "C" for the comma, and the build as its major number, two
// digits for the letter, a dot, the number, and five digits for a last letter if there is one. So 2401.539000006 is 24A5390f.
func (c *Client) readApple(hardware, build string) bool {
	digits := strings.IndexAny(hardware, "0123456789")
	if digits <= 0 {
		return false
	}
	major, minor, ok := strings.Cut(hardware[digits:], "C")
	if !ok || !decimal(major, 3) || !decimal(minor, 3) || !alphanumeric(hardware[:digits]) {
		return false
	}
	head, number, ok := strings.Cut(build, ".")
	if !ok || !decimal(head, 5) || len(head) < 3 || !decimal(number, 10) {
		return false
	}
	system, _ := strconv.Atoi(head[:len(head)-2])
	letter, ok := nthLetter(head[len(head)-2:], 'A')
	if !ok {
		return false
	}
	suffix := ""
	if at := len(number) - 5; at > 0 {
		if suffix, ok = nthLetter(number[at:], 'a'); !ok {
			return false
		}
		number = number[:at]
	}
	c.Model = hardware[:digits] + major + "," + minor
	c.Build = strconv.Itoa(system) + letter + number + suffix
	if c.Platform == "ios" {
		c.Version = iosMajor(system)
	}
	return true
}

// iosMajor gives the major version of iOS by the major number of its build: 7 for iOS 3, 22 for iOS 18, and 23 for iOS 26,
// when Apple changed to years.
func iosMajor(build int) string {
	switch {
	case build >= 23:
		return strconv.Itoa(build + 3)
	case build >= 7:
		return strconv.Itoa(build - 4)
	}
	return ""
}

// decimal reports whether s is 1 to limit decimal digits.
func decimal(s string, limit int) bool {
	return len(s) > 0 && len(s) <= limit && strings.Trim(s, "0123456789") == ""
}

// nthLetter gives the letter of the alphabet that a decimal number counts, from the given one on.
func nthLetter(digits string, first byte) (string, bool) {
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > 26 {
		return "", false
	}
	return string(first + byte(n-1)), true
}
