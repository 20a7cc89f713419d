package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/ca"
	"postern/internal/server"
	"postern/internal/trust"
)

// maxIssuerFile is the size limit of what issuer commands read, in octets: a chain, a request, a CRL.
const maxIssuerFile = 256 << 10

// atOnce is what every command says that changes keys on disk.
const atOnce = "A running `postern serve` takes it up within seconds; `postern status` says so if it cannot."

func (a *app) issuerCommand() *cobra.Command {
	return group("issuer", "The keys of an issuer, on this machine: look up, rotate, have certified by somebody else",
		a.issuerShow(), a.issuerRotate(), a.issuerActivate(), a.issuerWithdraw(), a.issuerCSR(), a.issuerImport(), a.issuerImportCRL(),
		a.issuerRootCRL(), a.issuerSignCSR())
}

// keysOf is where the keys of an issuer are, and what package ca wants with them.
type keysOf struct {
	dir, data string
	spec      ca.Spec
}

// issuers returns every issuer of the configuration, or the one that is named.
func (a *app) issuers(id string) ([]keysOf, error) {
	if a.admin != "" {
		return nil, errors.New("keys are not changed over --admin: run this on the machine that has them, with its configuration")
	}
	cfg, err := server.ReadFile(a.config)
	if err != nil {
		return nil, err
	}
	var all []keysOf
	for _, i := range cfg.Issuers {
		if id == "" || i.ID == id {
			all = append(all, keysOf{dir: server.IssuerDir(cfg.Data, i.ID), data: cfg.Data, spec: i.Spec()})
		}
	}
	if len(all) == 0 && id != "" {
		return nil, fmt.Errorf("issuer %q is not in %s", id, a.config)
	}
	return all, nil
}

// issuer returns the issuer that is named, whose keys are there.
func (a *app) issuer(id string) (keysOf, error) {
	all, err := a.issuers(id)
	if err != nil {
		return keysOf{}, err
	}
	if _, err := os.Stat(all[0].dir); err != nil {
		return keysOf{}, fmt.Errorf("issuer %s has no keys yet: %w", id, err)
	}
	return all[0], nil
}

func (k keysOf) passphrase(generate bool) (ca.Passphrase, error) {
	return ca.LoadPassphrase(ca.PassphraseSource{Getenv: os.Getenv, Data: k.data, Generate: generate})
}

