package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/explain"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

type explainOptions struct {
	policies policyFlags
	client   clientFlags
	output   format
	headers  []string
	gateway  string
}

func newExplainCommand(a *app) *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain METHOD URL",
		Short: "Say which rule takes a request, and what holds for it",
		Long: `Says what a gateway does with a request: which rule takes it, from which line, which blocks hold there and where they
were written, and which services may get it; or why nobody takes it. With -f it asks the files, else the server.`,
		Example: `  sluice explain GET http://api.food.example/api/v1/orders/42
  sluice explain POST /api/v1/orders -H "content-type: application/json" -f policies`,
		Args: exactArgs("METHOD", "URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return explainRequest(cmd.Context(), a, o, args[0], args[1])
		},
	}
	o.policies.add(cmd)
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	cmd.Flags().StringArrayVarP(&o.headers, "header", "H", nil, `a request header, "name: value"; may be repeated`)
	cmd.Flags().StringVar(&o.gateway, "gateway", "", "the Gateway that is asked, where several could take the request")
	return cmd
}

func explainRequest(ctx context.Context, a *app, o explainOptions, method, url string) error {
	headers, err := parseHeaders(o.headers)
	if err != nil {
		return err
	}
	ask := explain.Request{Method: method, URL: url, Headers: headers, Gateway: o.gateway}
	result, err := a.explain(ctx, o, ask)
	if err != nil {
		return err
	}
	return a.print(o.output, result, func(w io.Writer) { printExplanation(w, result) })
}

func (a *app) explain(ctx context.Context, o explainOptions, ask explain.Request) (*explain.Result, error) {
	if len(o.policies.files) == 0 {
		client, err := o.client.client(a)
		if err != nil {
			return nil, err
		}
		return client.Explain(ctx, ask)
	}
	b, err := a.mustBuild(ctx, o.policies)
	if err != nil {
		return nil, err
	}
	return explain.Explain(b.Config, ask)
}

// parseHeaders reads "name: value" lines.
func parseHeaders(lines []string) (http.Header, error) {
	out := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf(`-H %q is not "name: value"`, line)
		}
		if err := policy.CheckHeaderName(name); err != nil {
			return nil, fmt.Errorf("-H: %w", err)
		}
		out.Add(name, strings.TrimSpace(value))
	}
	return out, nil
}

func printExplanation(w io.Writer, r *explain.Result) {
	request := r.Method + " " + r.Host + r.Path
	if r.Query != "" {
		request += "?" + r.Query
	}
	fmt.Fprintf(w, "request   %s\ngateway   %s\n", request, r.Gateway)
	if r.Domain != "" {
		fmt.Fprintf(w, "host      %s\n", r.Domain)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note      %s\n", note)
	}
	if r.Status != 0 {
		printNobody(w, r)
		return
	}
	fmt.Fprintf(w, "rule      %s  (%s)\nmatch     %s\n", r.Rule, r.Origin, r.Match)
	for _, name := range slices.Sorted(maps.Keys(r.Params)) {
		fmt.Fprintf(w, "param     %s = %s\n", name, r.Params[name])
	}
	for _, s := range r.Services {
		fmt.Fprintf(w, "service   %s  %.4g%%  %s\n", s.Name, s.Share, strings.Join(s.Endpoints, ", "))
	}
	switch r.Decider {
	case model.Native:
		fmt.Fprintf(w, "decider   native: Envoy by itself\n")
	case model.Agent:
		fmt.Fprintf(w, "decider   agent: %s\n", r.WhyAgent)
	}
	fmt.Fprintln(w)
	columns(w, []string{"BLOCK", "LEVEL", "FROM", "VIA", "VALUE"}, blockRows(r.Blocks))
}

func printNobody(w io.Writer, r *explain.Result) {
	fmt.Fprintf(w, "answer    %d %s: %s\n", r.Status, http.StatusText(r.Status), r.Reason)
	if len(r.Allow) > 0 {
		fmt.Fprintf(w, "allow     %s\n", strings.Join(r.Allow, ", "))
	}
	for _, m := range r.Missed {
		fmt.Fprintf(w, "missed    %s  (%s): %s\n", m.Rule, m.Origin, m.Because)
	}
}

// maxValue is how much of a block's value a table shows.
const maxValue = 100

func blockRows(blocks []explain.Block) [][]string {
	var rows [][]string
	for _, b := range blocks {
		value := string(b.Config)
		if len(value) > maxValue {
			value = strings.ToValidUTF8(value[:maxValue], "") + "…"
		}
		rows = append(rows, []string{b.Feature, b.Level, orDash(b.From), orDash(b.Via), value})
	}
	return rows
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
