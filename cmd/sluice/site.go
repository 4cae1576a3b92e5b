package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/acme"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"github.com/sluice-gateway/sluice/pkg/certs"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/credentials"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/keys"
	"github.com/sluice-gateway/sluice/pkg/secrets"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/vault"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// listenFlags say where a server listens.
type listenFlags struct {
	xds, admin string
	hosts      []string
	adminTLS   bool               // it has a certificate
	known      *certs.Credentials // by which callers of xds are known; nil for anybody on this host
}

func (l *listenFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.xds, "listen-xds", envoy.DefaultServer, "where Envoys and agents connect: host:port or unix:/path; other than on loopback only serve --xds-cert does (SLUICE_LISTEN_XDS)")
	cmd.Flags().StringVar(&l.admin, "listen-admin", admin.DefaultAddress, "the admin API and status page: a loopback host:port or unix:/path; serve --admin-cert takes any host:port (SLUICE_LISTEN_ADMIN)")
	cmd.Flags().StringArrayVar(&l.hosts, "admin-host", nil, "a further host name that the admin API answers to; may be repeated (SLUICE_ADMIN_HOST)")
}

// doors are what a server listens on.
type doors struct {
	xds, admin net.Listener
	hosts      []string
	known      *certs.Credentials
}

// open listens on both doors, or on neither.
func (l listenFlags) open(ctx context.Context) (doors, error) {
	forXDS, err := listenXDS(ctx, l.xds, l.known)
	if err != nil {
		return doors{}, err
	}
	forAdmin, err := l.openAdmin(ctx)
	if err != nil {
		return doors{}, errors.Join(err, forXDS.Close())
	}
	return doors{forXDS, forAdmin, l.hosts, l.known}, nil
}

func (l listenFlags) openAdmin(ctx context.Context) (net.Listener, error) {
	if l.adminTLS {
		if strings.HasPrefix(l.admin, "unix:") {
			return nil, fmt.Errorf("--listen-admin: %s is a unix socket, which has no TLS: leave --admin-cert out, or listen on host:port", l.admin)
		}
		return admin.ListenAnywhere(ctx, "--listen-admin", l.admin)
	}
	lis, err := admin.Listen(ctx, "--listen-admin", l.admin)
	if errors.Is(err, admin.ErrNotLoopback) {
		return nil, fmt.Errorf("%w, or give it --admin-cert and --admin-key, with --admin-tokens or --admin-client-ca", err)
	}
	return lis, err
}

// close is for doors that nothing serves.
func (d doors) close() error { return errors.Join(d.xds.Close(), d.admin.Close()) }

// site is a management server: what serve and dev have in common.
type site struct {
	doors
	controller *control.Controller
	xds        *xds.Server
	api        *admin.Server
	consul     *consul.Source // nil when none is asked
	keys       *keys.Keeper
	callers    *credentials.Keeper
	authority  *acme.Manager // nil where no certificates are obtained
	agent      *localAgent   // nil when none runs in this process
	proofs     []*certs.Credentials
}

// siteConfig is what differs between serve and dev.
type siteConfig struct {
	door     adminDoor
	store    store.Store
	vault    *vault.Vault     // of the secrets in the store
	obtained secrets.Obtained // instead of certificates from authorities; nil for those
	judge    control.Prover
	log      *slog.Logger
	loopback bool
	readOnly string
	consul   *consul.Source
	keysFile string      // where keys are kept over restarts; "" for nowhere
	agent    *localAgent // nil for none in this process
}

func (a *app) newSite(d doors, c siteConfig) (*site, error) {
	s := &site{doors: d, consul: c.consul, agent: c.agent, callers: credentials.New(credentials.Config{Records: c.store, Log: c.log})}
	s.xds = xds.New(xds.Config{
		Log: c.log, Credentials: d.known, Denied: c.door.deniedNode,
		Reports: map[string]func(map[string]string){feature.UseType: s.callers.Reported},
	})
	s.keys = a.newKeeper(c)
	places := secrets.Config{Getenv: a.getenv, Store: c.vault, Log: c.log}
	if err := s.obtain(c, &places); err != nil {
		return nil, err
	}
	certificates := secrets.New(places)
	s.controller = control.New(control.Config{
		Features: a.features, Store: c.store, Publisher: s.agent.beside(s.xds), Prover: c.judge, Log: c.log, Loopback: c.loopback,
		Catalog: c.consul != nil, Secrets: certificates, StoreSecrets: c.vault, Keys: s.keys, Tables: s.callers,
	})
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), s.xds.Metrics())
	registry.MustRegister(s.controller.Collectors()...)
	registry.MustRegister(certificates)
	if s.agent != nil {
		registry.MustRegister(s.agent.server.Metrics())
	}
	if observed, ok := c.store.(interface{ Collector() prometheus.Collector }); ok {
		registry.MustRegister(observed.Collector())
	}
	api := admin.Config{
		Controller: s.controller, Store: c.store, Vault: c.vault, Envoys: s.xds.Envoys, Features: a.features, Metrics: registry,
		Keeper: s.callers, Log: c.log, Hosts: d.hosts, ReadOnly: c.readOnly, Version: readVersion().Version,
		Access: c.door.access, Credentials: c.door.credentials, Audit: c.door.audit, OpenMetrics: c.door.openMetrics,
	}
	if s.consul != nil {
		registry.MustRegister(s.consul)
		api.Catalog = s.consul
	}
	s.api = admin.New(api)
	registry.MustRegister(s.api.Collectors()...)
	if d.known != nil {
		s.proofs = append(s.proofs, d.known)
	}
	if c.door.credentials != nil {
		s.proofs = append(s.proofs, c.door.credentials)
	}
	registry.MustRegister(certs.Collector(s.proofs...))
	return s, nil
}

// run serves until ctx ends or a part fails; then all parts have ended.
func (s *site) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.controller.Run(ctx) })
	g.Go(func() error { return s.controller.FollowSecrets(ctx) })
	if s.consul != nil {
		g.Go(func() error { return s.controller.Discover(ctx, s.consul) })
	}
	g.Go(func() error { return s.keys.Run(ctx) })
	if s.authority != nil {
		g.Go(func() error { return s.authority.Run(ctx) })
	}
	g.Go(func() error { return s.controller.FollowKeys(ctx) })
	g.Go(func() error { return s.callers.Run(ctx) })
	g.Go(func() error { return s.controller.FollowTables(ctx) })
	if s.agent != nil {
		g.Go(func() error { return s.agent.run(ctx) })
		g.Go(func() error { return s.agent.report(ctx, s.callers.Used) })
	}
	for _, proof := range s.proofs {
		g.Go(func() error { return proof.Run(ctx) })
	}
	g.Go(func() error { return s.xds.Run(ctx, s.doors.xds) })
	g.Go(func() error { return s.api.Run(ctx, s.doors.admin) })
	return g.Wait()
}

// addressOf is where a door is, as clients and Envoys name it.
func addressOf(lis net.Listener) string {
	if lis.Addr().Network() == "unix" {
		return "unix:" + lis.Addr().String()
	}
	return lis.Addr().String()
}
