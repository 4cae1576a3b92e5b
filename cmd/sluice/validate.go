package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/source"
)

type validateOptions struct {
	policies policyFlags
	output   format
	envoy    string
	strict   bool
}

func newValidateCommand(a *app) *cobra.Command {
	var o validateOptions
	cmd := &cobra.Command{
		Use:   "validate -f FILE|FOLDER|-",
		Short: "Check policies, without a server",
		Long: `Checks policies as apply does, without a server: the language, every name, and what the real Envoy says of the
configuration they become. Where there is no Envoy the answer says unproven.`,
		Example: `  sluice validate -f policies
  sluice validate -f policies --strict -o json     # in CI: unproven is an error too`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return validate(cmd.Context(), a, o) },
	}
	o.policies.add(cmd)
	addOutput(cmd, &o.output)
	addEnvoy(cmd, &o.envoy)
	cmd.Flags().BoolVar(&o.strict, "strict", false, "fail on warnings, and where there is no Envoy to prove it")
	return cmd
}

// validation is what validate found.
type validation struct {
	Objects  int              `json:"objects"`
	Files    int              `json:"files"`
	Foreign  int              `json:"foreign"`
	Problems []policy.Problem `json:"problems"`
	Dropped  int              `json:"dropped,omitempty"`
	Proof    validationProof  `json:"proof"`
	Gateways []gatewaySize    `json:"gateways,omitempty"`
}

type validationProof struct {
	State  control.ProofState `json:"state"`
	Envoy  string             `json:"envoy,omitempty"`
	Reason string             `json:"reason,omitempty"`
}

type gatewaySize struct {
	Name      string `json:"name"`
	Listeners int    `json:"listeners"`
	Hosts     int    `json:"hosts"`
	Routes    int    `json:"routes"`
	Services  int    `json:"services"`
}

func validate(ctx context.Context, a *app, o validateOptions) error {
	loaded, err := a.load(ctx, o.policies)
	if err != nil {
		return err
	}
	judge, err := a.findProver(ctx, o.envoy)
	if err != nil {
		return err
	}
	b, err := a.build(ctx, loaded, judge.Prover)
	if err != nil {
		return err
	}
	v := newValidation(loaded, b, judge)
	if o.output == table {
		a.problems(v.Problems, v.Dropped)
	}
	if err := a.print(o.output, v, func(w io.Writer) { v.print(w) }); err != nil {
		return err
	}
	switch {
	case loaded.Problems.Failed(), o.strict && len(v.Problems) > 0:
		return errProblems
	case o.strict && v.Proof.State != control.Proven:
		return errors.New("unproven, which --strict refuses: " + v.Proof.Reason)
	}
	return nil
}

func newValidation(loaded *source.Policies, b *control.Build, judge prover) validation {
	v := validation{
		Objects: len(loaded.Objects), Files: loaded.Files, Foreign: loaded.Foreign,
		Problems: loaded.Problems.List(), Dropped: loaded.Problems.Dropped(),
		Proof: validationProof{State: control.Unproven, Envoy: judge.version, Reason: judge.missing},
	}
	if v.Problems == nil {
		v.Problems = []policy.Problem{}
	}
	if b == nil {
		v.Proof = v.Proof.without(v.Problems)
		return v
	}
	if judge.missing == "" {
		v.Proof.State, v.Proof.Reason = b.Proof.State, b.Proof.Reason
	}
	for _, g := range b.Config.Gateways {
		size := gatewaySize{Name: g.Name, Listeners: len(g.Listeners), Hosts: len(g.Hosts), Services: len(g.Clusters)}
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				if len(r.Allow) == 0 {
					size.Routes++
				}
			}
		}
		v.Gateways = append(v.Gateways, size)
	}
	return v
}

// without is the proof of what has Problems: refused when they are Envoy's.
func (p validationProof) without(problems []policy.Problem) validationProof {
	p.Reason = "there are errors"
	for _, problem := range problems {
		if problem.Code == policy.CodeRefused {
			p.State, p.Reason = control.Refused, "envoy refuses it"
		}
	}
	return p
}

func (v validation) print(w io.Writer) {
	fmt.Fprintf(w, "%s in %s", count(v.Objects, "object"), count(v.Files, "file"))
	if v.Foreign > 0 {
		fmt.Fprintf(w, ", %s of other systems skipped", count(v.Foreign, "document"))
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, g := range v.Gateways {
		rows = append(rows, []string{g.Name, strconv.Itoa(g.Listeners), strconv.Itoa(g.Hosts), strconv.Itoa(g.Routes), strconv.Itoa(g.Services)})
	}
	columns(w, []string{"GATEWAY", "LISTENERS", "HOSTS", "ROUTES", "SERVICES"}, rows)
	switch {
	case v.Proof.State == control.Proven:
		fmt.Fprintf(w, "proven by envoy %s\n", v.Proof.Envoy)
	default:
		fmt.Fprintf(w, "%s: %s\n", v.Proof.State, v.Proof.Reason)
	}
}
