package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/vault"
)

type secretsOptions struct {
	client clientFlags
	output format
	file   string
	force  bool
}

func (o *secretsOptions) add(cmd *cobra.Command) *cobra.Command {
	o.client.add(cmd)
	return cmd
}

func newSecretsCommand(a *app) *cobra.Command {
	var o secretsOptions
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "List the secrets of the store, and change them",
		Long: `Lists the secrets that the server keeps in its store, encrypted, and who names them. Policies name one by {secret: NAME}
wherever they take {file: …}: certificates, keys, key sets. No command and no answer shows the value of one.

A server keeps secrets when it is started with a key for them: sluice secrets init-key makes one.`,
		Example: `  sluice secrets init-key /etc/sluice/secrets.key
  sluice serve --secrets-key /etc/sluice/secrets.key
  sluice secrets set edge-key --file edge.key
  sluice secrets`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listSecrets(cmd.Context(), a, o) },
	}
	addOutput(o.add(cmd), &o.output)
	cmd.AddCommand(newSecretsListCommand(a), newSecretsSetCommand(a), newSecretsDeleteCommand(a), newInitKeyCommand(a), newRotateKeyCommand(a))
	return cmd
}

func newSecretsListCommand(a *app) *cobra.Command {
	var o secretsOptions
	cmd := &cobra.Command{
		Use: "list", Short: "List the secrets of the store", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listSecrets(cmd.Context(), a, o) },
	}
	addOutput(o.add(cmd), &o.output)
	return cmd
}

func listSecrets(ctx context.Context, a *app, o secretsOptions) error {
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	list, err := client.Secrets(ctx)
	if err != nil {
		return a.refused(err)
	}
	return a.print(o.output, list, func(w io.Writer) {
		if len(list.Secrets) == 0 {
			fmt.Fprintln(w, "there are no secrets: sluice secrets set NAME makes one")
			return
		}
		var rows [][]string
		for _, s := range list.Secrets {
			rows = append(rows, []string{s.Name, s.Changed.Local().Format("2006-01-02 15:04:05"), s.Key, orDash(refList(s.UsedBy)), secretNote(s)})
		}
		columns(w, []string{"NAME", "CHANGED", "KEY", "USED BY", "NOTE"}, rows)
	})
}

func secretNote(s admin.Secret) string {
	switch {
	case s.Problem != "":
		return s.Problem
	case !s.Current:
		return "under an old key: sluice secrets rotate-key"
	}
	return ""
}

func refList(refs []policy.Ref) string {
	var out []string
	for _, ref := range refs {
		out = append(out, ref.String())
	}
	return strings.Join(out, ", ")
}

func newSecretsSetCommand(a *app) *cobra.Command {
	var o secretsOptions
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Make a secret of the store, or give it another value",
		Long: `Makes a secret of the store, or gives it another value, from a file or from standard input, as it is there. What names it takes
the new value at once, as it takes a file that has changed.`,
		Example: "  sluice secrets set edge-key --file edge.key\n  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | sluice secrets set edge-key",
		Args:    exactArgs("NAME"),
		RunE:    func(cmd *cobra.Command, args []string) error { return setSecret(cmd.Context(), a, o, args[0]) },
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.file, "file", "-", "the file that holds it; - for standard input")
	return cmd
}

func setSecret(ctx context.Context, a *app, o secretsOptions, name string) error {
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	value, err := a.readFile(o.file)
	if err != nil {
		return err
	}
	result, err := client.SetSecret(ctx, admin.SetSecretRequest{Name: name, Value: []byte(value)})
	if err != nil {
		return a.refused(err)
	}
	fmt.Fprintf(a.stdout, "secret %s is set\n", name)
	if len(result.UsedBy) > 0 {
		fmt.Fprintf(a.stdout, "%s takes it now: sluice why says whether it could\n", refList(result.UsedBy))
	}
	return nil
}

