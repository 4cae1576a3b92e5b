package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/secrets"
)

type whyOptions struct {
	client clientFlags
	output format
}

func newWhyCommand(a *app) *cobra.Command {
	var o whyOptions
	cmd := &cobra.Command{
		Use:   "why KIND/NAME",
		Short: "Follow an object on its way to each Envoy",
		Long: `Says how far an object has come: stored, compiled, proven, sent, acknowledged, serving, at each Envoy; and what stopped it.
Of a Service that comes from Consul it also says what is known of its instances. Registration/NAME is what became of a service
that opted in to a RouteTemplate, by its name in Consul.`,
		Example: "  sluice why Route/orders-api\n  sluice why Registration/menu",
		RunE:    func(cmd *cobra.Command, args []string) error { return why(cmd.Context(), a, o, args) },
	}
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

func why(ctx context.Context, a *app, o whyOptions, args []string) error {
	ref, err := a.whyRef(args)
	if err != nil {
		return err
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	journey, err := client.Why(ctx, ref)
	if err != nil {
		return a.refused(err)
	}
	return a.print(o.output, journey, func(w io.Writer) { printJourney(w, journey) })
}

// whyRef is what why is asked about: an object, or a registration.
func (a *app) whyRef(args []string) (policy.Ref, error) {
	kind, name, ok := strings.Cut(strings.Join(args, "/"), "/")
	if ok && strings.EqualFold(kind, control.KindRegistration) && name != "" && len(args) < 3 {
		return policy.Ref{Kind: control.KindRegistration, Name: name}, nil
	}
	refs, err := a.refs(args)
	if err == nil && len(refs) != 1 {
		err = errors.New("why wants one KIND/NAME")
	}
	if err != nil {
		return policy.Ref{}, err
	}
	return refs[0], nil
}

func printJourney(w io.Writer, j *admin.Why) {
	if j.Registration != nil {
		fmt.Fprintln(w, j.Object)
		printFate(w, j.Registration)
	} else {
		fmt.Fprintf(w, "%s  (%s)\nstored    in revision %d; revision %d is published\n", j.Object, j.Place, j.Stored, j.Serving)
	}
	printWatched(w, j)
	printCertificate(w, j.Certificate)
	if j.Registration != nil && j.Registration.Route == "" {
		return
	}
	if len(j.Compiled) > 0 {
		fmt.Fprintf(w, "compiled  to %s\n", strings.Join(j.Compiled, ", "))
	} else {
		fmt.Fprintf(w, "compiled  to nothing: %s\n", j.Unused)
	}
	fmt.Fprintf(w, "proof     %s\n", j.Proof)
	if j.Quarantined != "" {
		fmt.Fprintf(w, "QUARANTINED: %s\n", j.Quarantined)
	}
	var rows [][]string
	for _, e := range j.Envoys {
		for _, p := range e.Parts {
			reason := ""
			if p.Status.Refused != nil {
				reason = p.Status.Refused.Reason
			}
			rows = append(rows, []string{e.Node, e.Gateway, p.Type + " " + p.Name, p.Answer, reason})
		}
	}
	if len(rows) == 0 && len(j.Compiled) > 0 {
		fmt.Fprintln(w, "no Envoy of its gateway is connected")
	}
	columns(w, []string{"ENVOY", "GATEWAY", "RESOURCE", "STATE", "REASON"}, rows)
}

// printFate says what a registration asks for and what became of it.
func printFate(w io.Writer, f *control.Fate) {
	if f.Template != "" {
		fmt.Fprintf(w, "asks for  RouteTemplate %s, host %s, path %s\n", f.Template, cmp.Or(f.Host, "as the template says"), f.Path)
	}
	switch f.State {
	case control.FateLive:
		fmt.Fprintf(w, "live      as route %s\n", f.Route)
	case control.FateEmpty:
		fmt.Fprintf(w, "empty     no instance is left: route %s answers 503 with Retry-After\n", f.Route)
	case control.FateRefused:
		fmt.Fprintf(w, "REFUSED   %s\n", f.Reason)
	default:
		fmt.Fprintf(w, "%-9s not published yet\n", f.State)
	}
	for _, p := range f.Problems {
		fmt.Fprintf(w, "refused   %s: %s (%s)\n", count(p.Count, "instance"), p.Reason, strings.Join(p.Instances, ", "))
	}
}

// printCertificate says how a certificate stands.
func printCertificate(w io.Writer, c *secrets.Status) {
	if c == nil {
		return
	}
	fmt.Fprintf(w, "read from %s\n", strings.Join(c.Places, ", "))
	if c.Serial != "" {
		fmt.Fprintf(w, "served    %s, serial %s, expires %s UTC\n", c.Subject, c.Serial, c.Expires.UTC().Format(time.DateTime))
	}
	if c.Problem != "" {
		fmt.Fprintf(w, "PROBLEM   %s\n", c.Problem)
	}
	for _, warning := range c.Warnings {
		fmt.Fprintf(w, "warning   %s\n", warning)
	}
}

// printWatched says what the catalog knows of the services that are asked for.
func printWatched(w io.Writer, j *admin.Why) {
	for _, v := range j.Catalog {
		fmt.Fprintf(w, "consul    %s: %d of %s usable, %s\n", v.Asked, v.Usable, count(v.Instances, "instance"), freshness(v))
		for _, r := range remarks(v) {
			fmt.Fprintf(w, "          %s\n", r)
		}
	}
	if len(j.Asks) > 0 && len(j.Catalog) == 0 {
		fmt.Fprintf(w, "consul    %s is not watched: start sluice with --consul\n", j.Asks[0])
	}
}
