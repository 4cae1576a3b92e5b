package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/revocation"
)

type revokeOptions struct {
	client              clientFlags
	output              format
	subject, token, key string
	issuer, lasting     string
	reason              string
	all                 bool
}

func newRevokeCommand(a *app) *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use:   "revoke --subject USER | --token-id ID | --key ID",
		Short: "Accept a user's tokens, one token or an API key no longer",
		Long: `Refuses from now on what could still be shown: within a second at every agent, and also while the control plane is away.

--subject refuses everything that a user shows: tokens that were issued up to now, or that do not say when, and the user's
API keys, client certificates and passwords. Tokens issued later are accepted, so that the user can log in again; --all refuses
them too. --token-id refuses the token with that claim jti. --key refuses an API key by its id.

A revocation is kept for --for, which has to be as long as a token of the issuer lives; that of a key until it is undone.`,
		Example: `  sluice revoke --subject alice --issuer https://idp.food.example
  sluice revoke --token-id 8f14e45f --for 1h
  sluice revoke --key k7dq3n5lw2bmx4ta --reason "found in a public repository"`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return onlySubcommands(cmd, args)
			}
			return revoke(cmd.Context(), a, o, cmd.Flags().Changed("for"))
		},
	}
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	f := cmd.Flags()
	f.StringVar(&o.subject, "subject", "", "the user, as services see it")
	f.StringVar(&o.token, "token-id", "", "the claim jti of a token")
	f.StringVar(&o.key, "key", "", "the id of an API key")
	f.StringVar(&o.issuer, "issuer", "", "only tokens of this issuer, by its claim iss")
	f.StringVar(&o.lasting, "for", "24h", "how long it is kept, such as 1h or 30d; or never, for until it is undone. A key's is kept until it is undone when left out")
	f.BoolVar(&o.all, "all", false, "with --subject: tokens that are issued later, too")
	f.StringVar(&o.reason, "reason", "", "why, for people")
	cmd.MarkFlagsMutuallyExclusive("subject", "token-id", "key")
	cmd.AddCommand(newRevokeListCommand(a), newRevokeUndoCommand(a))
	return cmd
}

func revoke(ctx context.Context, a *app, o revokeOptions, lasting bool) (err error) {
	ask := admin.RevokeRequest{Issuer: o.issuer, All: o.all, Reason: o.reason, Who: a.who()}
	for _, said := range []struct {
		kind  revocation.Kind
		value string
	}{{revocation.Subject, o.subject}, {revocation.Token, o.token}, {revocation.Key, o.key}} {
		if said.value != "" {
			ask.Kind, ask.Value = said.kind, said.value
		}
	}
	switch {
	case ask.Kind == "":
		return errors.New("say what is revoked: --subject, --token-id or --key")
	case strings.HasPrefix(o.key, apikey.Prefix):
		return errors.New("that is an API key itself, which is a secret: name it by its id, which sluice keys list shows")
	case strings.Count(o.token, ".") == 2 && strings.HasPrefix(o.token, "ey"):
		return errors.New("that is a token itself, which is a secret: name it by its claim jti")
	}
	if ask.Kind != revocation.Key || lasting {
		if ask.For, err = lasts(o.lasting); err != nil {
			return fmt.Errorf("--for: %w", err)
		}
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	made, err := client.Revoke(ctx, ask)
	if err != nil {
		return a.refused(err)
	}
	return a.print(o.output, made, func(w io.Writer) {
		printRevocations(w, []revocation.Revocation{made.Revocation})
		if len(made.Unreached) > 0 {
			fmt.Fprintf(w, "%s not refused by rules with revocation: false: %s\n", a.paint(a.terminal, red, "!"), strings.Join(made.Unreached, ", "))
		}
	})
}

func printRevocations(w io.Writer, list []revocation.Revocation) {
	if len(list) == 0 {
		fmt.Fprintln(w, "nothing is revoked")
		return
	}
	var rows [][]string
	for _, r := range list {
		meant := "all"
		if r.Kind == revocation.Subject && !r.All {
			meant = "issued before"
		}
		until := "undone"
		if r.Until != nil {
			until = day(*r.Until)
		}
		rows = append(rows, []string{r.ID, string(r.Kind), r.Value, orDash(r.Issuer), meant, day(r.At), until, orDash(r.Reason)})
	}
	columns(w, []string{"ID", "WHAT", "NAME", "ISSUER", "MEANT", "SINCE", "UNTIL", "REASON"}, rows)
}

func newRevokeListCommand(a *app) *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is revoked",
		Long:  `Lists the revocations in force, the newest first.`,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := o.client.client(a)
			if err != nil {
				return err
			}
			found, err := client.Revocations(cmd.Context())
			if err != nil {
				return a.refused(err)
			}
			return a.print(o.output, found, func(w io.Writer) { printRevocations(w, found.Revocations) })
		},
	}
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

func newRevokeUndoCommand(a *app) *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use:   "undo ID",
		Short: "Take a revocation back",
		Long:  `Takes a revocation back, by the id that sluice revoke list shows: what it named is accepted again, if it still holds.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := o.client.client(a)
			if err != nil {
				return err
			}
			undone, err := client.UndoRevocation(cmd.Context(), args[0])
			if err != nil {
				return a.refused(err)
			}
			return a.print(o.output, undone, func(w io.Writer) {
				fmt.Fprintf(w, "accepted again: %s %s\n", undone.Revocation.Kind, undone.Revocation.Value)
			})
		},
	}
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}
