package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// app is what every command works with.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	terminal       bool // stdout is one
	errTerminal    bool
	features       feature.Set
}

// The exit codes.
const (
	exitError       = 1
	exitDifferences = 2
	exitNotTaken    = 3
	exitConflict    = 4
	exitInterrupted = 130
)

const exitCodes = `Exit codes: 0 fine, 1 an error or Problems, 2 there are differences (plan), 3 applied, but refused or not
acknowledged in time by an Envoy, 4 conflict: somebody else was faster, 130 interrupted.`

// exit is an error with a code of its own. A nil err says nothing more than the code.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// run runs one command line and gives its exit code.
func run(ctx context.Context, a *app, args []string) int {
	root := newRootCommand(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(a.stderr, a.paint(a.errTerminal, red, "error:"), strings.TrimSuffix(text, "\n"))
	}
	var e *exit
	switch {
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return exitInterrupted
	}
	return exitError
}

func newRootCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sluice",
		Short: "An Envoy control plane for API gateways",
		Long: `Sluice makes a fleet of Envoys an API gateway: it reads policies and serves Envoy its configuration.

Try it on a folder of policies, with an Envoy beside it:

  sluice dev examples/food-delivery

Every flag that names a part of the set-up may also be given as a variable (SLUICE_SERVER, SLUICE_ENVOY, SLUICE_OUTPUT,
SLUICE_STORE, …) or in a file, ${SLUICE_CONFIG:-~/.config/sluice/config.yaml}. Flags win over variables, variables over
the file.

` + exitCodes,
		SilenceUsage: true, SilenceErrors: true,
		Args:              cobra.ArbitraryArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.configure(cmd) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.SetIn(a.stdin)
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	cmd.SetFlagErrorFunc(flagError)
	cmd.AddGroup(&cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "offline", Title: "On files, without a server:"}, &cobra.Group{ID: "server", Title: "With a server:"})
	cmd.AddCommand(commands(a)...)
	return cmd
}

// grouped puts commands under a heading of the help.
func grouped(id string, list ...*cobra.Command) []*cobra.Command {
	for _, c := range list {
		c.GroupID = id
	}
	return list
}

func unknownCommand(cmd *cobra.Command, word string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if strings.HasPrefix(c.Name(), word) {
			return fmt.Errorf("there is no command %q: did you mean sluice %s?", word, c.Name())
		}
		names = append(names, c.Name())
	}
	text := fmt.Sprintf("there is no command %q", word)
	if near := policy.Nearest(word, names); near != "" {
		return fmt.Errorf("%s: did you mean sluice %s?", text, near)
	}
	return fmt.Errorf("%s: sluice --help lists them", text)
}

// flagError adds a way out to what the flag parser says.
func flagError(cmd *cobra.Command, err error) error {
	word, isFlag := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !isFlag {
		return fmt.Errorf("%w: see %s --help", err, cmd.CommandPath())
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := policy.Nearest(word, names); near != "" {
		return fmt.Errorf("%w: did you mean --%s?", err, near)
	}
	return fmt.Errorf("%w: see %s --help", err, cmd.CommandPath())
}

// noArgs refuses words after the command; a file among them most likely lacks its -f.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if _, err := os.Stat(args[0]); err == nil && cmd.Flags().Lookup("filename") != nil {
		return fmt.Errorf("%s takes no words of its own: did you mean -f %s?", cmd.CommandPath(), args[0])
	}
	return fmt.Errorf("%s takes no words of its own, but has %q: see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
}

// exactArgs refuses another number of words than the names say.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return fmt.Errorf("%s wants %s, and has %d words: see %s --help", cmd.CommandPath(), strings.Join(names, " and "), len(args), cmd.CommandPath())
	}
}
