package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

type envoysOptions struct {
	client clientFlags
	output format
}

func newEnvoysCommand(a *app) *cobra.Command {
	var o envoysOptions
	cmd := &cobra.Command{
		Use:   "envoys",
		Short: "List the Envoys, and what each has",
		Long: `Lists the Envoys that are connected, and those that were not long ago: synced when an Envoy has acknowledged everything,
updating or stale while it has not, refused with its reasons, unknown-gateway when it names no Gateway that there is.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return envoys(cmd.Context(), a, o) },
	}
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

func envoys(ctx context.Context, a *app, o envoysOptions) error {
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	list, err := client.Envoys(ctx)
	if err != nil {
		return a.refused(err)
	}
	return a.print(o.output, list, func(w io.Writer) { printEnvoys(w, list, time.Now()) })
}

// outageNote is what an agent did while it could not reach the control plane.
func outageNote(o xds.Outage) string {
	return fmt.Sprintf("served %s without the control plane for %v, until %s",
		strings.Join(o.Envoys, ", "), o.Until.Sub(o.Since).Round(time.Second), o.Until.Local().Format(time.DateTime))
}

func printEnvoys(w io.Writer, list *admin.Envoys, now time.Time) {
	if list.Note != "" {
		defer fmt.Fprintf(w, "note: Consul %s\n", list.Note)
	}
	if len(list.Envoys) == 0 {
		fmt.Fprintln(w, "no Envoy has connected: sluice bootstrap --gateway NAME prints what one is started with")
		return
	}
	printNodes(w, "ENVOY", xds.OnlyEnvoys(list.Envoys), now)
	printNodes(w, "AGENT", xds.OnlyAgents(list.Envoys), now)
	for _, e := range list.Envoys {
		for _, r := range e.Refusals {
			fmt.Fprintf(w, "%s refuses %s %s: %s\n", e.Node, r.Type, r.Name, r.Reason)
		}
	}
}

// printNodes shows Envoys, or agents; nothing when there are none.
func printNodes(w io.Writer, kind string, nodes []xds.EnvoyStatus, now time.Time) {
	if len(nodes) == 0 {
		return
	}
	var rows [][]string
	for _, e := range nodes {
		note := ""
		switch {
		case e.State == xds.UnknownGateway:
			note = "there is no such Gateway"
		case e.Bootstrap != "" && e.Bootstrap != envoy.BootstrapVersion:
			note = "old bootstrap: make a new one and restart it"
		case e.Outage != nil:
			note = outageNote(*e.Outage)
		case e.Connected && e.Certificate != nil && e.Certificate.Advice != "":
			note = "the certificate it came with " + e.Certificate.Advice
		}
		rows = append(rows, []string{e.Node, e.Gateway, orDash(e.Version), string(e.State), now.Sub(e.Since).Round(time.Second).String(), note})
	}
	columns(w, []string{kind, "GATEWAY", "VERSION", "STATE", "FOR", "NOTE"}, rows)
}
