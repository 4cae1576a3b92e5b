package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/source"
)

// policyFlags name policies.
type policyFlags struct {
	files  []string
	source string
}

func (p *policyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&p.files, "filename", "f", nil, "a file or folder of policies, or - for standard input; may be repeated")
	_ = cmd.MarkFlagFilename("filename", "yaml", "yml")
}

func (p *policyFlags) addSource(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.source, "source", "", "whose objects these are, for --prune (default: the folder's name)")
}

// loader reads policies with the files that they name.
func (a *app) loader(source_ string) source.Loader {
	return source.Loader{
		Stdin: a.stdin, Source: source_,
		Wanted: func(o policy.Object) []string { return compile.Wanted(a.features, o) },
	}
}

// load reads the policies that the flags name. Problems in the files are shown; they are an error.
func (a *app) load(ctx context.Context, p policyFlags) (*source.Policies, error) {
	loaded, err := a.loader(p.source).Load(ctx, p.files...)
	if err != nil {
		return nil, err
	}
	if len(loaded.Objects) == 0 && !loaded.Problems.Failed() {
		return nil, fmt.Errorf("no policies in %v: %s read, %s of other systems skipped", p.files, count(loaded.Files, "file"), count(loaded.Foreign, "document"))
	}
	return loaded, nil
}

// errProblems ends a command whose Problems were shown already.
var errProblems = &exit{code: exitError}

// skipped says on stderr that documents were passed over.
func (a *app) skipped(loaded *source.Policies) {
	if loaded.Foreign > 0 {
		fmt.Fprintf(a.stderr, "skipped %s of other systems\n", count(loaded.Foreign, "document"))
	}
}

// isProblems tells whether an error is a list of Problems.
func isProblems[T error](err error) (p T, ok bool) {
	ok = errors.As(err, &p)
	return p, ok
}
