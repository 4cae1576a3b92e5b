package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

func newKeysCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make, rotate and take back the API keys of the gateway's clients",
		Long: `Works on the API keys that routes with authenticate: {apiKey: …} take. A key is shown once, when it is made; only its SHA-256
is kept. What changes is in force at every gateway within a second, without an apply.`,
		Args: cobra.ArbitraryArgs,
		RunE: onlySubcommands,
	}
	cmd.AddCommand(
		newKeysCreateCommand(a), newKeysListCommand(a), newKeysShowCommand(a), newKeysRotateCommand(a),
		newKeyChangeCommand(a, "disable", "Take an API key out of use", "It can be taken into use again with sluice keys enable."),
		newKeyChangeCommand(a, "enable", "Take an API key into use again", "The key that its owner has works again."),
		newKeyChangeCommand(a, "delete", "Remove an API key for good", "Nothing is left of it: to be able to go back, disable it."),
	)
	return cmd
}

// onlySubcommands runs a command that does nothing by itself.
func onlySubcommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return fmt.Errorf("there is no command %s %q: see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
}

type keysOptions struct {
	client  clientFlags
	output  format
	request admin.NewKeyRequest
	expires string
	grace   string
	now     bool
	owner   string
}

func (o *keysOptions) add(cmd *cobra.Command) {
	o.client.add(cmd)
	addOutput(cmd, &o.output)
}

func newKeysCreateCommand(a *app) *cobra.Command {
	var o keysOptions
	cmd := &cobra.Command{
		Use:   "create --owner NAME",
		Short: "Make an API key, and print it once",
		Long: `Makes an API key and prints it on stdout. It is not kept: whoever loses it is given another one with sluice keys rotate.
The owner is the user that services and limits see; scopes, permissions and plan are what routes ask for.`,
		Example: `  sluice keys create --owner acme --permissions place_orders --plan gold --expires 365d > acme.key
  sluice keys create --owner acme --name "nightly import" --scopes read,write -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return createKey(cmd.Context(), a, o) },
	}
	o.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.request.Owner, "owner", "", "whose it is: the user that services see (required)")
	f.StringVar(&o.request.Name, "name", "", "what it is for, for people")
	f.StringVar(&o.request.Plan, "plan", "", "the plan whose limits hold for it")
	f.StringSliceVar(&o.request.Scopes, "scopes", nil, "what authorize: {scopes: …} asks for, with commas between")
	f.StringSliceVar(&o.request.Permissions, "permissions", nil, "what authorize: {permissions: …} asks for, with commas between")
	f.StringVar(&o.expires, "expires", "never", "how long it holds, such as 12h or 90d; or never")
	return cmd
}

func createKey(ctx context.Context, a *app, o keysOptions) (err error) {
	if o.request.Owner == "" {
		return errors.New("say whose key it is, with --owner")
	}
	if o.request.Expires, err = lasts(o.expires); err != nil {
		return fmt.Errorf("--expires: %w", err)
	}
	o.request.Who = a.who()
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	made, err := client.CreateKey(ctx, o.request)
	if err != nil {
		return a.refused(err)
	}
	return a.printIssued(o.output, made)
}

// lasts reads a time such as 90d; never is 0.
func lasts(text string) (policy.Duration, error) {
	now := time.Now()
	end, err := expiry(text, now)
	if err != nil || end.IsZero() {
		return 0, err
	}
	return policy.Duration(end.Sub(now)), nil
}

// printIssued shows a key with its text: the text alone goes to stdout, to be kept in a file.
func (a *app) printIssued(f format, k *admin.IssuedKey) error {
	return a.print(f, k, func(w io.Writer) {
		fmt.Fprintf(a.stderr, "API key %s of %s; it is shown this once:\n", k.ID, k.Owner)
		fmt.Fprintln(w, k.Secret)
		if len(k.Secrets) > 1 && k.Secrets[1].Until != nil {
			fmt.Fprintf(a.stderr, "the one before holds until %s\n", day(*k.Secrets[1].Until))
		}
	})
}

func newKeysListCommand(a *app) *cobra.Command {
	var o keysOptions
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the API keys",
		Long:  `Lists the API keys, the oldest first, with when each was used last: as of a minute or two ago.`,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := o.client.client(a)
			if err != nil {
				return err
			}
			found, err := client.Keys(cmd.Context(), o.owner)
			if err != nil {
				return a.refused(err)
			}
			return a.print(o.output, found, func(w io.Writer) { printKeys(w, found.Keys) })
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.owner, "owner", "", "only those of one owner")
	return cmd
}

func printKeys(w io.Writer, keys []admin.Key) {
	if len(keys) == 0 {
		fmt.Fprintln(w, "there are no API keys: sluice keys create makes one")
		return
	}
	var rows [][]string
	for _, k := range keys {
		rows = append(rows, []string{k.ID, k.Owner, orDash(k.Name), k.State, orDash(k.Plan), orDash(strings.Join(k.Permissions, ",")),
			orDash(strings.Join(k.Scopes, ",")), orNever(k.Expires), orNever(k.LastUsed)})
	}
	columns(w, []string{"ID", "OWNER", "NAME", "STATE", "PLAN", "PERMISSIONS", "SCOPES", "EXPIRES", "LAST USED"}, rows)
}

func orNever(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return day(*t)
}

// day is a time of any day as people read it, in their own zone.
func day(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func newKeysShowCommand(a *app) *cobra.Command {
	var o keysOptions
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one API key",
		Long: `Shows what is kept of an API key. A text that was found somewhere belongs to the key of whose SHA-256 it has the first
digits: printf %s "$TEXT" | sha256sum.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return keyCommand(cmd.Context(), a, o, args[0], (*admin.Client).Key)
		},
	}
	o.add(cmd)
	return cmd
}

