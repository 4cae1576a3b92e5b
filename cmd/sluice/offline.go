package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/proof"
	"github.com/sluice-gateway/sluice/pkg/source"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// prover is the real Envoy as judge, or the reason why there is none.
type prover struct {
	control.Prover
	version string
	missing string
}

func addEnvoy(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "envoy", "", "the Envoy binary (SLUICE_ENVOY; default: the one on PATH, then that of make tools)")
	_ = cmd.MarkFlagFilename("envoy")
}

// findProver looks for Envoy. None at all is no error; one that is named but cannot be used is.
func (a *app) findProver(ctx context.Context, explicit string) (prover, error) {
	binary, version, err := a.findEnvoy(ctx, explicit)
	switch {
	case errors.Is(err, envoy.ErrNotFound):
		return prover{missing: err.Error()}, nil
	case err != nil:
		return prover{}, err
	}
	return prover{Prover: &proof.Prover{Binary: binary}, version: version}, nil
}

// findEnvoy gives an Envoy that can be used, and warns of one that is not the tested release.
func (a *app) findEnvoy(ctx context.Context, explicit string) (binary, version string, err error) {
	binary, err = envoy.Find(explicit)
	if err != nil {
		return "", "", err
	}
	version, err = envoy.Version(ctx, binary)
	var unsupported *envoy.UnsupportedError
	switch {
	case errors.As(err, &unsupported) && !unsupported.TooOld:
		fmt.Fprintln(a.stderr, a.paint(a.errTerminal, yellow, "warning:"), err)
		return binary, version, nil
	case err != nil:
		return "", "", fmt.Errorf("%s: %w: name another with --envoy or SLUICE_ENVOY", binary, err)
	}
	return binary, version, nil
}

// build is the whole line on files alone, by the same code that serves: nothing is stored or published.
func (a *app) build(ctx context.Context, loaded *source.Policies, judge control.Prover) (*control.Build, error) {
	c := control.New(control.Config{
		Features: a.features, Store: store.NewMemory(store.Options{}), Publisher: xds.New(xds.Config{}),
		Prover: judge, Log: slog.New(slog.DiscardHandler),
	})
	result, err := c.Plan(ctx, control.Request{Set: loaded.Objects, Source: loaded.Source})
	problems, isProblems := isProblems[*control.Problems](err)
	switch {
	case isProblems:
		for _, p := range problems.List {
			loaded.Problems.Add(p)
		}
		return nil, nil
	case err != nil:
		return nil, err
	}
	loaded.Problems.Join(*result.Build.Problems)
	if loaded.Problems.Failed() {
		return nil, nil
	}
	return result.Build, nil
}

// mustBuild is build for commands that can go on only without Problems; it shows them.
func (a *app) mustBuild(ctx context.Context, p policyFlags) (*control.Build, error) {
	loaded, err := a.load(ctx, p)
	if err != nil {
		return nil, err
	}
	b, err := a.build(ctx, loaded, nil)
	if err != nil {
		return nil, err
	}
	a.problems(loaded.Problems.List(), loaded.Problems.Dropped())
	a.skipped(loaded)
	if b == nil {
		return nil, errProblems
	}
	return b, nil
}
