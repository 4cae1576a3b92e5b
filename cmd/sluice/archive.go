package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
)

func newExportCommand(a *app) *cobra.Command {
	var client clientFlags
	var headOnly bool
	cmd := &cobra.Command{
		Use:     "export [FILE]",
		Short:   "Write all that is stored to a file",
		Long:    "Writes all that is stored, with its history, as JSON lines that import reads: to a file, else to standard output.",
		Example: "  sluice export backup.jsonl\n  sluice export --head-only | sluice import - --server unix:///run/other.sock",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := client.client(a)
			if err != nil {
				return err
			}
			if len(args) == 0 || args[0] == "-" {
				return a.refused(c.Export(cmd.Context(), headOnly, a.stdout))
			}
			return a.refused(exportFile(cmd.Context(), c, headOnly, args[0]))
		},
	}
	client.add(cmd)
	cmd.Flags().BoolVar(&headOnly, "head-only", false, "leave the history out")
	return cmd
}

// exportFile writes beside the file and puts it in its place when it is whole.
func exportFile(ctx context.Context, c *admin.Client, headOnly bool, file string) (err error) {
	out, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	err = c.Export(ctx, headOnly, out)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), file)
}

func newImportCommand(a *app) *cobra.Command {
	var client clientFlags
	var replace bool
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Read an export into an empty server",
		Long: `Reads an export in the place of what is stored, all or nothing: it is checked as apply checks policies.
A server that holds something already needs --replace; what it held is lost then, with its history.`,
		Example: "  sluice import backup.jsonl",
		Args:    exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return importSite(cmd.Context(), a, client, replace, args[0])
		},
	}
	client.add(cmd)
	cmd.Flags().BoolVar(&replace, "replace", false, "replace what is stored, with its history")
	return cmd
}

func importSite(ctx context.Context, a *app, client clientFlags, replace bool, file string) error {
	c, err := client.client(a)
	if err != nil {
		return err
	}
	text, err := a.readFile(file)
	if err != nil {
		return err
	}
	result, err := c.Import(ctx, admin.ImportRequest{Replace: replace, Export: text})
	if problem, ok := isProblems[*admin.Error](err); ok && problem.Code == admin.CodeNotEmpty {
		return fmt.Errorf("%w: --replace says so", err)
	}
	if err != nil {
		return a.refused(err)
	}
	fmt.Fprintf(a.stdout, "imported: revision %d\n", result.Revision.Number)
	return nil
}

// readFile reads a file, or standard input for -, as far as a server takes it.
func (a *app) readFile(name string) (string, error) {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, admin.MaxRequestBytes+1))
	if err == nil && len(text) > admin.MaxRequestBytes {
		err = fmt.Errorf("%s is larger than %d MiB: export with --head-only", name, admin.MaxRequestBytes>>20)
	}
	return string(text), err
}