// keyCommand runs a command on one key, and shows the key.
func keyCommand(ctx context.Context, a *app, o keysOptions, id string, do func(*admin.Client, context.Context, string) (*admin.KeyResult, error)) error {
	if strings.HasPrefix(id, apikey.Prefix) {
		return errors.New("that is an API key itself, which is a secret: name it by its id, which sluice keys list shows")
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	result, err := do(client, ctx, id)
	if err != nil {
		return a.refused(err)
	}
	return a.print(o.output, result, func(w io.Writer) { printKey(w, result.Key) })
}

func printKey(w io.Writer, k admin.Key) {
	printKeys(w, []admin.Key{k})
	fmt.Fprintln(w)
	var rows [][]string
	for _, s := range k.Secrets {
		until := "as long as the key"
		if s.Until != nil {
			until = "until " + day(*s.Until)
		}
		rows = append(rows, []string{s.Fingerprint, day(s.Created), until})
	}
	columns(w, []string{"SHA-256", "MADE", "HOLDS"}, rows)
}

func newKeysRotateCommand(a *app) *cobra.Command {
	var o keysOptions
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Give an API key a new text, and print it once",
		Long: `Gives an API key a second text and prints it on stdout. The one before still holds for --grace, in which its owner changes
over; with --now it ends at once. An older one ends in any case.`,
		Example: "  sluice keys rotate k7dq3n5lw2bmx4ta > acme.key\n  sluice keys rotate k7dq3n5lw2bmx4ta --now",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return rotateKey(cmd.Context(), a, o, args[0])
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.grace, "grace", "24h", "how long the text before still holds, such as 1h or 7d")
	cmd.Flags().BoolVar(&o.now, "now", false, "end the text before at once")
	cmd.MarkFlagsMutuallyExclusive("grace", "now")
	return cmd
}

func rotateKey(ctx context.Context, a *app, o keysOptions, id string) (err error) {
	ask := admin.RotateKeyRequest{ID: id}
	if !o.now {
		if ask.Grace, err = lasts(o.grace); err != nil || ask.Grace == 0 {
			return fmt.Errorf("--grace: %q is no time: write 1h or 7d, or --now", o.grace)
		}
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	made, err := client.RotateKey(ctx, ask)
	if err != nil {
		return a.refused(err)
	}
	return a.printIssued(o.output, made)
}

func newKeyChangeCommand(a *app, what, short, long string) *cobra.Command {
	var o keysOptions
	cmd := &cobra.Command{
		Use:   what + " ID",
		Short: short,
		Long:  long,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return keyCommand(cmd.Context(), a, o, args[0], func(c *admin.Client, ctx context.Context, id string) (*admin.KeyResult, error) {
				return c.ChangeKey(ctx, what, id)
			})
		},
	}
	o.add(cmd)
	return cmd
}
