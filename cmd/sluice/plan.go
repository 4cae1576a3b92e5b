package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/diff"
)

type planOptions struct {
	requestFlags
	client clientFlags
	output format
	out    string
}

func newPlanCommand(a *app) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan -f FILE|FOLDER|-",
		Short: "Show what apply would change",
		Long: `Shows what apply would change, line by line as the policies are written, without doing it. Lines that bear on security,
that drain the connections of a listener, or that hold raw Envoy fields are marked with !.

` + exitCodes,
		Example: `  sluice plan -f policies --prune
  sluice plan -f policies --out plan.json && sluice apply --plan plan.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return plan(cmd.Context(), a, o) },
	}
	o.requestFlags.add(cmd)
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	cmd.Flags().StringVar(&o.out, "out", "", "write the plan to a file, for apply --plan")
	return cmd
}

func plan(ctx context.Context, a *app, o planOptions) error {
	ask, err := a.request(ctx, o.requestFlags)
	if err != nil {
		return err
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	result, err := client.Plan(ctx, ask)
	if err != nil {
		return a.refused(err)
	}
	if o.out != "" {
		ask.Base = &result.Base
		if err := writePlan(o.out, ask); err != nil {
			return err
		}
	}
	return a.planned(o.output, result)
}

// planned shows a plan, and gives its exit code.
func (a *app) planned(f format, r *admin.PlanResult) error {
	if f == table {
		a.problems(r.Warnings, 0)
	}
	if err := a.print(f, r, func(w io.Writer) { a.printPlan(w, r) }); err != nil {
		return err
	}
	switch {
	case r.Removals != "":
		return fmt.Errorf("apply would refuse this: %s", r.Removals)
	case r.Changed:
		return &exit{code: exitDifferences}
	}
	return nil
}

func (a *app) printPlan(w io.Writer, r *admin.PlanResult) {
	if !r.Changed {
		fmt.Fprintf(w, "no changes: revision %d is like this already\n", r.Base)
		return
	}
	a.printChanges(w, r.Changes)
	actions, marks := map[diff.Action]int{}, map[diff.Mark]int{}
	for _, c := range r.Changes {
		actions[c.Action]++
		for _, m := range c.Marks {
			marks[m]++
		}
	}
	fmt.Fprintf(w, "\non revision %d: %d to add, %d to change, %d to delete, %d to move; %s\n",
		r.Base, actions[diff.Add], actions[diff.Modify], actions[diff.Delete], actions[diff.Move], proofText(r.Proof))
	for _, d := range r.Deciders {
		fmt.Fprintf(w, "%s: %s decides, before: %s\n", d.Rule, cmp.Or(string(d.After), "nobody"), cmp.Or(string(d.Before), "nobody"))
	}
	effects := map[diff.Mark]string{diff.Security: "bear on security", diff.Drains: "drain connections", diff.Raw: "hold raw Envoy fields"}
	for _, mark := range slices.Sorted(maps.Keys(marks)) {
		fmt.Fprintf(w, "%s %s: changes that %s\n", a.paint(a.terminal, red, "!"), count(marks[mark], "object"), effects[mark])
	}
}

func writePlan(file string, ask control.Request) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(body, '\n'), 0o600)
}
