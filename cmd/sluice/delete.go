package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/control"
)

type deleteOptions struct {
	changeFlags
	allowRemovals bool
}

func newDeleteCommand(a *app) *cobra.Command {
	var o deleteOptions
	cmd := &cobra.Command{
		Use:     "delete KIND/NAME...",
		Short:   "Delete objects, all or nothing",
		Long:    "Deletes objects, all or nothing: what others still need is not deleted.\n\n" + exitCodes,
		Example: "  sluice delete Route/orders-api Service/orders",
		RunE:    func(cmd *cobra.Command, args []string) error { return deleteObjects(cmd.Context(), a, o, args) },
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&o.allowRemovals, "allow-removals", false, "allow more than a fifth of all objects to be deleted")
	return cmd
}

func deleteObjects(ctx context.Context, a *app, o deleteOptions, args []string) error {
	if len(args) == 0 {
		return errors.New("delete wants KIND/NAME: sluice get lists what there is")
	}
	refs, err := a.refs(args)
	if err != nil {
		return err
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	ask := control.Request{Delete: refs, AllowRemovals: o.allowRemovals, Who: a.who(), Message: o.message}
	result, err := client.Apply(ctx, admin.ApplyRequest{Request: ask, WaitRequest: o.waiting()})
	if err != nil {
		return a.refused(err)
	}
	return a.applied(o.output, result)
}
