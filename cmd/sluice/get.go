package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

type getOptions struct {
	client clientFlags
	output format
	filter admin.ObjectFilter
}

func newGetCommand(a *app) *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get [KIND[/NAME]]",
		Short: "Show what is stored",
		Long: `Lists the stored objects, or shows one as its author wrote it. With -o yaml the objects come as policy files do, so that
they can be applied again.`,
		Example: `  sluice get
  sluice get routes
  sluice get Route/orders-api --revision 12
  sluice get -o yaml > everything.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error { return getObjects(cmd.Context(), a, o, args) },
	}
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	cmd.Flags().StringVar(&o.filter.Source, "source", "", "only what was applied with this source")
	cmd.Flags().Uint64Var(&o.filter.Revision, "revision", 0, "of an earlier revision")
	return cmd
}

func getObjects(ctx context.Context, a *app, o getOptions, args []string) error {
	if err := a.choose(&o.filter, args); err != nil {
		return err
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	found, err := client.Objects(ctx, o.filter)
	if err != nil {
		return a.refused(err)
	}
	if o.output == yamlForm || o.output == table && o.filter.Name != "" {
		return writeDocuments(a.stdout, found.Objects)
	}
	return a.print(o.output, found, func(w io.Writer) { printObjects(w, found.Objects) })
}

// choose reads the words after get.
func (a *app) choose(f *admin.ObjectFilter, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if len(args) > 2 {
		return errors.New("get wants KIND, KIND/NAME or nothing")
	}
	if len(args) == 1 && !strings.Contains(args[0], "/") {
		kind, err := a.kind(args[0])
		f.Kind = kind
		return err
	}
	refs, err := a.refs(args)
	if err != nil {
		return err
	}
	if len(refs) > 1 {
		return errors.New("get wants one KIND/NAME")
	}
	f.Kind, f.Name = refs[0].Kind, refs[0].Name
	return nil
}

// writeDocuments writes objects as a policy file.
func writeDocuments(w io.Writer, objects []policy.Object) error {
	for i, o := range objects {
		between := ""
		if i > 0 {
			between = "---\n"
		}
		text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(o.Text), "---"))
		if _, err := fmt.Fprintf(w, "%s%s\n", between, text); err != nil {
			return err
		}
	}
	return nil
}

func printObjects(w io.Writer, objects []policy.Object) {
	var rows [][]string
	for _, o := range objects {
		rows = append(rows, []string{o.Kind, o.Name, o.Place(), orDash(o.Source)})
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "nothing is stored")
	}
	columns(w, []string{"KIND", "NAME", "PLACE", "SOURCE"}, rows)
}
