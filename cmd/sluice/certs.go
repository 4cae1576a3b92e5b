package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/certs"
)

// authorityFlags say whose certificates are meant, and for how long.
type authorityFlags struct {
	dir  string
	days int
	out  string
}

func (f *authorityFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "dir", "ca", "the folder of the authority")
}

// addPair adds what a new certificate is written to, and how long it is good.
func (f *authorityFlags) addPair(cmd *cobra.Command, days int, out string) {
	f.add(cmd)
	cmd.Flags().IntVar(&f.days, "days", days, "how long it is good")
	cmd.Flags().StringVar(&f.out, "out", "", "the files to write, without .crt and .key (default: "+out+")")
}

func (f *authorityFlags) folder() certs.Folder { return certs.Folder(f.dir) }

// longestDays is a hundred years.
const longestDays = 36500

func lifetime(days int) (time.Duration, error) {
	if days < 1 || days > longestDays {
		return 0, fmt.Errorf("--days %d: it must be from 1 to %d", days, longestDays)
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

func newCertsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Make the certificates that the parts of sluice know each other by",
		Long: `Makes a private authority in a folder, and the certificates that it signs: for servers, for Envoys with their agents, and for
people and programs that call the admin API. Nothing here asks a server.

Whoever has the authority's key can be anybody: keep its folder off the machines that serve. Any other authority will do as
well, if its certificates say who their bearers are in the same way: sluice certs show tells how.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return fmt.Errorf("there is no command %q: sluice certs --help lists them", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCertsInitCommand(a), newCertsServerCommand(a), newCertsNodeCommand(a), newCertsClientCommand(a),
		newCertsRenewCommand(a), newCertsShowCommand(a), newCertsListCommand(a), newCertsRevokeCommand(a))
	return cmd
}

func newCertsInitCommand(a *app) *cobra.Command {
	var f authorityFlags
	name := "sluice"
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Make the authority",
		Example: "  sluice certs init\n  sluice certs init --dir /secure/ca --days 1825",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			good, err := lifetime(f.days)
			if err != nil {
				return err
			}
			c, err := f.folder().Init(name, good)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, `made an authority in %s, good until %s
  %-7s is for everybody: it is what all parts know each other by
  %-7s is for nobody: who has it can make a certificate for anybody
  %-7s is what is revoked, for servers
`, f.dir, date(c.NotAfter), certs.AuthorityFile, "ca.key", certs.RevocationsFile)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&f.days, "days", 3650, "how long it is good")
	cmd.Flags().StringVar(&name, "name", name, "what people call it")
	return cmd
}

func newCertsServerCommand(a *app) *cobra.Command {
	var f authorityFlags
	var hosts []string
	cmd := &cobra.Command{
		Use:   "server --host NAME",
		Short: "Make a certificate for sluice serve",
		Example: `  sluice certs server --host sluice.internal --host 10.0.0.5
  sluice serve --listen-xds 0.0.0.0:18000 --xds-cert server.crt --xds-key server.key --xds-client-ca ca.crt`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if len(hosts) == 0 {
				return errors.New("--host is missing: name every host and address that Envoys, agents or people reach the server at")
			}
			return a.issue(f, certs.Request{Hosts: hosts}, "server")
		},
	}
	f.addPair(cmd, 365, "server")
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "a name or address that it is reached at; may be repeated (required)")
	return cmd
}

func newCertsNodeCommand(a *app) *cobra.Command {
	var f authorityFlags
	var n certs.Node
	var wide bool
	cmd := &cobra.Command{
		Use:   "node --gateway NAME --node ID",
		Short: "Make a certificate for an Envoy and the agent beside it",
		Long: `Makes the certificate of one Envoy and of the agent beside it. With it they get what is of their gateway, and nothing of any
other: the control plane holds the gateway and the node's id against the certificate in every request. The agent's id is
agent- and that of the node.

The URI in it is spiffe://sluice/gateway/GATEWAY/node/ID, with everything percent-encoded but letters, digits and -._~`,
		Example: "  sluice certs node --gateway edge --node edge-1\n  sluice certs node --gateway edge --any-node --days 7",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			out := n.Node
			switch {
			case n.Gateway == "":
				return errors.New("--gateway is missing: name the Gateway that the Envoy serves")
			case n.Node == "" && !wide:
				return errors.New("--node is missing: name the Envoy as its bootstrap does (or ask for a certificate of any Envoy of the gateway with --any-node)")
			case n.Node != "" && wide:
				return errors.New("--node and --any-node exclude each other")
			case wide:
				out = n.Gateway
			}
			return a.issue(f, certs.Request{Node: &n}, certs.FileName(out))
		},
	}
	f.addPair(cmd, 90, "the node's id")
	cmd.Flags().StringVar(&n.Gateway, "gateway", "", "the Gateway that it serves (required)")
	cmd.Flags().StringVar(&n.Node, "node", "", "the Envoy's id")
	cmd.Flags().BoolVar(&wide, "any-node", false, "for all Envoys of the gateway: if one is stolen, all have to get new ones")
	return cmd
}

func newCertsClientCommand(a *app) *cobra.Command {
	var f authorityFlags
	var who certs.Client
	role := ""
	cmd := &cobra.Command{
		Use:   "client --name NAME --role ROLE",
		Short: "Make a certificate for somebody who calls the admin API",
		Long: `Makes the certificate of a person or program that calls the admin API. The role read looks; apply looks and changes policies;
secrets looks and changes what is secret, but no policies.

The URI in it is spiffe://sluice/role/ROLE/name/NAME, with everything percent-encoded but letters, digits and -._~`,
		Example: "  sluice certs client --name alice --role apply",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if who.Name == "" || role == "" {
				return errors.New("--name and --role are needed: who it is, and whether it may read, apply or secrets")
			}
			var err error
			if who.Role, err = certs.ParseRole(role); err != nil {
				return err
			}
			return a.issue(f, certs.Request{Client: &who}, certs.FileName(who.Name))
		},
	}
	f.addPair(cmd, 90, "the name")
	cmd.Flags().StringVar(&who.Name, "name", "", "who it is (required)")
	cmd.Flags().StringVar(&role, "role", "", "what it may do: read, apply or secrets (required)")
	return cmd
}

// issue signs a certificate and writes it.
func (a *app) issue(f authorityFlags, r certs.Request, base string) error {
	good, err := lifetime(f.days)
	if err != nil {
		return err
	}
	if f.out != "" {
		base = f.out
	}
	r.Lifetime = good
	if err := certs.Free(base); err != nil {
		return err
	}
	pair, err := f.folder().Issue(r)
	if err != nil {
		return err
	}
	if err := pair.Write(base, false); err != nil {
		return err
	}
	a.wrote(base, pair)
	return nil
}
