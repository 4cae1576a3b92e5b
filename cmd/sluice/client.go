package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// clientFlags say which server is asked.
type clientFlags struct {
	server string
}

func (c *clientFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.server, "server", "http://"+admin.DefaultAddress, "the server's admin API, http://host:port or unix:///path (SLUICE_SERVER)")
}

func (c *clientFlags) client() (*admin.Client, error) { return admin.NewClient(c.server) }

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