// generation is one key of an issuer as `issuer show` prints it.
type generation struct {
	Issuer      string    `json:"issuer"`
	Name        string    `json:"name"`
	State       ca.State  `json:"state"`
	Since       time.Time `json:"since,omitzero"` // when it got the state; of the first keys it may not be known
	Until       time.Time `json:"until,omitzero"` // of a retired one: when its last certificate has expired
	Key         string    `json:"key"`            // file, uri, or absent: elsewhere or gone
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"sha256"`
}

func (a *app) issuerShow() *cobra.Command {
	return &cobra.Command{Use: "show [ID]", Short: "Show root, issuing CAs and RAs with state and validity, as they are on disk", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := a.issuers(strings.Join(args, ""))
			if err != nil {
				return err
			}
			out := []generation{}
			for _, k := range all {
				list, err := k.generations()
				if errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("issuer %s is not complete: %w: make its keys with `postern init`, or with `issuer csr` and `issuer import`", k.spec.ID, err)
				}
				if err != nil {
					return fmt.Errorf("issuer %s: %w", k.spec.ID, err)
				}
				out = append(out, list...)
			}
			if a.json {
				return printJSON(c.OutOrStdout(), out)
			}
			rows := make([][]string, len(out))
			for i, g := range out {
				rows[i] = []string{g.Issuer, g.Name, string(g.State), stamp(g.Since), stamp(g.Until), g.Key, stamp(g.NotBefore), stamp(g.NotAfter)}
			}
			return table(c.OutOrStdout(), []string{"ISSUER", "NAME", "STATE", "SINCE", "NEEDED UNTIL", "KEY", "VALID FROM", "VALID TO"}, rows)
		}}
}

// generations reads what is on disk; it needs no passphrase.
func (k keysOf) generations() ([]generation, error) {
	issuing, ra, err := ca.Generations(k.dir)
	if err != nil {
		return nil, err
	}
	root, err := k.read(ca.RootCA, ca.Generation{State: ca.Current})
	if err != nil {
		return nil, err
	}
	out := []generation{root}
	for _, of := range []struct {
		first string
		list  []ca.Generation
	}{{ca.IssuingCA, issuing}, {string(ca.RotateRA), ra}} {
		for _, g := range of.list {
			name := of.first
			if g.Number > 1 {
				name += "-" + strconv.Itoa(g.Number)
			}
			one, err := k.read(name, g)
			if err != nil {
				return nil, err
			}
			out = append(out, one)
		}
	}
	return out, nil
}

func (k keysOf) read(name string, of ca.Generation) (generation, error) {
	g := generation{Issuer: k.spec.ID, Name: name, State: of.State, Since: of.Since, Until: of.Until, Key: "absent"}
	text, err := readIssuerFile(filepath.Join(k.dir, name+".crt"))
	if err != nil {
		return g, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return g, fmt.Errorf("%s.crt: not PEM", name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return g, fmt.Errorf("%s.crt: %w", name, err)
	}
	g.NotBefore, g.NotAfter, g.Fingerprint = cert.NotBefore, cert.NotAfter, ca.Fingerprint(cert)
	for ext, is := range map[string]string{".key": "file", ".uri": "uri"} {
		if _, err := os.Stat(filepath.Join(k.dir, name+ext)); err == nil {
			g.Key = is
		}
	}
	return g, nil
}

// readIssuerFile reads a file of at most maxIssuerFile octets.
func readIssuerFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIssuerFile+1))
	if err == nil && len(b) > maxIssuerFile {
		err = fmt.Errorf("%s is larger than %d octets", path, maxIssuerFile)
	}
	return b, err
}

// changed reports a change of the keys: what is in which state now.
func (a *app) changed(c *cobra.Command, k keysOf, text string) error {
	list, err := k.generations()
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(c.OutOrStdout(), list)
	}
	for _, g := range list {
		if g.Name != ca.RootCA && (g.State == ca.Next || g.State == ca.Current) {
			fmt.Fprintf(c.OutOrStdout(), "%s: %s, valid until %s\n", g.Name, g.State, stamp(g.NotAfter))
		}
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n%s\n", text, atOnce)
	return err
}

func (a *app) issuerRotate() *cobra.Command {
	var what string
	c := &cobra.Command{Use: "rotate ID", Short: "Prepare new keys, which are published and sign nothing until `issuer activate`", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			k, err := a.issuer(args[0])
			if err != nil {
				return err
			}
			pass, err := k.passphrase(false)
			if err != nil {
				return err
			}
			if err := ca.Rotate(k.dir, k.spec, pass, time.Now(), ca.What(what)); err != nil {
				if errors.Is(err, ca.ErrOffline) {
					return fmt.Errorf("%w: `postern issuer csr %s`, then `postern issuer import`", err, k.spec.ID)
				}
				return err
			}
			return a.changed(c, k, "Nothing is signed with what is next until `postern issuer activate "+k.spec.ID+"`; `issuer withdraw` gives it up.")
		}}
	c.Flags().StringVar(&what, "what", "", "issuing (the issuing CA, and the RA with it) or ra (the SCEP key alone)")
	_ = c.MarkFlagRequired("what")
	return c
}

func (a *app) issuerActivate() *cobra.Command {
	return &cobra.Command{Use: "activate ID", Short: "Put in force what is next, and retire what was", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		k, err := a.issuer(args[0])
		if err != nil {
			return err
		}
		if err := ca.Activate(k.dir, time.Now()); err != nil {
			return err
		}
		return a.changed(c, k, "What was in force is retired: its CRLs and OCSP answers go on until its last certificate has expired.")
	}}
}

func (a *app) issuerWithdraw() *cobra.Command {
	return &cobra.Command{Use: "withdraw ID", Short: "Give up what is next, and remove its keys", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		k, err := a.issuer(args[0])
		if err != nil {
			return err
		}
		if err := ca.Withdraw(k.dir, time.Now()); err != nil {
			return err
		}
		return a.changed(c, k, "What was next is withdrawn. A key in a token or a service has to be removed there.")
	}}
}

func (a *app) issuerCSR() *cobra.Command {
	return &cobra.Command{Use: "csr ID", Short: "Make the key of an issuing CA and a request for it, for a company's own PKI or an offline root", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := a.issuers(args[0])
			if err != nil {
				return err
			}
			k := all[0]
			// Only where no issuer has keys yet may the passphrase be a new one.
			_, err = os.Stat(filepath.Dir(k.dir))
			fresh := errors.Is(err, fs.ErrNotExist)
			if err := os.MkdirAll(k.data, 0o700); err != nil {
				return fmt.Errorf("make data directory: %w", err)
			}
			pass, err := k.passphrase(fresh)
			if err != nil {
				return err
			}
			path, err := ca.CSR(k.dir, k.spec, pass)
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), map[string]string{"csr": path})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\nHave it signed as a CA, then: postern issuer import %s CHAIN\n", path, k.spec.ID)
			return err
		}}
}

func (a *app) issuerImport() *cobra.Command {
	return &cobra.Command{Use: "import ID CHAIN", Short: "Take the answer to `issuer csr`: the new certificate and all above it, up to the root, in PEM or as .p7b", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			k, err := a.issuer(args[0])
			if err != nil {
				return err
			}
			chain, err := readIssuerFile(args[1])
			if err != nil {
				return err
			}
			pass, err := k.passphrase(false)
			if err != nil {
				return err
			}
			if err := ca.Import(k.dir, k.spec, pass, time.Now(), chain); err != nil {
				return err
			}
			return a.changed(c, k, "What is next, if anything is, signs nothing until `postern issuer activate "+k.spec.ID+"`.")
		}}
}

func (a *app) issuerImportCRL() *cobra.Command {
	return &cobra.Command{Use: "import-crl ID FILE", Short: "Take a CRL that `issuer root-crl` has made, to publish it", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			k, err := a.issuer(args[0])
			if err != nil {
				return err
			}
			raw, err := readIssuerFile(args[1])
			if err != nil {
				return err
			}
			if err := ca.ImportCRL(k.dir, raw, time.Now()); err != nil {
				return err
			}
			return a.changed(c, k, "The CRL of the root is stored.")
		}}
}

// offlinePassphrase is that of an offline root; nothing is made there.
func offlinePassphrase(dir string) (ca.Passphrase, error) {
	return ca.LoadPassphrase(ca.PassphraseSource{Getenv: os.Getenv, Data: dir})
}

func (a *app) issuerRootCRL() *cobra.Command {
	var life time.Duration
	var serials []string
	c := &cobra.Command{Use: "root-crl DIR", Short: "Sign a CRL with the offline root in DIR, and print it; no configuration is read", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var revoked []x509.RevocationListEntry
			for _, s := range serials {
				n, ok := new(big.Int).SetString(s, 16)
				if !ok || n.Sign() <= 0 {
					return fmt.Errorf("--revoke %q: want the serial number of an issuing CA in hexadecimal", s)
				}
				revoked = append(revoked, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now().UTC(), ReasonCode: trust.CACompromise.Number()})
			}
			pass, err := offlinePassphrase(args[0])
			if err != nil {
				return err
			}
			der, err := ca.SignRootCRLOffline(args[0], pass, time.Now(), life, revoked...)
			if err != nil {
				return err
			}
			return a.printPEM(c, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
		}}
	c.Flags().DurationVar(&life, "life", 366*24*time.Hour, "how long it is good for, a day to two years")
	c.Flags().StringSliceVar(&serials, "revoke", nil, "serial number of an issuing CA to revoke as compromised, hexadecimal (repeatable); what was revoked before stays revoked")
	return c
}

func (a *app) issuerSignCSR() *cobra.Command {
	return &cobra.Command{Use: "sign-csr DIR CSR.pem", Short: "Sign the request of `issuer csr` with the offline root in DIR, and print the chain; no configuration is read", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			csr, err := readIssuerFile(args[1])
			if err != nil {
				return err
			}
			pass, err := offlinePassphrase(args[0])
			if err != nil {
				return err
			}
			chain, err := ca.SignIssuingOffline(args[0], pass, time.Now(), csr)
			if err != nil {
				return err
			}
			return a.printPEM(c, chain)
		}}
}

func (a *app) printPEM(c *cobra.Command, text []byte) error {
	if a.json {
		return printJSON(c.OutOrStdout(), map[string]string{"pem": string(text)})
	}
	_, err := c.OutOrStdout().Write(text)
	return err
}
