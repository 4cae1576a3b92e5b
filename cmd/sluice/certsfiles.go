package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/certs"
)

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// wrote says what stands where now, and when it is due.
func (a *app) wrote(base string, p certs.Pair) {
	c := p.Certificate
	fmt.Fprintf(a.stdout, "wrote %s.crt and %s.key: %s, good until %s; renew it from %s on\n", base, base, bearer(c), date(c.NotAfter), date(renewal(c)))
}

// renewal is when two thirds of a certificate's time are over.
func renewal(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// bearer is who a certificate is of.
func bearer(c *x509.Certificate) string {
	if name := certs.Identity(c); name != "" {
		return name
	}
	var hosts []string
	hosts = append(hosts, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	switch {
	case c.IsCA:
		return "the authority " + c.Subject.CommonName
	case len(hosts) > 0:
		return "the server " + strings.Join(hosts, ", ")
	}
	return c.Subject.String()
}

func newCertsRenewCommand(a *app) *cobra.Command {
	var f authorityFlags
	cmd := &cobra.Command{
		Use:   "renew FILE.crt …",
		Short: "Make a new certificate like this one, in its place",
		Long: `Makes a new certificate, with a new key, that says what the one in the file says and is good for as long. It takes the place of
the old one; its key that of FILE.key. What has the files open, as sluice serve, sluice agent and Envoy, takes the new ones
without a restart. The old certificate stays good until its end: revoke it if it is lost.`,
		Example: "  sluice certs renew server.crt edge-1.crt",
		Args:    someFiles,
		RunE: func(_ *cobra.Command, files []string) error {
			for _, file := range files {
				if err := a.renew(f, file); err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&f.days, "days", 0, "how long it is good (default: as the one before)")
	return cmd
}

func (a *app) renew(f authorityFlags, file string) error {
	base, ok := strings.CutSuffix(file, ".crt")
	if !ok {
		return errors.New("name the file of the certificate, which ends in .crt")
	}
	old, err := certs.ReadCertificate(file)
	if err != nil {
		return err
	}
	r, err := certs.RequestOf(old)
	if err != nil {
		return err
	}
	if f.days != 0 {
		if r.Lifetime, err = lifetime(f.days); err != nil {
			return err
		}
	}
	pair, err := f.folder().Issue(r)
	if err != nil {
		return err
	}
	if err := pair.Write(base, true); err != nil {
		return err
	}
	a.wrote(base, pair)
	return nil
}

func someFiles(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s wants one file or several: see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	return nil
}

// shownCertificate is how a certificate is shown.
type shownCertificate struct {
	Serial   string    `json:"serial"`
	Bearer   string    `json:"bearer"`
	Issuer   string    `json:"issuer"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	Advice   string    `json:"advice,omitempty"`
	Revoked  bool      `json:"revoked,omitempty"`
	Identity string    `json:"identity,omitempty"` // the URI
}

func shown(c *x509.Certificate) shownCertificate {
	return shownCertificate{
		Serial: certs.SerialOf(c), Bearer: bearer(c), Issuer: c.Issuer.String(), From: c.NotBefore, Until: c.NotAfter,
		Advice: certs.Advice(c, time.Now()), Identity: certs.Identity(c),
	}
}

func newCertsShowCommand(a *app) *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:     "show FILE",
		Short:   "Show what a certificate says",
		Example: "  sluice certs show edge-1.crt",
		Args:    exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := certs.ReadCertificate(args[0])
			if err != nil {
				return err
			}
			s := shown(c)
			return a.print(output, s, func(w io.Writer) { describeCertificate(w, c, s) })
		},
	}
	addOutput(cmd, &output)
	return cmd
}

func describeCertificate(w io.Writer, c *x509.Certificate, s shownCertificate) {
	fmt.Fprintf(w, "bearer  %s\nserial  %s\nissuer  %s\ngood    from %s to %s\n", s.Bearer, s.Serial, s.Issuer,
		s.From.UTC().Format(time.DateTime), s.Until.UTC().Format(time.DateTime))
	switch n, err := certs.NodeOf(c); {
	case s.Advice != "":
		fmt.Fprintf(w, "note    it %s\n", s.Advice)
	case err == nil && n.Node == "":
		fmt.Fprintf(w, "note    it is good for every Envoy and agent of the gateway %s\n", n.Gateway)
	case s.Identity == "" && !c.IsCA && len(c.DNSNames)+len(c.IPAddresses) == 0:
		fmt.Fprintf(w, "note    %v\n", err)
	}
}

func newCertsListCommand(a *app) *cobra.Command {
	var f authorityFlags
	var output format
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the certificates that the authority has signed",
		Example: "  sluice certs list",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			list, err := listCertificates(f.folder())
			if err != nil {
				return err
			}
			return a.print(output, list, func(w io.Writer) { printCertificates(w, list) })
		},
	}
	f.add(cmd)
	addOutput(cmd, &output)
	return cmd
}

func listCertificates(folder certs.Folder) ([]shownCertificate, error) {
	if _, err := folder.Open(); err != nil {
		return nil, err
	}
	issued, err := folder.Issued()
	if err != nil {
		return nil, err
	}
	revoked, err := folder.Revoked()
	if err != nil {
		return nil, err
	}
	out := []shownCertificate{}
	for _, c := range issued {
		s := shown(c)
		s.Revoked = revoked[s.Serial]
		out = append(out, s)
	}
	return out, nil
}

func printCertificates(w io.Writer, list []shownCertificate) {
	if len(list) == 0 {
		fmt.Fprintln(w, "it has signed none")
		return
	}
	var rows [][]string
	for _, s := range list {
		note := s.Advice
		if s.Revoked {
			note = "revoked"
		}
		rows = append(rows, []string{s.Serial, s.Bearer, date(s.Until), note})
	}
	columns(w, []string{"SERIAL", "BEARER", "UNTIL", "NOTE"}, rows)
}

func newCertsRevokeCommand(a *app) *cobra.Command {
	var f authorityFlags
	cmd := &cobra.Command{
		Use:   "revoke FILE | SERIAL | BEARER …",
		Short: "Take back certificates that were lost or stolen",
		Long: `Adds certificates to the authority's revocation list, ca.crl in its folder: one by its file or serial number, or all that a
bearer ever got by its URI. Bring that file to the servers, which take it without a restart: from then on they let the bearers
in no more, and end what is open.`,
		Example: "  sluice certs revoke edge-1.crt\n  sluice certs revoke spiffe://sluice/gateway/edge/node/edge-1",
		Args:    someFiles,
		RunE:    func(_ *cobra.Command, words []string) error { return a.revokeCertificates(f.folder(), words) },
	}
	f.add(cmd)
	return cmd
}

func (a *app) revokeCertificates(folder certs.Folder, words []string) error {
	authority, err := folder.Open()
	if err != nil {
		return err
	}
	issued, err := folder.Issued()
	if err != nil {
		return err
	}
	var found []*x509.Certificate
	for _, word := range words {
		some, err := findCertificates(word, authority.Certificate, issued)
		if err != nil {
			return err
		}
		found = append(found, some...)
	}
	var serials []*big.Int
	for _, c := range found {
		serials = append(serials, c.SerialNumber)
	}
	if err := folder.Revoke(serials...); err != nil {
		return err
	}
	for _, c := range found {
		fmt.Fprintf(a.stdout, "revoked %s (%s)\n", bearer(c), certs.SerialOf(c))
	}
	return nil
}

// findCertificates finds those of a bearer, or one by its serial number or file.
func findCertificates(word string, authority *x509.Certificate, issued []*x509.Certificate) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, c := range issued {
		if certs.SerialOf(c) == strings.ToLower(word) || strings.Contains(word, "://") && certs.Identity(c) == word {
			out = append(out, c)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	c, err := certs.ReadCertificate(word)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s is neither a file, nor a serial number or bearer of what this authority has signed: sluice certs list shows them", word)
	case err != nil:
		return nil, err
	case c.CheckSignatureFrom(authority) != nil:
		return nil, fmt.Errorf("%s was not signed by this authority", word)
	}
	return []*x509.Certificate{c}, nil
}
