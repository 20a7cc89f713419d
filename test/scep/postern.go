package scep

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Applicant is somebody who may ask for a certificate.
type Applicant struct {
	Challenge    string
	Mail         string // the owner's
	Device       string // id, where the server has such a thing
	SerialNumber string // of the hardware
}

// PosternOptions change what `postern init` writes.
type PosternOptions struct {
	Binary string
	Legacy bool     // accept DES, 3DES and SHA-1
	Policy string   // directory with further policies
	Issuer []string // further keys of the issuer, each a line of YAML
	More   string   // further sections, in YAML
}

// Postern is an installation of Postern in a directory, with ports of its own. The path of the directory must be short: a socket is in it.
type Postern struct {
	Dir, URL string
	// Ready is how long the last start took until every listener was open.
	Ready time.Duration

	binary string
	serve  *process
	added  int
}

// Domain is the mail domain of the issuer that NewPostern makes, and Issuer its name.
const (
	Domain = "contoso.com"
	Issuer = "contoso"
)

// NewPostern runs `postern init`. Start starts it.
func NewPostern(dir string, o PosternOptions) (*Postern, error) {
	p := &Postern{Dir: dir, binary: o.Binary}
	if _, err := p.run("init", ".", "--issuer", Issuer, "--domain", Domain); err != nil {
		return nil, err
	}
	var address [3]string
	for i := range address {
		var err error
		if address[i], err = freeAddress(); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(dir, "postern.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for _, c := range [][2]string{{"127.0.0.1:8080", address[0]}, {"127.0.0.1:8443", address[1]}, {"127.0.0.1:9000", address[2]},
		{"legacy_clients: false", strings.Join(append([]string{fmt.Sprintf("legacy_clients: %t", o.Legacy)}, o.Issuer...), "\n    ")}, {`path: ""`, fmt.Sprintf("path: %q", o.Policy)}} {
		if !bytes.Contains(text, []byte(c[0])) {
			return nil, fmt.Errorf("postern.yaml has no %q", c[0])
		}
		text = bytes.ReplaceAll(text, []byte(c[0]), []byte(c[1]))
	}
	p.URL = "http://" + address[0] + "/scep/" + Issuer
	return p, os.WriteFile(path, append(text, "\n"+o.More+"\n"...), 0o600)
}

// run runs the binary to its end and returns what it printed.
func (p *Postern) run(args ...string) ([]byte, error) {
	cmd := exec.Command(p.binary, args...)
	var out, said bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Dir, &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("postern %s: %w\n%s", strings.Join(args, " "), err, said.Bytes())
	}
	return out.Bytes(), nil
}

// Start runs `postern serve` until it is ready.
func (p *Postern) Start() error {
	cmd := exec.Command(p.binary, "serve")
	cmd.Dir = p.Dir
	begin := time.Now()
	var err error
	p.serve, err = start(cmd, filepath.Join(p.Dir, "serve.log"), func(out []byte) bool { return bytes.Contains(out, []byte("msg=ready")) })
	p.Ready = time.Since(begin)
	return err
}

// Stop ends the server.
func (p *Postern) Stop() error { return p.serve.stop() }

// CPU is the processor time that the server has used since its start; 0 where the system does not tell.
func (p *Postern) CPU() time.Duration { return p.serve.cpu() }

// Tail returns the end of the server's log.
func (p *Postern) Tail() string { return p.serve.tail() }

// Add adds a device of its own owner and makes a challenge for it. The model is what policies may look at.
func (p *Postern) Add(model string) (Applicant, error) {
	p.added++
	a := Applicant{Mail: fmt.Sprintf("user%d@%s", p.added, Domain), SerialNumber: fmt.Sprintf("SN%06d", p.added)}
	id, err := p.run("device", "add", "--owner", a.Mail, "--serial-number", a.SerialNumber, "--model", model)
	if err != nil {
		return a, err
	}
	a.Device = strings.TrimSpace(string(id))
	return p.Challenge(a)
}

// Challenge makes another challenge for the same device.
func (p *Postern) Challenge(a Applicant) (Applicant, error) {
	out, err := p.run("device", "challenge", a.Device, "--json")
	if err != nil {
		return a, err
	}
	var c struct{ Challenge string }
	if err := json.Unmarshal(out, &c); err != nil {
		return a, fmt.Errorf("postern device challenge: %w", err)
	}
	a.Challenge = c.Challenge
	return a, nil
}

// Revoke revokes a certificate for good.
func (p *Postern) Revoke(serial *big.Int) error { return p.cert("revoke", serial) }

// Hold puts a certificate on hold.
func (p *Postern) Hold(serial *big.Int) error { return p.cert("hold", serial) }

func (p *Postern) cert(action string, serial *big.Int) error {
	_, err := p.run("cert", action, fmt.Sprintf("%x", serial.Bytes()))
	return err
}

// Approve lets the request of an applicant that waits lead to a certificate.
func (p *Postern) Approve(a Applicant) error {
	out, err := p.run("pending", "list", "--device", a.Device, "--state", "waiting", "--json")
	if err != nil {
		return err
	}
	var waiting []struct{ ID string }
	if err := json.Unmarshal(out, &waiting); err != nil {
		return fmt.Errorf("postern pending list: %w", err)
	}
	if len(waiting) != 1 {
		return fmt.Errorf("%d requests of device %s wait", len(waiting), a.Device)
	}
	_, err = p.run("pending", "approve", waiting[0].ID)
	return err
}

// PrepareNext makes the next issuing CA, which signs nothing, and waits until the server has published its certificate.
func (p *Postern) PrepareNext() error {
	if _, err := p.run("issuer", "rotate", Issuer, "--what", "issuing"); err != nil {
		return err
	}
	url := strings.Replace(p.URL, "/scep/"+Issuer, "/"+Issuer+"/issuing-2.cer", 1)
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: HTTP %d", url, resp.StatusCode)
		}
	}
}

// Block keeps a device out.
func (p *Postern) Block(a Applicant) error {
	_, err := p.run("device", "block", a.Device)
	return err
}