func newSecretsDeleteCommand(a *app) *cobra.Command {
	var o secretsOptions
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Forget a secret of the store",
		Long:    "Forgets a secret of the store. One that policies name is not deleted, unless that is forced: what was good last is served on until the server is started again.",
		Example: "  sluice secrets delete edge-key",
		Args:    exactArgs("NAME"),
		RunE:    func(cmd *cobra.Command, args []string) error { return deleteSecret(cmd.Context(), a, o, args[0]) },
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&o.force, "force", false, "delete it although policies name it")
	return cmd
}

func deleteSecret(ctx context.Context, a *app, o secretsOptions, name string) error {
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	_, err = client.DeleteSecret(ctx, admin.DeleteSecretRequest{Name: name, Force: o.force})
	if problem, ok := isProblems[*admin.Error](err); ok && problem.Code == admin.CodeInUse {
		return fmt.Errorf("%w: --force deletes it all the same", err)
	}
	if err != nil {
		return a.refused(err)
	}
	fmt.Fprintf(a.stdout, "secret %s is deleted\n", name)
	return nil
}

func newRotateKeyCommand(a *app) *cobra.Command {
	var o secretsOptions
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Put all secrets under the server's first key",
		Long: `Puts all secrets of the store under the key that the server was started with first. To take another key: make it with
init-key, start the server with --secrets-key NEW --secrets-key OLD, run rotate-key, and leave the old one out at the next start.
Several servers of one store are all given the new key as a second one before any of them has it first.`,
		Example: "  sluice secrets rotate-key",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return rotateSecretsKey(cmd.Context(), a, o) },
	}
	return o.add(cmd)
}

func rotateSecretsKey(ctx context.Context, a *app, o secretsOptions) error {
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	result, err := client.RotateSecrets(ctx)
	if err != nil {
		return a.refused(err)
	}
	fmt.Fprintf(a.stdout, "%s put under another key\n", count(result.Rotated, "secret"))
	if result.Problem != "" {
		return fmt.Errorf("not all are under it: %s", result.Problem)
	}
	return nil
}

func newInitKeyCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init-key FILE",
		Short: "Make a key for the secrets of the store",
		Long: `Makes a key for the secrets of the store: a new file that only its owner can read. Keep a copy of it apart from the backups of
the store: without the key the secrets in them are lost, and with both together they are not secret.`,
		Example: "  sluice secrets init-key /etc/sluice/secrets.key",
		Args:    exactArgs("FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return initKey(a, args[0]) },
	}
}

func initKey(a *app, file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: a key that secrets are under is not replaced; choose another name", err)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(vault.NewKeyText() + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	fmt.Fprintf(a.stdout, "wrote %s: start the server with sluice serve --secrets-key %s\n", file, file)
	return nil
}

// secretsKeys reads the keys that serve is given: files, or variables as env:NAME. The first is for new secrets.
func (a *app) secretsKeys(places []string) ([]vault.Key, error) {
	var ring []vault.Key
	for _, place := range places {
		text, err := a.secretsKey(place)
		if err != nil {
			return nil, fmt.Errorf("--secrets-key: %w", err)
		}
		key, err := vault.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("--secrets-key %s: %w", place, err)
		}
		ring = append(ring, key)
	}
	return ring, nil
}

func (a *app) secretsKey(place string) ([]byte, error) {
	if strings.Contains(place, vault.KeyPrefix) {
		return nil, errors.New("a key itself stands there, where others see it: make a new one, and name its file, or its variable as env:NAME")
	}
	if name, env := strings.CutPrefix(place, "env:"); env {
		text := a.getenv(name)
		if text == "" {
			return nil, fmt.Errorf("the variable %s is not set", name)
		}
		return []byte(text), nil
	}
	file := strings.TrimPrefix(place, "file:")
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("%w: sluice secrets init-key makes one", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others: chmod 600 %s", file, file)
	}
	return os.ReadFile(file)
}
