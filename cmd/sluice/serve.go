package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/bolt"
)

type serveOptions struct {
	listenFlags
	consulFlags
	log   logFlags
	store string
	envoy string
}

func newServeCommand(a *app) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Runs the control plane: keeps the policies, and serves every Envoy its configuration. Envoys are started elsewhere, with
what sluice bootstrap prints. Each change is shown to the real Envoy before any of them gets it; where no Envoy binary is
found, changes go out unproven.

Nothing is published before everything that is stored has been read. Envoys go on with what they have while it is away.`,
		Example: `  sluice serve --store /var/lib/sluice/store.db
  sluice serve --listen-admin unix:/run/sluice/admin.sock`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), a, o) },
	}
	o.listenFlags.add(cmd)
	o.consulFlags.add(cmd)
	o.log.add(cmd)
	addEnvoy(cmd, &o.envoy)
	cmd.Flags().StringVar(&o.store, "store", "", "the file that keeps the policies (SLUICE_STORE; default: $STATE_DIRECTORY/store.db, /var/lib/sluice/store.db for root, else ~/.local/state/sluice/store.db)")
	return cmd
}

func serve(ctx context.Context, a *app, o serveOptions) (err error) {
	log, err := a.logger(o.log)
	if err != nil {
		return err
	}
	judge, err := a.findProver(ctx, o.envoy)
	if err != nil {
		return err
	}
	if judge.missing != "" {
		log.Warn("changes go out unproven", "reason", judge.missing)
	}
	path, err := a.storePath(o.store)
	if err != nil {
		return err
	}
	kept, err := bolt.Open(path, store.Options{})
	if errors.Is(err, bolt.ErrInUse) {
		return fmt.Errorf("--store: %w", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	catalog, err := o.source(path+".catalog", log)
	if err != nil {
		return err
	}
	d, err := o.open(ctx)
	if err != nil {
		return err
	}
	s := a.newSite(d, siteConfig{store: kept, judge: judge.Prover, log: log, consul: catalog})
	log.Info("serving", "store", path, "xds", addressOf(d.xds), "admin", addressOf(d.admin), "envoy", judge.version)
	err = s.run(ctx)
	log.Info("ended")
	return err
}

// storePath is the file that keeps the policies. The folder of the default is made, one that was named is not.
func (a *app) storePath(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	dir := a.stateFolder()
	if dir == "" {
		return "", errors.New("there is no home to keep the policies in: name a file with --store")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("%w: name a file elsewhere with --store", err)
	}
	return filepath.Join(dir, "store.db"), nil
}

// stateFolder is where a service manager says, else where such things are on this system.
func (a *app) stateFolder() string {
	if dir := a.getenv("STATE_DIRECTORY"); dir != "" {
		return dir
	}
	if dir := a.getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "sluice")
	}
	if os.Geteuid() == 0 {
		return "/var/lib/sluice"
	}
	if home := a.getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "sluice")
	}
	return ""
}
