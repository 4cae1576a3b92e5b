package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/auditlog"
	"github.com/sluice-gateway/sluice/pkg/certs"
)

// adminFlags say who may call the admin API, and where it is written down what they do.
type adminFlags struct {
	cert, key, clientCA, crl string
	tokens                   string
	socket, openMetrics      bool
	audit                    string
}

func (f *adminFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.cert, "admin-cert", "", "a file with the admin API's certificate; with it, and with tokens or client certificates, --listen-admin may be any address (SLUICE_ADMIN_CERT)")
	cmd.Flags().StringVar(&f.key, "admin-key", "", "a file with its key (SLUICE_ADMIN_KEY)")
	cmd.Flags().StringVar(&f.clientCA, "admin-client-ca", "", "a file with the authorities of its clients' certificates (SLUICE_ADMIN_CLIENT_CA)")
	cmd.Flags().StringVar(&f.crl, "admin-crl", "", "a file with their revocation lists (SLUICE_ADMIN_CRL)")
	addTokenFile(cmd, &f.tokens, "")
	cmd.Flags().BoolVar(&f.socket, "admin-socket-tokens", false, "callers by a unix socket need a token, too; else who may open the socket may do everything")
	cmd.Flags().BoolVar(&f.openMetrics, "admin-open-metrics", false, "let everybody who reaches the admin API read /metrics; else that needs the role read")
	cmd.Flags().StringVar(&f.audit, "audit-log", "", "the file that keeps who did what; off for none (SLUICE_AUDIT_LOG; default: beside the store, its name with .audit)")
}

// addTokenFile adds the flag that serve and the commands about tokens have in common.
func addTokenFile(cmd *cobra.Command, path *string, more string) {
	cmd.Flags().StringVar(path, "admin-tokens", "", "the file that keeps the tokens of the admin API's callers, see sluice tokens"+more+" (SLUICE_ADMIN_TOKENS)")
}

// adminDoor is what the admin API lets callers in by. The zero value trusts loopback and unix sockets.
type adminDoor struct {
	access      *access.Door
	credentials *certs.Credentials
	openMetrics bool
	audit       *auditlog.Log
}

func (f adminFlags) tls() bool { return f.cert != "" || f.key != "" }

// open reads what the flags name. beside is the store's file, "" when that is none.
func (f adminFlags) open(beside string, log *slog.Logger) (adminDoor, error) {
	if err := f.check(); err != nil {
		return adminDoor{}, err
	}
	out, config := adminDoor{openMetrics: f.openMetrics}, access.Config{Socket: f.socket}
	var err error
	if f.tokens != "" {
		if config.Tokens, err = access.OpenTokens(f.tokens, log); err != nil {
			return adminDoor{}, fmt.Errorf("--admin-tokens: %w", err)
		}
	}
	if f.tls() {
		files := certs.Files{Certificate: f.cert, Key: f.key, CA: f.clientCA, CRL: f.crl}
		if out.credentials, err = certs.Open("admin", files, log); err != nil {
			return adminDoor{}, fmt.Errorf("--admin-cert, --admin-key, --admin-client-ca, --admin-crl: %w", err)
		}
	}
	if f.clientCA != "" {
		config.Certificates = out.credentials
	}
	out.access = access.New(config)
	out.audit, err = f.openAudit(beside, log)
	return out, err
}

func (f adminFlags) check() error {
	switch {
	case f.tls() && f.clientCA == "" && f.tokens == "":
		return errors.New("--admin-cert: nobody could call: say who may, by --admin-tokens, --admin-client-ca or both")
	case !f.tls() && (f.clientCA != "" || f.crl != ""):
		return errors.New("--admin-client-ca: clients show certificates by TLS only: give the server its own, by --admin-cert and --admin-key")
	case f.socket && f.tokens == "":
		return errors.New("--admin-socket-tokens: there are no tokens: name their file with --admin-tokens")
	}
	return nil
}

func (f adminFlags) openAudit(beside string, log *slog.Logger) (*auditlog.Log, error) {
	path := f.audit
	switch {
	case path == "off":
		log.Warn("it is not written down who changes what: --audit-log is off")
		return nil, nil
	case path == "" && beside == "":
		return nil, errors.New("--audit-log: there is no home to keep it in: name a file, or write off")
	case path == "":
		path = beside + ".audit"
	}
	opened, err := auditlog.Open(auditlog.Config{Path: path, Log: log})
	if errors.Is(err, auditlog.ErrInUse) {
		return nil, fmt.Errorf("--audit-log: %w: each server has its own: name another file", err)
	}
	if err != nil {
		return nil, fmt.Errorf("--audit-log: %w", err)
	}
	return opened, nil
}

// storeBeside is the store's file, by what stands beside it.
func storeBeside(catalog string) string { return strings.TrimSuffix(catalog, ".catalog") }
