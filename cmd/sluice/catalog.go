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
)

type catalogOptions struct {
	client clientFlags
	output format
}

func newCatalogCommand(a *app) *cobra.Command {
	var o catalogOptions
	cmd := &cobra.Command{
		Use:   "catalog",
		Short: "List the services that Consul is watched for",
		Long: `Lists the services that Consul is watched for: how many of their instances may take traffic, whether what is known of them is
fresh, and what is held, flapping, polled or left out. sluice catalog release lets go of what is held.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listCatalog(cmd.Context(), a, o) },
	}
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	cmd.AddCommand(newReleaseCommand(a))
	return cmd
}

func listCatalog(ctx context.Context, a *app, o catalogOptions) error {
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	status, err := client.Catalog(ctx)
	if err != nil {
		return a.refused(err)
	}
	return a.print(o.output, status, func(w io.Writer) { printCatalog(w, status) })
}

func printCatalog(w io.Writer, s *admin.CatalogStatus) {
	fmt.Fprintf(w, "Consul at %s\n", s.Address)
	for _, line := range []struct{ name, text string }{
		{"unreachable", s.Error}, {"opt-ins unknown", s.OptInsError}, {"polled", s.Cure},
	} {
		if line.text != "" {
			fmt.Fprintf(w, "%s: %s\n", line.name, line.text)
		}
	}
	if s.FrozenWhy != "" {
		fmt.Fprintf(w, "removals are frozen until %s: %s; sluice catalog release --all ends it\n", at(s.FrozenUntil), s.FrozenWhy)
	}
	if len(s.Services) == 0 {
		fmt.Fprintln(w, "no service is watched: write `consul:` in a Service, or let one opt in to a RouteTemplate")
		return
	}
	var rows [][]string
	for _, v := range s.Services {
		rows = append(rows, []string{v.Asked, fmt.Sprintf("%d/%d", v.Usable, v.Instances), freshness(v), orDash(v.OptedIn), strings.Join(remarks(v), "; ")})
	}
	columns(w, []string{"SERVICE", "USABLE", "STATE", "OPTED IN TO", "NOTE"}, rows)
}

// freshness says in a few words how old what is known of a service is.
func freshness(v admin.CatalogService) string {
	switch {
	case v.Stale == "":
		return "fresh"
	case v.Answered.IsZero():
		return "unknown"
	}
	return "stale since " + at(v.Answered)
}

// remarks are what is unusual about a service.
func remarks(v admin.CatalogService) []string {
	var out []string
	if v.Stale != "" {
		out = append(out, v.Stale)
	}
	if v.Held > 0 {
		out = append(out, fmt.Sprintf("%d held until %s: %s", v.Held, at(v.HeldUntil), v.HeldWhy))
	}
	if len(v.Flapping) > 0 {
		out = append(out, "flapping: "+strings.Join(v.Flapping, ", "))
	}
	if v.Polled {
		out = append(out, "polled")
	}
	if !v.EmptyUntil.IsZero() {
		out = append(out, "empty: its route goes at "+at(v.EmptyUntil))
	}
	for _, p := range v.Problems {
		out = append(out, "left out: "+p)
	}
	return out
}

// at is a time of today as people read it, in their own zone.
func at(t time.Time) string { return t.Local().Format("15:04:05") }

type releaseOptions struct {
	client clientFlags
	output format
	all    bool
}

func newReleaseCommand(a *app) *cobra.Command {
	var o releaseOptions
	cmd := &cobra.Command{
		Use:   "release SERVICE | --all",
		Short: "Let go of instances that are held though they are not registered any more",
		Long: `After a mass loss in Consul the instances that went are held for a while, since such a loss is more often an illness of Consul
than of the services. Where it was meant, this lets them go at once: those of one service, by its name in Consul, or all,
which also ends a freeze of removals.`,
		Example: "  sluice catalog release orders\n  sluice catalog release --all",
		RunE:    func(cmd *cobra.Command, args []string) error { return releaseHeld(cmd.Context(), a, o, args) },
	}
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	cmd.Flags().BoolVar(&o.all, "all", false, "let go of all that is held, and end a freeze")
	return cmd
}

func releaseHeld(ctx context.Context, a *app, o releaseOptions, args []string) error {
	if len(args) > 1 || o.all == (len(args) == 1) {
		return errors.New("release wants the name of one service, or --all: sluice catalog lists the names")
	}
	ask := admin.ReleaseRequest{All: o.all}
	if len(args) == 1 {
		ask.Service = args[0]
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	result, err := client.Release(ctx, ask)
	if err != nil {
		return a.refused(err)
	}
	return a.print(o.output, result, func(w io.Writer) {
		if result.Released == 0 {
			fmt.Fprintln(w, "nothing was held")
			return
		}
		fmt.Fprintf(w, "let go: what was held of %s\n", count(result.Released, "service"))
	})
}
