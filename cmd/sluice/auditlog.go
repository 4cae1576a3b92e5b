package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/auditlog"
)

func newAuditLogCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit-log",
		Short: "Check the log of who did what",
		Long: `The audit log of sluice serve is a file of JSON lines: who changed what, when and from where, and who was denied something.
Each line names the SHA-256 of the one before.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return fmt.Errorf("there is no command %s %q: see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
		},
	}
	cmd.AddCommand(newAuditLogVerifyCommand(a))
	return cmd
}

func newAuditLogVerifyCommand(a *app) *cobra.Command {
	var known auditlog.Known
	var output format
	cmd := &cobra.Command{
		Use:   "verify FILE...",
		Short: "Tell whether lines were changed, moved or taken away",
		Long: `Tells whether the files of one audit log, oldest first, are one chain, and whether the last one ends where sluice left it
(FILE.head beside it). Exit code 2 when not.

Whoever may write both files can also write a new chain. A hash that was kept elsewhere, which this prints and the server
logs with each change, shows that: give it with --holds.`,
		Example: `  sluice audit-log verify /var/lib/sluice/store.db.audit
  sluice audit-log verify store.db.audit.1 store.db.audit --holds 5d0e…`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, files []string) error { return a.verifyAuditLog(files, known, output) },
	}
	cmd.Flags().StringVar(&known.After, "after", "", "the hash of the line before the first one, when that is in a file that is not here")
	cmd.Flags().StringArrayVar(&known.Holds, "holds", nil, "a hash of a line that must be there; may be repeated")
	addOutput(cmd, &output)
	return cmd
}

func (a *app) verifyAuditLog(files []string, known auditlog.Known, f format) error {
	report, err := auditlog.Verify(files, known)
	var broken *auditlog.BrokenError
	switch {
	case errors.As(err, &broken):
		return &exit{exitDifferences, err}
	case err != nil:
		return err
	}
	return a.print(f, report, func(w io.Writer) {
		fmt.Fprintf(w, "%s hold together, %d to %d, %d of them denials\n", count(report.Lines, "line"), report.First, report.Last, report.Denied)
		fmt.Fprintf(w, "the last one is %s\n", report.Hash)
		for _, seq := range report.Open {
			fmt.Fprintf(w, "line %d began what has no outcome: the server stopped then, or is at it\n", seq)
		}
		for _, note := range report.Notes {
			fmt.Fprintf(a.stderr, "note: %s\n", note)
		}
	})
}
