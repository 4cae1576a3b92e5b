package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/diff"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// changeFlags are those of every command that changes what is stored.
type changeFlags struct {
	client  clientFlags
	output  format
	message string
	wait    time.Duration
	undo    bool
}

func (c *changeFlags) add(cmd *cobra.Command) {
	c.client.add(cmd)
	addOutput(cmd, &c.output)
	cmd.Flags().StringVarP(&c.message, "message", "m", "", "a line for the history")
	cmd.Flags().DurationVar(&c.wait, "wait", 30*time.Second, "how long to wait for the Envoys; 0 for not at all")
	cmd.Flags().BoolVar(&c.undo, "undo-on-refusal", false, "go back to the revision before when an Envoy refuses the new one")
}

func (c changeFlags) waiting() admin.WaitRequest {
	return admin.WaitRequest{Wait: policy.Duration(c.wait), UndoOnRefusal: c.undo}
}

// requestFlags say what a change consists of.
type requestFlags struct {
	policies      policyFlags
	prune         bool
	allowRemovals bool
}

func (r *requestFlags) add(cmd *cobra.Command) {
	r.policies.add(cmd)
	r.policies.addSource(cmd)
	cmd.Flags().BoolVar(&r.prune, "prune", false, "also delete what earlier applies with the same source brought and these files lack")
	cmd.Flags().BoolVar(&r.allowRemovals, "allow-removals", false, "allow more than a fifth of all objects to be deleted")
}

type applyOptions struct {
	changeFlags
	requestFlags
	plan string
}

func newApplyCommand(a *app) *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply -f FILE|FOLDER|-",
		Short: "Add and change policies, all or nothing",
		Long: `Adds and changes objects, all or nothing: what does not compile, or what the real Envoy refuses, is not stored.
Then waits until every Envoy has acknowledged it.

` + exitCodes,
		Example: `  sluice apply -f policies --prune -m "orders: retry once"
  sluice plan -f policies --out plan.json && sluice apply --plan plan.json     # exactly what was planned`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return apply(cmd.Context(), a, o) },
	}
	o.changeFlags.add(cmd)
	o.requestFlags.add(cmd)
	cmd.Flags().StringVar(&o.plan, "plan", "", "a file that plan --out has written: exactly that, on the same revision, or a conflict")
	cmd.MarkFlagsMutuallyExclusive("plan", "filename")
	cmd.MarkFlagsMutuallyExclusive("plan", "prune")
	return cmd
}

