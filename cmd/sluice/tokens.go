package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/access"
)

func newTokensCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tokens",
		Short: "Make and take back the tokens of the admin API's callers",
		Long: `Works on the token file of sluice serve --admin-tokens, on the server's machine and without asking the server, which reads
the file again when it changes. Tokens are for people and programs that call the admin API; sluice keeps their SHA-256 only.

Roles: read looks; apply changes policies, and looks; secrets changes what is secret, and looks. A token may have several.`,
		Args: cobra.ArbitraryArgs,
		RunE: onlySubcommands,
	}
	cmd.AddCommand(newTokensCreateCommand(a), newTokensListCommand(a), newTokensDeleteCommand(a))
	return cmd
}

type tokensOptions struct {
	file    string
	name    string
	roles   []string
	expires string
	output  format
}

func (o *tokensOptions) add(cmd *cobra.Command) { addTokenFile(cmd, &o.file, ", which serve has, too") }

func (o *tokensOptions) check() error {
	if o.file == "" {
		return errors.New("name the token file with --admin-tokens or SLUICE_ADMIN_TOKENS, as sluice serve has it")
	}
	return nil
}

func newTokensCreateCommand(a *app) *cobra.Command {
	var o tokensOptions
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token, and print it once",
		Long: `Makes a token and prints it on stdout. It is not kept: whoever loses it makes another one. The file is made when it is
missing, for its owner alone; run this as the user that sluice serve runs as.`,
		Example: `  sluice tokens create --admin-tokens /etc/sluice/tokens.json --name ci --role apply > ci.token
  sluice tokens create --admin-tokens /etc/sluice/tokens.json --name prometheus --role read --expires never`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.createToken(o) },
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.name, "name", "", "what it is for: the audit log names it")
	cmd.Flags().StringSliceVar(&o.roles, "role", nil, "read, apply or secrets; may be repeated")
	cmd.Flags().StringVar(&o.expires, "expires", "90d", "how long it counts, such as 12h or 90d; or never")
	return cmd
}

func (a *app) createToken(o tokensOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.name == "" {
		return errors.New("say what the token is for, with --name")
	}
	roles, err := access.ParseRoles(o.roles)
	if err != nil {
		return fmt.Errorf("--role: %w", err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	expires, err := expiry(o.expires, now)
	if err != nil {
		return fmt.Errorf("--expires: %w", err)
	}
	token, digest := access.NewToken()
	made := access.Token{Name: o.name, Roles: roles, SHA256: digest, Created: now, Expires: expires, By: a.who()}
	err = access.EditTokens(o.file, func(list []access.Token) ([]access.Token, error) {
		if slices.ContainsFunc(list, func(t access.Token) bool { return t.Name == o.name }) {
			return nil, fmt.Errorf("there is a token %s already: choose another name, or delete that one first", o.name)
		}
		return append(list, made), nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "token %s: %s, %s; it is shown this once:\n", made.Name, made.Roles, counts(made, now))
	fmt.Fprintln(a.stdout, token)
	return nil
}

// expiry reads how long a token counts.
func expiry(text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		var n int
		if n, err = strconv.Atoi(days); err == nil && n > 36500 {
			err = errors.New("too long")
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d <= 0 {
		return time.Time{}, fmt.Errorf("%q is no time: write 12h, 90d or never", text)
	}
	return now.Add(d), nil
}

// counts says how long a token counts.
func counts(t access.Token, now time.Time) string {
	switch {
	case t.Expires.IsZero():
		return "for ever"
	case t.Expired(now):
		return "expired " + t.Expires.UTC().Format(time.DateTime)
	}
	return "until " + t.Expires.UTC().Format(time.DateTime)
}

func newTokensListCommand(a *app) *cobra.Command {
	var o tokensOptions
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Show what tokens there are",
		Long:    `Shows the names of the tokens, what they may do and how long they count. The tokens themselves are not kept.`,
		Example: `  sluice tokens list --admin-tokens /etc/sluice/tokens.json`,
		Args:    noArgs,
		RunE:    func(*cobra.Command, []string) error { return a.listTokens(o) },
	}
	o.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

func (a *app) listTokens(o tokensOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	list, err := access.ReadTokens(o.file)
	if err != nil {
		return err
	}
	return a.print(o.output, map[string]any{"tokens": slices.Concat([]access.Token{}, list)}, func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "there are no tokens: sluice tokens create makes one")
		}
		var rows [][]string
		for _, t := range list {
			rows = append(rows, []string{t.Name, t.Roles.String(), t.Created.UTC().Format(time.DateTime), counts(t, time.Now()), t.By})
		}
		columns(w, []string{"NAME", "ROLES", "CREATED", "COUNTS", "BY"}, rows)
	})
}

func newTokensDeleteCommand(a *app) *cobra.Command {
	var o tokensOptions
	cmd := &cobra.Command{
		Use:     "delete NAME...",
		Short:   "Take tokens back, from the next request on",
		Long:    `Takes tokens out of the file. The server lets them in no more, from the next request on.`,
		Example: `  sluice tokens delete ci --admin-tokens /etc/sluice/tokens.json`,
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, names []string) error { return a.deleteTokens(o, names) },
	}
	o.add(cmd)
	return cmd
}

func (a *app) deleteTokens(o tokensOptions, names []string) error {
	if err := o.check(); err != nil {
		return err
	}
	if _, err := access.ReadTokens(o.file); errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return access.EditTokens(o.file, func(list []access.Token) ([]access.Token, error) {
		for _, name := range names {
			i := slices.IndexFunc(list, func(t access.Token) bool { return t.Name == name })
			if i < 0 {
				return nil, fmt.Errorf("there is no token %s: nothing was deleted", name)
			}
			list = slices.Delete(list, i, i+1)
		}
		fmt.Fprintf(a.stdout, "%s deleted\n", count(len(names), "token"))
		return list, nil
	})
}
