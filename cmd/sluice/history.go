package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/admin"
)

type historyOptions struct {
	client clientFlags
	output format
	limit  int
}

func newHistoryCommand(a *app) *cobra.Command {
	var o historyOptions
	cmd := &cobra.Command{
		Use:     "history",
		Short:   "List the revisions, newest first",
		Long:    "Lists the revisions, newest first. The one that is served is marked with *. CONFIG is what answers of each gateway carry.",
		Example: "  sluice history --limit 10\n  sluice rollback 41",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return history(cmd.Context(), a, o) },
	}
	o.client.add(cmd)
	addOutput(cmd, &o.output)
	cmd.Flags().IntVar(&o.limit, "limit", 20, "how many; all that are kept when 0")
	return cmd
}

func history(ctx context.Context, a *app, o historyOptions) error {
	if o.limit < 0 {
		return fmt.Errorf("--limit %d is negative", o.limit)
	}
	client, err := o.client.client(a)
	if err != nil {
		return err
	}
	h, err := client.History(ctx, o.limit)
	if err != nil {
		return a.refused(err)
	}
	return a.print(o.output, h, func(w io.Writer) { printHistory(w, h) })
}

func printHistory(w io.Writer, h *admin.History) {
	var rows [][]string
	for _, r := range h.Revisions {
		number := strconv.FormatUint(r.Number, 10)
		if r.Number == h.Serving {
			number += "*"
		}
		var configs []string
		for _, gateway := range slices.Sorted(maps.Keys(r.Snapshots)) {
			configs = append(configs, gateway+"="+r.Snapshots[gateway])
		}
		rows = append(rows, []string{number, r.Time.Local().Format(time.DateTime), orDash(r.Who), strconv.Itoa(r.Set), strconv.Itoa(r.Deleted),
			orDash(strings.Join(r.Sources, ",")), orDash(strings.Join(configs, ",")), r.Message})
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "nothing was ever applied")
	}
	columns(w, []string{"REVISION", "TIME", "WHO", "SET", "DELETED", "SOURCES", "CONFIG", "MESSAGE"}, rows)
}
