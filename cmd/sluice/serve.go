package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/vault"
)

type serveOptions struct {
	listenFlags
	consulFlags
	door    adminFlags
	known   xdsFlags
	log     logFlags
	store   string
	envoy   string
	agent   bool
	agentAt string
	keys    []string // of the secrets in the store
}

func newServeCommand(a *app) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Runs the control plane: keeps the policies, and serves every Envoy its configuration. Envoys are started elsewhere, with
what sluice bootstrap prints. Each change is shown to the real Envoy before any of them gets it; where no Envoy binary is
found, changes go out unproven.

Envoys and agents on other hosts need certificates, and so does the server: sluice certs makes them. Each gets what is of the
gateway that its certificate names.

Nothing is published before everything that is stored has been read. Envoys go on with what they have while it is away.`,
		Example: `  sluice serve --store /var/lib/sluice/store.db
  sluice serve --listen-admin unix:/run/sluice/admin.sock
  sluice serve --listen-xds 0.0.0.0:18000 --xds-cert server.crt --xds-key server.key --xds-client-ca ca.crt --xds-crl ca.crl
  sluice serve --store consul://sluice/food --consul 127.0.0.1:8500     # one of several
  sluice serve --listen-admin 0.0.0.0:18080 --admin-cert admin.pem --admin-key admin.key --admin-tokens tokens.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), a, o) },
	}
	o.listenFlags.add(cmd)
	o.known.add(cmd)
	o.consulFlags.add(cmd)
	o.door.add(cmd)
	o.log.add(cmd)
	addEnvoy(cmd, &o.envoy)
	cmd.Flags().BoolVar(&o.agent, "agent", false, "also run an agent in this process, for Envoys on this host; it ends with the control plane")
	cmd.Flags().StringVar(&o.agentAt, "listen-agent", envoy.DefaultAgent, "where Envoys ask that agent: a loopback host:port or unix:/path (SLUICE_LISTEN_AGENT)")
	cmd.Flags().StringSliceVar(&o.keys, "secrets-key", nil, "the file with the key for secrets in the store, or its variable as env:NAME; after it those that older secrets are still under (SLUICE_SECRETS_KEY, with commas between)")
	cmd.Flags().StringVar(&o.store, "store", "", "the file that keeps the policies; or consul, or consul://PREFIX, for several servers of one fleet (SLUICE_STORE; default: $STATE_DIRECTORY/store.db, /var/lib/sluice/store.db for root, else ~/.local/state/sluice/store.db)")
	return cmd
}

func serve(ctx context.Context, a *app, o serveOptions) (err error) {
	log, err := a.logger(o.log)
	if err != nil {
		return err
	}
	ring, err := a.secretsKeys(o.keys)
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
	kept, err := a.openStore(ctx, o, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	catalog, err := o.source(kept.catalog, log)
	if err != nil {
		return err
	}
	door, err := o.door.open(storeBeside(kept.catalog), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, door.audit.Close()) }()
	o.adminTLS = o.door.tls()
	if o.listenFlags.known, err = o.known.credentials(log); err != nil {
		return err
	}
	d, err := o.open(ctx)
	if err != nil {
		return err
	}
	config := siteConfig{door: door, store: kept.Store, judge: judge.Prover, log: log, consul: catalog, keysFile: keysBeside(kept.catalog), vault: vault.New(kept.Store, ring...)}
	if o.agent {
		if config.agent, err = a.openAgent(ctx, o.agentAt, log); err != nil {
			return errors.Join(err, d.close())
		}
	}
	s, err := a.newSite(d, config)
	if err != nil {
		return errors.Join(err, d.close())
	}
	log.Info("serving", "store", kept.place, "xds", addressOf(d.xds), "admin", addressOf(d.admin), "envoy", judge.version)
	err = s.run(ctx)
	log.Info("ended")
	return err
}

// keysBeside is where keys are kept over restarts, beside what the catalog has said.
func keysBeside(catalog string) string {
	if catalog == "" {
		return ""
	}
	return strings.TrimSuffix(catalog, ".catalog") + ".keys"
}
