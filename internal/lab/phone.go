package lab

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"time"
)

// PhoneConfig says what a phone and its mail client claim to be. The presets fill it in; every field may be changed afterwards.
type PhoneConfig struct {
	Name             string           // what it is called here, in CSRs and as FriendlyName
	UserAgent        string           // of the mail client
	SetUpAgent       string           // of the system's settings, which ask how to sign in; empty: UserAgent
	DeviceType       string           // of the query
	DeviceID         string           // the EAS DeviceId, up to 32 letters and digits
	Model, OS        string           // DeviceInformation (MS-ASCMD, section 2.2.3.45)
	InformationAgent string           // the UserAgent in DeviceInformation; empty: UserAgent
	Now              func() time.Time // nil: time.Now
}

// IPhone is Mail on an iPhone 15. An empty deviceID is replaced by a random one of the family's shape, here as in the others.
func IPhone(name, deviceID string) PhoneConfig {
	return PhoneConfig{
		Name: name, DeviceID: orRandom(deviceID, "", upperBase32, 26), DeviceType: "iPhone",
		UserAgent: "Apple-iPhone15C4/2401.539000006", SetUpAgent: "Preferences/2027.0.6.101 CFNetwork/3892.100.1 Darwin/27.0.0",
		Model: "iPhone15C4", OS: "iOS 27.0 24A5390f", InformationAgent: "iOS/27.0 (24A5390f) dataaccessd/1.0",
	}
}

// GmailAndroid is the Gmail app on an Android phone.
func GmailAndroid(name, deviceID string) PhoneConfig {
	return PhoneConfig{
		Name: name, DeviceID: orRandom(deviceID, "androidc", digits, 10), DeviceType: "Android",
		UserAgent: "Android-Mail/2026.08.17.700000000.release", Model: "Pixel 9", OS: "Android 16",
	}
}

// OutlookMobile is Outlook for iOS and Android, which says the same of itself on both. Its connections come from Microsoft's
// cloud, so it never presents a certificate: use it with [MailOptions].NoCertificate.
func OutlookMobile(name, deviceID string) PhoneConfig {
	return PhoneConfig{
		Name: name, DeviceID: orRandom(deviceID, "", lowerHex, 32), DeviceType: "Outlook",
		UserAgent: "Outlook-iOS-Android/1.0", Model: "Outlook for iOS and Android", OS: "OutlookBasicAuth",
	}
}

const (
	digits      = "0123456789"
	lowerHex    = digits + "abcdef"
	upperHex    = digits + "ABCDEF"
	upperBase32 = digits + "ABCDEFGHIJKLMNOPQRSTUV"
)

func orRandom(id, prefix, alphabet string, n int) string {
	if id != "" {
		return id
	}
	raw := make([]byte, n)
	rand.Read(raw)
	for i, b := range raw {
		raw[i] = alphabet[int(b)%len(alphabet)]
	}
	return prefix + string(raw)
}

// Phone is a device with at most one certificate and any number of mail profiles. It is safe for concurrent use.
type Phone struct {
	cfg PhoneConfig

	mu    sync.Mutex
	cert  *x509.Certificate
	key   *rsa.PrivateKey
	chain []*x509.Certificate
}

// NewPhone makes a phone without a certificate.
func NewPhone(cfg PhoneConfig) *Phone {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.SetUpAgent == "" {
		cfg.SetUpAgent = cfg.UserAgent
	}
	if cfg.InformationAgent == "" {
		cfg.InformationAgent = cfg.UserAgent
	}
	return &Phone{cfg: cfg}
}

// Config gives what the phone claims to be.
func (p *Phone) Config() PhoneConfig { return p.cfg }

// Certificate gives the phone's certificate, nil before it has enrolled.
func (p *Phone) Certificate() *x509.Certificate {
	cert, _ := p.identity()
	return cert
}

// Chain gives what GetCACert gave at the last enrolment.
func (p *Phone) Chain() []*x509.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chain
}

// Identity gives the certificate and its key for TLS; ok is false before the phone has enrolled. It stays good for tests of what
// becomes of an old certificate after [Phone.Renew].
func (p *Phone) Identity() (identity tls.Certificate, ok bool) {
	cert, key := p.identity()
	if cert == nil {
		return tls.Certificate{}, false
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, true
}

// PEM gives the certificate and its PKCS #8 key as files for curl and openssl. The error is [ErrNoCertificate] before the phone
// has enrolled.
func (p *Phone) PEM() (certificate, key []byte, err error) {
	cert, private := p.identity()
	if cert == nil {
		return nil, nil, ErrNoCertificate
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (p *Phone) identity() (*x509.Certificate, *rsa.PrivateKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cert, p.key
}

func (p *Phone) keep(cert *x509.Certificate, key *rsa.PrivateKey, chain []*x509.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cert, p.key, p.chain = cert, key, chain
}
