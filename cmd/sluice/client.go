package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/certs"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// clientFlags say which server is asked, and how the caller proves itself there.
type clientFlags struct {
	server        string
	ca, cert, key string
	tokenFile     string
	fileFlag      *pflag.Flag
}

func (c *clientFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.server, "server", "http://"+admin.DefaultAddress, "the server's admin API, http://host:port, https://host:port or unix:///path (SLUICE_SERVER)")
	cmd.Flags().StringVar(&c.ca, "server-ca", "", "a file with the authorities of the server's certificate; default: those that the system trusts (SLUICE_SERVER_CA)")
	cmd.Flags().StringVar(&c.cert, "client-cert", "", "a file with the certificate that you call with (SLUICE_CLIENT_CERT)")
	cmd.Flags().StringVar(&c.key, "client-key", "", "a file with its key (SLUICE_CLIENT_KEY)")
	cmd.Flags().StringVar(&c.tokenFile, "token-file", "", "a file with the token that you call with; the token itself may stand in SLUICE_TOKEN (SLUICE_TOKEN_FILE)")
	c.fileFlag = cmd.Flags().Lookup("token-file")
}

func (c *clientFlags) client(a *app) (*admin.Client, error) {
	config := admin.ClientConfig{Server: c.server}
	var err error
	if config.Token, err = c.token(a); err != nil {
		return nil, err
	}
	if config.TLS, err = c.tls(); err != nil {
		return nil, err
	}
	return admin.Dial(config)
}

// token is the token to call with, "" for none: that of the file which the flag names, else of SLUICE_TOKEN, else of
// another file. It is never a flag, since all on the machine see those.
func (c *clientFlags) token(a *app) (string, error) {
	text, from := a.getenv("SLUICE_TOKEN"), "SLUICE_TOKEN"
	if c.tokenFile != "" && (text == "" || c.fileFlag.Changed) {
		body, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		text, from = string(body), c.tokenFile
	}
	if text = strings.TrimSpace(text); text == "" {
		if from == c.tokenFile && from != "" {
			return "", fmt.Errorf("%s holds no token", from)
		}
		return "", nil
	}
	if _, err := access.ParseToken(text); err != nil {
		return "", fmt.Errorf("%s: %w", from, err)
	}
	return text, nil
}

// tls is for servers that are called by https, nil for what the system does.
func (c *clientFlags) tls() (*tls.Config, error) {
	if c.ca == "" && c.cert == "" && c.key == "" {
		return nil, nil
	}
	files, err := certs.Open("server", certs.Files{Certificate: c.cert, Key: c.key, CA: c.ca}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("--server-ca, --client-cert, --client-key: %w", err)
	}
	return files.ClientConfig(""), nil
}

// refused shows what the server has against a request, and gives the error with its exit code.
func (a *app) refused(err error) error {
	problem, ok := isProblems[*admin.Error](err)
	switch {
	case !ok:
		return err
	case problem.Code == admin.CodeProblems:
		a.problems(problem.Problems, problem.Dropped)
		return &exit{exitError, errors.New("nothing was applied")}
	case problem.Code == admin.CodeConflict:
		return &exit{exitConflict, err}
	}
	return err
}

// who names the person and machine that ask.
func (a *app) who() string {
	name := a.getenv("USER")
	if name == "" {
		name = a.getenv("LOGNAME")
	}
	host, err := os.Hostname()
	switch {
	case err != nil:
		return name
	case name == "":
		return host
	}
	return name + "@" + host
}

// kinds are the kinds of objects that there are.
func (a *app) kinds() []string {
	kinds := []string{compile.KindGateway, compile.KindService, compile.KindRoute, compile.KindPolicy, compile.KindTemplate, compile.KindCertificate}
	for _, k := range a.features.Kinds() {
		kinds = append(kinds, k.Name)
	}
	return kinds
}

// kind finds a kind by its name, in any case and also in the plural.
func (a *app) kind(word string) (string, error) {
	for _, k := range a.kinds() {
		if strings.EqualFold(word, k) || strings.EqualFold(word, k+"s") || strings.EqualFold(word, strings.TrimSuffix(k, "y")+"ies") {
			return k, nil
		}
	}
	if near := policy.Nearest(word, a.kinds()); near != "" {
		return "", fmt.Errorf("there is no kind %q: did you mean %s?", word, near)
	}
	return "", fmt.Errorf("there is no kind %q; there are: %s", word, strings.Join(a.kinds(), ", "))
}

// ref reads Kind/name.
func (a *app) ref(word string) (policy.Ref, error) {
	kind, name, ok := strings.Cut(word, "/")
	if !ok || name == "" {
		return policy.Ref{}, fmt.Errorf("%q is not KIND/NAME: write for example Route/orders-api", word)
	}
	kind, err := a.kind(kind)
	return policy.Ref{Kind: kind, Name: name}, err
}

// refs reads KIND/NAME words, or the two words KIND NAME.
func (a *app) refs(words []string) ([]policy.Ref, error) {
	if len(words) == 2 && !strings.Contains(words[0]+words[1], "/") {
		words = []string{words[0] + "/" + words[1]}
	}
	var out []policy.Ref
	for _, word := range words {
		ref, err := a.ref(word)
		if err != nil {
			return nil, err
		}
		out = append(out, ref)
	}
	return out, nil
}
