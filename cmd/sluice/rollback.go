package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
)

func newRollbackCommand(a *app) *cobra.Command {
	var o changeFlags
	cmd := &cobra.Command{
		Use:     "rollback REVISION",
		Short:   "Go back to an earlier revision",
		Long:    "Makes the objects those of an earlier revision, as a new revision: nothing of the history is lost.\n\n" + exitCodes,
		Example: `  sluice rollback 41 -m "orders: back to two instances"`,
		Args:    exactArgs("REVISION"),
		RunE:    func(cmd *cobra.Command, args []string) error { return rollback(cmd.Context(), a, o, args[0]) },
	}
	o.add(cmd)
	return cmd
}

func rollback(ctx context.Context, a *app, o changeFlags, revision string) error {
	to, err := strconv.ParseUint(revision, 10, 63)
	if err != nil {
		return fmt.Errorf("%q is not a revision: sluice history lists them", revision)
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	result, err := client.Rollback(ctx, admin.RollbackRequest{To: to, Who: a.who(), Message: o.message, WaitRequest: o.waiting()})
	if err != nil {
		return a.refused(err)
	}
	return a.applied(o.output, result)
}
