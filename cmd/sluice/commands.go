package main

import (
	"slices"

	"github.com/spf13/cobra"
)

// commands are all commands, by their headings.
func commands(a *app) []*cobra.Command {
	return slices.Concat(
		grouped("run",
			newServeCommand(a), newAgentCommand(a), newDevCommand(a), newBootstrapCommand(a)),
		grouped("offline",
			newValidateCommand(a), newTranslateCommand(a), newSchemaCommand(a), newTokensCommand(a), newAuditLogCommand(a), newCertsCommand(a)),
		grouped("server",
			newApplyCommand(a), newPlanCommand(a), newGetCommand(a), newDeleteCommand(a), newHistoryCommand(a), newRollbackCommand(a),
			newExportCommand(a), newImportCommand(a), newEnvoysCommand(a), newWhyCommand(a), newExplainCommand(a),
			newCatalogCommand(a), newKeysCommand(a), newRevokeCommand(a), newSecretsCommand(a)),
		[]*cobra.Command{newVersionCommand(a)},
	)
}
