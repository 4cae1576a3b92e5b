package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/agent"
	"github.com/sluice-gateway/sluice/pkg/agent/extauthz"
	"github.com/sluice-gateway/sluice/pkg/certs"
)

type agentOptions struct {
	log                   logFlags
	proof                 nodeFlags
	gateway, node         string
	servers               []string
	listen, metrics, file string
	xds                   string
	most                  int
}

func newAgentCommand(a *app) *cobra.Command {
	var o agentOptions
	cmd := &cobra.Command{
		Use:   "agent --gateway NAME",
		Short: "Run the agent beside an Envoy",
		Long: `Runs the part of a gateway that decides on requests beside an Envoy: whether a caller's credentials hold, and what it may
do. It follows the control plane, keeps the last good copy of what it decides by in a file, and goes on, and starts, while
the control plane is away. Without an agent, routes that need one answer 503.

To a control plane on another host it proves itself with the certificate of the Envoy beside it, which sluice certs node
makes. The files are read again when they change.

It keeps Envoy's last good configuration in a second file beside that, which holds private keys, and serves it while the
control plane is away: so that an Envoy can be started then.`,
		Example: `  sluice agent --gateway edge
  sluice agent --gateway edge --xds 127.0.0.1:18000 --listen-agent unix:/run/sluice/agent.sock
  sluice agent --gateway edge --xds sluice.internal:18000 --cert edge-1.crt --key edge-1.key --ca ca.crt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAgent(cmd.Context(), a, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.gateway, "gateway", "", "the Gateway whose Envoy it stands beside (required)")
	f.StringVar(&o.node, "node", "", "its own id (default: agent- and the node that its certificate names, or the host's name)")
	f.StringArrayVar(&o.servers, "xds", nil, "a sluice serve, host:port or unix:/path, on other hosts only with a certificate; in the order they are tried; may be repeated (default "+envoy.DefaultServer+")")
	f.StringVar(&o.listen, "listen-agent", envoy.DefaultAgent, "where Envoy asks it: a loopback host:port or unix:/path (SLUICE_LISTEN_AGENT)")
	f.StringVar(&o.xds, "listen-agent-xds", envoy.DefaultAgentXDS, "where Envoy gets its last good configuration while the control plane is away: a loopback host:port, unix:/path, or none (SLUICE_LISTEN_AGENT_XDS)")
	f.StringVar(&o.metrics, "listen-metrics", defaultAgentMetrics, "where /metrics and /status are: a loopback host:port or unix:/path")
	f.StringVar(&o.file, "copy", "", "the file of the last good copy; Envoy's configuration is kept beside it, in one that ends in .xds (default: $STATE_DIRECTORY/agent-GATEWAY.copy, below /var/lib/sluice for root, else ~/.local/state/sluice)")
	f.IntVar(&o.most, "max-checks", extauthz.DefaultMost, "how many requests are decided on at once; further ones are answered 503")
	o.proof.add(cmd)
	o.log.add(cmd)
	return cmd
}

func runAgent(ctx context.Context, a *app, o agentOptions) error {
	if o.gateway == "" {
		return errors.New("--gateway is missing: name the Gateway whose Envoy the agent stands beside")
	}
	log, err := a.logger(o.log)
	if err != nil {
		return err
	}
	known, err := o.proof.credentials(log)
	if err != nil {
		return err
	}
	if err := a.agentDefaults(&o, known); err != nil {
		return err
	}
	doors, err := o.open(ctx)
	if err != nil {
		return err
	}
	holder := agent.NewHolder(a.features)
	client := &agent.Client{Holder: holder, Gateway: o.gateway, Node: o.node, Servers: o.servers, File: o.file, Log: log, Credentials: o.proof.dial(known)}
	if err := client.Load(); err != nil {
		log.Warn("the last good copy is not taken; what needs it is refused until the control plane answers", "error", err)
	}
	server := extauthz.New(holder, log, o.most)
	log.Info("deciding", "gateway", o.gateway, "agent", addressOf(doors.agent), "copy", o.file, "held", holder.Len())
	show := newShow(server.Metrics())
	g, ctx := errgroup.WithContext(ctx)
	if doors.xds != nil {
		last := newLastGood(o, log)
		client.Mirror = last
		show.add("GET /status", last, last.Metrics()...)
		g.Go(func() error { return last.Server.Run(ctx, doors.xds) })
		g.Go(func() error { return last.Run(ctx) })
	}
	g.Go(func() error { return client.Run(ctx) })
	if known != nil {
		g.Go(func() error { return known.Run(ctx) })
		show.registry.MustRegister(certs.Collector(known))
	}
	g.Go(func() error { return server.Run(ctx, doors.agent) })
	g.Go(func() error { return show.run(ctx, doors.metrics) })
	return g.Wait()
}

func (a *app) agentDefaults(o *agentOptions, known *certs.Credentials) error {
	if len(o.servers) == 0 {
		o.servers = []string{envoy.DefaultServer}
	}
	for _, server := range o.servers {
		if err := checkServer(server, known != nil); err != nil {
			return err
		}
	}
	if err := o.nameNode(known); err != nil {
		return err
	}
	if o.file != "" {
		return nil
	}
	dir := a.stateFolder()
	if dir == "" {
		return errors.New("there is no home to keep the last good copy in: name a file with --copy")
	}
	o.file = filepath.Join(dir, "agent-"+o.gateway+".copy")
	return os.MkdirAll(dir, 0o700)
}

// nameNode finds the agent's own id, and holds it against its certificate.
func (o *agentOptions) nameNode(known *certs.Credentials) error {
	if o.node == "" && known != nil {
		if identity, err := certs.NodeOf(known.Own()); err == nil && identity.Node != "" {
			o.node = certs.AgentPrefix + identity.Node
		}
	}
	if o.node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("the host has no name (%w): give --node", err)
		}
		o.node = certs.AgentPrefix + host
	}
	if known == nil {
		return nil
	}
	return o.proof.check(known, o.gateway, o.node)
}

// checkServer refuses servers on other hosts where nothing would secure what they say.
func checkServer(server string, secured bool) error {
	if strings.HasPrefix(server, "unix:") {
		return nil
	}
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return fmt.Errorf("--xds: %q is neither host:port nor unix:/path", server)
	}
	if ip, err := netip.ParseAddr(host); !secured && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("--xds: %s is not on this host: give --cert, --key and --ca, which sluice certs node makes", server)
	}
	return nil
}