func apply(ctx context.Context, a *app, o applyOptions) error {
	ask, err := a.applyRequest(ctx, o)
	if err != nil {
		return err
	}
	ask.Who = a.who()
	if o.message != "" {
		ask.Message = o.message
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	result, err := client.Apply(ctx, admin.ApplyRequest{Request: ask, WaitRequest: o.waiting()})
	if err != nil {
		return a.refused(err)
	}
	return a.applied(o.output, result)
}

func (a *app) applyRequest(ctx context.Context, o applyOptions) (control.Request, error) {
	if o.plan != "" {
		return readPlan(o.plan)
	}
	return a.request(ctx, o.requestFlags)
}

// request reads the policies that a change consists of. Problems in the files end it before anything is sent.
func (a *app) request(ctx context.Context, r requestFlags) (control.Request, error) {
	loaded, err := a.load(ctx, r.policies)
	if err != nil {
		return control.Request{}, err
	}
	if loaded.Problems.Failed() {
		a.problems(loaded.Problems.List(), loaded.Problems.Dropped())
		return control.Request{}, &exit{exitError, errors.New("nothing was sent to the server")}
	}
	a.skipped(loaded)
	return control.Request{Set: loaded.Objects, Prune: r.prune, Source: loaded.Source, AllowRemovals: r.allowRemovals}, nil
}

func readPlan(file string) (control.Request, error) {
	in, err := os.Open(file)
	if err != nil {
		return control.Request{}, err
	}
	defer in.Close()
	var ask control.Request
	d := json.NewDecoder(io.LimitReader(in, admin.MaxRequestBytes))
	d.DisallowUnknownFields()
	if err := d.Decode(&ask); err != nil || ask.Base == nil {
		return control.Request{}, fmt.Errorf("%s is no plan: write one with sluice plan --out", file)
	}
	return ask, nil
}

// applied shows what became of a change, and gives its exit code.
func (a *app) applied(f format, r *admin.ApplyResult) error {
	if f == table {
		a.problems(r.Warnings, 0)
	}
	if err := a.print(f, r, func(w io.Writer) { a.printApplied(w, r) }); err != nil {
		return err
	}
	switch r.Delivery {
	case admin.NotTaken, admin.Incomplete:
		return &exit{code: exitNotTaken}
	}
	return nil
}

func (a *app) printApplied(w io.Writer, r *admin.ApplyResult) {
	a.printChanges(w, r.Changes)
	if !r.Changed {
		fmt.Fprintf(w, "nothing to change: revision %d is like this already\n", r.Revision.Number)
	} else {
		fmt.Fprintf(w, "revision %d: %s set, %s deleted, %s\n", r.Revision.Number, count(r.Revision.Set, "object"), count(r.Revision.Deleted, "object"), proofText(r.Proof))
	}
	a.printDelivery(w, r)
	switch {
	case r.Undone > 0:
		fmt.Fprintf(w, "taken back: revision %d is as before\n", r.Undone)
	case r.NotUndone != "":
		fmt.Fprintf(w, "not taken back: %s\n", r.NotUndone)
	}
}

func (a *app) printDelivery(w io.Writer, r *admin.ApplyResult) {
	for _, e := range r.Envoys {
		switch e.State {
		case xds.Synced:
		case xds.Refused:
			for _, f := range e.Refusals {
				fmt.Fprintf(w, "%s %s refuses %s %s: %s\n", a.paint(a.terminal, red, "refused:"), e.Node, f.Type, f.Name, f.Reason)
			}
		default:
			fmt.Fprintf(w, "%s %s is %s\n", a.paint(a.terminal, yellow, "waiting:"), e.Node, e.State)
		}
	}
	switch r.Delivery {
	case admin.NoEnvoys:
		fmt.Fprintln(w, "no Envoy is connected: sluice bootstrap prints what one is started with")
	case admin.NotWaited:
	default:
		fmt.Fprintf(w, "acknowledged by %s\n", acknowledged(r.Envoys))
	}
}

// acknowledged counts Envoys and, where there are any, agents.
func acknowledged(nodes []xds.EnvoyStatus) string {
	text := share(xds.OnlyEnvoys(nodes), "Envoy")
	if agents := xds.OnlyAgents(nodes); len(agents) > 0 {
		text += " and " + share(agents, "agent")
	}
	return text
}

func share(nodes []xds.EnvoyStatus, what string) string {
	synced := 0
	for _, e := range nodes {
		if e.State == xds.Synced {
			synced++
		}
	}
	return fmt.Sprintf("%d of %s", synced, count(len(nodes), what))
}

// printChanges lists what happens to each object, and the lines where they are known.
func (a *app) printChanges(w io.Writer, changes []diff.Object) {
	sign := map[diff.Action]string{
		diff.Add: a.paint(a.terminal, green, "+"), diff.Modify: a.paint(a.terminal, yellow, "~"),
		diff.Delete: a.paint(a.terminal, red, "-"), diff.Move: ">",
	}
	for _, c := range changes {
		fmt.Fprintf(w, "%s %s  (%s)", sign[c.Action], a.paint(a.terminal, bold, c.Ref.String()), c.Place)
		for _, m := range c.Marks {
			fmt.Fprintf(w, "  [%s]", a.paint(a.terminal, red, string(m)))
		}
		fmt.Fprintln(w)
		for _, name := range c.Content {
			fmt.Fprintf(w, "    the file %s changes\n", name)
		}
		a.printLines(w, c.Lines)
	}
}

func (a *app) printLines(w io.Writer, lines []diff.Line) {
	for _, l := range lines {
		mark := "  "
		if l.Mark != "" {
			mark = a.paint(a.terminal, red, "! ")
		}
		switch l.Op {
		case diff.Insert:
			fmt.Fprintf(w, "  %s%s\n", mark, a.paint(a.terminal, green, "+ "+l.Text))
		case diff.Remove:
			fmt.Fprintf(w, "  %s%s\n", mark, a.paint(a.terminal, red, "- "+l.Text))
		case diff.Skip:
			fmt.Fprintln(w, "      …")
		default:
			fmt.Fprintf(w, "      %s\n", l.Text)
		}
	}
}

func proofText(p admin.Proof) string {
	if p.Reason == "" {
		return string(p.State)
	}
	return string(p.State) + ": " + p.Reason
}
