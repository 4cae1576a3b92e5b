package main

import (
	"slices"

	"github.com/spf13/cobra"
)

// commands are all commands, by their headings.
func commands(a *app) []*cobra.Command {
	return slices.Concat(
		grouped("offline",
			newValidateCommand(a), newTranslateCommand(a), newSchemaCommand(a), newBootstrapCommand(a)),
		grouped("server",
			newExplainCommand(a)),
		[]*cobra.Command{newVersionCommand(a)},
	)
}
