package main

import (
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/schema"
)

//go:generate sh -c "mkdir -p ../../docs/reference && go run . schema > ../../docs/reference/sluice.schema.json"

func newSchemaCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the policies",
		Long: `Prints the JSON Schema of every kind of policy, made from the types that policies are read into.

An editor with a YAML language server completes and checks a file that starts with the line

  # yaml-language-server: $schema=sluice.schema.json`,
		Example: "  sluice schema > sluice.schema.json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return writeJSON(a.stdout, schema.Document(a.features))
		},
	}
}
