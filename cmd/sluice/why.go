package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/control"
)

type whyOptions struct {
	client clientFlags
	output format
}

func newWhyCommand(a *app) *cobra.Command {
	var o whyOptions
	cmd := &cobra.Command{
		Use:     "why KIND/NAME",
		Short:   "Follow an object on its way to each Envoy",
		Long:    "Says how far an object has come: stored, compiled, proven, sent, acknowledged, serving, at each Envoy; and what stopped it.",
		Example: "  sluice why Route/orders-api",
		RunE:    func(cmd *cobra.Command, args []string) error { return why(cmd.Context(), a, o, args) },
	}
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

func why(ctx context.Context, a *app, o whyOptions, args []string) error {
	refs, err := a.refs(args)
	if err != nil {
		return err
	}
	if len(refs) != 1 {
		return errors.New("why wants one KIND/NAME")
	}
	client, err := o.client.client()
	if err != nil {
		return err
	}
	journey, err := client.Why(ctx, refs[0])
	if err != nil {
		return a.refused(err)
	}
	return a.print(o.output, journey, func(w io.Writer) { printJourney(w, journey) })
}

func printJourney(w io.Writer, j *control.Journey) {
	fmt.Fprintf(w, "%s  (%s)\nstored    in revision %d; revision %d is published\n", j.Object, j.Place, j.Stored, j.Serving)
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
