package edge

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/trust"
)

// serialIn is the serial number of a phone's certificate.
func serialIn(k keyPair) trust.Serial {
	c, err := x509.ParseCertificate(k.Cert)
	if err != nil {
		return ""
	}
	return trust.SerialOf(c.SerialNumber)
}

// simulated is a phone of the load: one connection, one certificate.
type simulated struct {
	gate   string
	config *tls.Config
	user   string
	easID  string
	conn   net.Conn
	reader *bufio.Reader
}

func newSimulated(i int, gate string, pair keyPair) (*simulated, error) {
	cert, err := pair.tls()
	if err != nil {
		return nil, err
	}
	return &simulated{gate: gate, user: phoneUser(i), easID: fmt.Sprintf("phone%d", i), config: &tls.Config{ServerName: benchHost, InsecureSkipVerify: true, //nolint:gosec // the server is ours
		Certificates: []tls.Certificate{cert}, NextProtos: []string{protocolHTTP1}}}, nil
}

func (s *simulated) dial() error {
	raw, err := net.Dial("tcp", s.gate)
	if err != nil {
		return err
	}
	c := tls.Client(raw, s.config)
	if err := c.Handshake(); err != nil {
		return err
	}
	s.conn, s.reader = c, bufio.NewReaderSize(c, 1024)
	return nil
}

// send writes a command. Its device type is a fact that decides nothing.
func (s *simulated) send(cmd, deviceType string) error {
	body := strings.Repeat("b", 213)
	_, err := fmt.Fprintf(s.conn, "POST /Microsoft-Server-ActiveSync?Cmd=%s&User=%s&DeviceId=%s&DeviceType=%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Apple-iPhone15C4/2201.539000006\r\n"+
		"Authorization: Basic %s\r\nMS-ASProtocolVersion: 16.1\r\nX-MS-PolicyKey: 1234567\r\nContent-Type: application/vnd.ms-sync.wbxml\r\nContent-Length: %d\r\n\r\n%s",
		cmd, strings.Replace(s.user, "@", "%40", 1), s.easID, deviceType, benchHost, base64.StdEncoding.EncodeToString([]byte(s.user+":secret")), len(body), body)
	return err
}

// receive reads an answer.
func (s *simulated) receive() (*http.Response, error) {
	resp, err := http.ReadResponse(s.reader, nil)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err
}

func (s *simulated) sync(deviceType string) error {
	if err := s.send("Sync", deviceType); err != nil {
		return err
	}
	resp, err := s.receive()
	if err == nil && (resp.StatusCode != 200 || resp.ContentLength != 480) {
		err = fmt.Errorf("answer %d of %d bytes, reference %s", resp.StatusCode, resp.ContentLength, resp.Header.Get("X-Postern-Reference"))
	}
	return err
}

// playClient makes the load that envLoad says.
func playClient() error {
	load := strings.Fields(os.Getenv(envLoad))
	connections, _ := strconv.Atoi(load[1])
	var pairs []keyPair
	if err := readJSON(os.Getenv(envDir), "phones.json", &pairs); err != nil {
		return err
	}
	phones := make([]*simulated, connections)
	for i := range phones {
		p, err := newSimulated(i, os.Getenv(envGate), pairs[i])
		if err != nil {
			return err
		}
		phones[i] = p
	}
	switch load[0] {
	case "hold":
		return holdAll(phones)
	case "handshake":
		fmt.Println("ready")
		return rounds(phones, func(p *simulated, _ int64, _ int) error {
			defer func() { _ = p.conn.Close() }()
			if err := p.dial(); err != nil {
				return err
			}
			return p.sync("iPhone")
		})
	}
	for _, p := range phones {
		if err := errors.Join(p.dial()); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	return rounds(phones, func(p *simulated, n int64, every int) error {
		if every > 0 && n%int64(every) == 0 {
			return p.sync("iPhone" + strconv.FormatInt(rand.Int64N(1<<40), 36))
		}
		return p.sync("iPhone")
	})
}

// rounds answers "N M" by N requests over all phones, every M-th with new facts, and says how many seconds they took.
func rounds(phones []*simulated, do func(p *simulated, n int64, every int) error) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var total int64
		var every int
		_, _ = fmt.Sscan(in.Text(), &total, &every)
		var next atomic.Int64
		var failed atomic.Pointer[error]
		var wg sync.WaitGroup
		began := time.Now()
		for _, p := range phones {
			wg.Go(func() {
				for n := next.Add(1); n <= total && failed.Load() == nil; n = next.Add(1) {
					if err := do(p, n, every); err != nil {
						failed.Store(&err)
					}
				}
			})
		}
		wg.Wait()
		if err := failed.Load(); err != nil {
			return *err
		}
		fmt.Println(time.Since(began).Seconds())
	}
	return nil
}

// holdAll has every phone hold a Ping. A phone that is refused is done; one that is asked back comes when it is asked to. "status" says how many Pings are
// open, how many phones were refused, when the last was, how many came back, and the most that came back within one second since "anew".
func holdAll(phones []*simulated) error {
	var open, refused, last, back, odd atomic.Int64
	var mu sync.Mutex
	seconds := map[int64]int64{}
	room := make(chan struct{}, 64) // handshakes at once, while they come for the first time
	for _, p := range phones {
		go func() {
			room <- struct{}{}
			for first := true; ; first = false {
				err := p.dial()
				if err == nil {
					err = p.send("Ping", "iPhone")
				}
				if first {
					<-room
				} else {
					back.Add(1)
					mu.Lock()
					seconds[time.Now().Unix()]++
					mu.Unlock()
				}
				wait := time.Second
				if err == nil {
					open.Add(1)
					var resp *http.Response
					resp, err = p.receive()
					open.Add(-1)
					if err == nil && resp.StatusCode == http.StatusOK {
						last.Store(time.Now().UnixNano())
						refused.Add(1)
						return
					}
					if err == nil {
						n, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
						wait = time.Duration(n) * time.Second
					}
				}
				if err != nil {
					odd.Add(1)
				}
				_ = p.conn.Close()
				time.Sleep(wait)
			}
		}()
	}
	fmt.Println("ready")
	return answerLines(map[string]func() string{"anew": func() string {
		mu.Lock()
		defer mu.Unlock()
		clear(seconds)
		return "counted anew"
	}, "status": func() string {
		mu.Lock()
		defer mu.Unlock()
		most := int64(0)
		for _, n := range seconds {
			most = max(most, n)
		}
		return fmt.Sprint(open.Load(), refused.Load(), last.Load(), back.Load(), most, odd.Load())
	}})
}
