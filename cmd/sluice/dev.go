package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/source"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/vault"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

type devOptions struct {
	listenFlags
	consulFlags
	log      logFlags
	envoy    string
	noEnvoy  bool
	public   bool
	admin    string
	envoyLog string
	agentAt  string
}

func newDevCommand(a *app) *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev FOLDER",
		Short: "Run a gateway on a folder of policies, and follow it",
		Long: `Runs the control plane and an Envoy on a folder of policies. A good edit is live at once; a bad one is shown, and what was
good last goes on serving. Ctrl-C ends everything. The folder is the truth: apply, delete and rollback are refused, all
that only reads works. So do sluice keys, revoke and secrets, but what they make is kept in memory, and ends with this.`,
		Example: `  sluice dev examples/food-delivery
  sluice dev policies --public --envoy /usr/local/bin/envoy`,
		Args: exactArgs("FOLDER"),
		RunE: func(cmd *cobra.Command, args []string) error { return dev(cmd.Context(), a, o, args[0]) },
	}
	o.listenFlags.add(cmd)
	o.consulFlags.add(cmd)
	o.log.add(cmd)
	addEnvoy(cmd, &o.envoy)
	cmd.Flags().BoolVar(&o.noEnvoy, "no-envoy", false, "start no Envoy: only serve those that are started elsewhere")
	cmd.Flags().BoolVar(&o.public, "public", false, "let listeners bind all interfaces, as they do in production, not only loopback")
	cmd.Flags().StringVar(&o.admin, "envoy-admin", "", "where Envoy's admin interface listens (default 127.0.0.1:19000, that of each further Gateway one port higher)")
	cmd.Flags().StringVar(&o.agentAt, "listen-agent", "", "where Envoys ask the agent: a loopback host:port or unix:/path (default: a socket of its own; with --no-envoy there is no agent unless this is given) (SLUICE_LISTEN_AGENT)")
	cmd.Flags().StringVar(&o.envoyLog, "envoy-log-level", "warning", "what Envoy logs, trace to off")
	cmd.Flags().Lookup("log-level").DefValue = "warn"
	o.log.level = "warn"
	return cmd
}

const devReadOnly = "this is sluice dev: the folder is the truth, so edit the files in it"

func dev(ctx context.Context, a *app, o devOptions, folder string) error {
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is no folder: name one that holds policies, for example examples/food-delivery", folder)
	}
	log, err := a.logger(o.log)
	if err != nil {
		return err
	}
	judge, envoys, err := a.devEnvoy(ctx, o)
	if err != nil {
		return err
	}
	catalog, err := o.source("", log)
	if err != nil {
		return err
	}
	d, err := o.open(ctx)
	if err != nil {
		return err
	}
	own, remove, err := a.devAgent(ctx, &o, log)
	if err != nil {
		return errors.Join(err, d.close())
	}
	defer remove()
	kept := store.NewMemory(store.Options{Keep: 100})
	key, err := vault.ParseKey([]byte(vault.NewKeyText()))
	if err != nil {
		return err
	}
	held := vault.New(kept, key)
	s, err := a.newSite(d, siteConfig{
		store: kept, judge: judge.Prover, log: log, loopback: !o.public, readOnly: devReadOnly, consul: catalog, agent: own,
		vault: held, obtained: untrusted{},
	})
	if err != nil {
		return errors.Join(err, d.close())
	}
	envoys.agent = o.agentAt
	g, ctx := errgroup.WithContext(ctx)
	f := &follower{app: a, folder: folder, site: s, fleet: envoys, secrets: held}
	envoys.servers, envoys.failed = []string{addressOf(d.xds)}, make(chan error, 1)
	g.Go(func() error { return s.run(ctx) })
	g.Go(func() error { return f.follow(ctx) })
	return g.Wait()
}

// devAgent opens the agent's door: where it was asked for, else a socket that only the Envoys started here know.
func (a *app) devAgent(ctx context.Context, o *devOptions, log *slog.Logger) (own *localAgent, remove func(), err error) {
	remove = func() {}
	if o.agentAt == "" && o.noEnvoy {
		return nil, remove, nil
	}
	if o.agentAt == "" {
		dir, err := os.MkdirTemp("", "sluice")
		if err != nil {
			return nil, remove, err
		}
		remove = func() { _ = os.RemoveAll(dir) }
		o.agentAt = "unix:" + filepath.Join(dir, "agent")
	}
	if own, err = a.openAgent(ctx, o.agentAt, log); err != nil {
		remove()
	}
	return own, remove, err
}

// devEnvoy finds the Envoy to start and to judge; none at all needs --no-envoy.
func (a *app) devEnvoy(ctx context.Context, o devOptions) (prover, *fleet, error) {
	f := &fleet{admin: o.admin, log: a.stderr, logLevel: o.envoyLog}
	if o.noEnvoy {
		judge, err := a.findProver(ctx, o.envoy)
		return judge, f, err
	}
	binary, _, err := a.findEnvoy(ctx, o.envoy)
	if err != nil {
		return prover{}, nil, fmt.Errorf("%w; or serve Envoys that are started elsewhere with --no-envoy", err)
	}
	f.binary = binary
	judge, err := a.findProver(ctx, binary)
	return judge, f, err
}

// follower keeps what is served like the folder.
type follower struct {
	*app
	folder  string
	site    *site
	fleet   *fleet
	secrets *vault.Vault

	seen   bool   // something was served
	wrong  string // what was shown to be wrong last
	listen string // what was said to listen last
}

// follow serves the folder until ctx ends. Envoys that it started have ended then.
func (f *follower) follow(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, f.fleet.stop()) }()
	changes := source.Watch(ctx, f.folder, func(err error) {
		fmt.Fprintf(f.stderr, "the folder cannot be watched (%v): it is read once a second\n", err)
	})
	secrets := f.secrets.Watch(ctx)
	for {
		if err := f.read(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-f.fleet.failed:
			return err
		case _, open := <-changes:
			if !open {
				return nil
			}
		case <-secrets: // what was missing may be there now; what was there is followed as it is
			if f.wrong == "" {
				continue
			}
		}
	}
}

// read makes what is served like the folder. An error ends dev; what is wrong with the policies does not.
func (f *follower) read(ctx context.Context) error {
	started := time.Now()
	loaded, err := f.loader("").Load(ctx, f.folder)
	if err != nil {
		f.bad(ctx, err.Error()+"\n")
		return nil
	}
	if loaded.Problems.Failed() {
		f.bad(ctx, loaded.Problems.Render())
		return nil
	}
	result, err := f.site.controller.Apply(ctx, control.Request{
		Set: loaded.Objects, Source: loaded.Source, Prune: true, AllowRemovals: true, Who: f.who(), Message: "dev " + f.folder,
	})
	if err != nil {
		f.bad(ctx, err.Error())
		return nil
	}
	mended := f.wrong != ""
	f.wrong = ""
	if !result.Changed && f.seen && !mended {
		return nil
	}
	return f.good(ctx, result, loaded, started)
}

// bad shows what is wrong, once.
func (f *follower) bad(ctx context.Context, text string) {
	if ctx.Err() != nil || text == f.wrong {
		return
	}
	f.wrong = text
	after := "nothing is served yet: edit the files, they are read again"
	if b := f.site.controller.Serving(); f.seen && b != nil {
		after = fmt.Sprintf("revision %d goes on serving", b.Revision.Number)
	}
	fmt.Fprintf(f.stderr, "\n%s %s\n%s%s\n", now(), f.paint(f.errTerminal, red, "not applied"), text, after)
}

// good tells that an edit is live, once it is.
func (f *follower) good(ctx context.Context, result *control.Result, loaded *source.Policies, started time.Time) error {
	b := result.Build
	if !f.seen {
		f.skipped(loaded)
	}
	if b.Problems != nil {
		f.problems(b.Problems.List(), b.Problems.Dropped())
	}
	if err := f.fleet.serve(ctx, b.Config); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	envoys := f.site.controller.Wait(waiting, b)
	if ctx.Err() != nil {
		return nil
	}
	took := time.Since(started).Round(time.Millisecond)
	fmt.Fprintf(f.stdout, "%s revision %d %s in %v%s\n", now(), b.Revision.Number, f.outcome(envoys), took, summary(result, f.seen))
	f.seen = true
	f.listening(b.Config)
	return nil
}

// outcome tells whether all Envoys took a revision, and shows what they refuse.
func (f *follower) outcome(envoys []xds.EnvoyStatus) string {
	out := "live"
	for _, e := range envoys {
		switch e.State {
		case xds.Synced:
			continue
		case xds.Refused:
			out = "refused in part"
		default:
			fmt.Fprintf(f.stderr, "%s %s is %s\n", f.paint(f.errTerminal, yellow, "waiting:"), e.Node, e.State)
		}
		for _, r := range e.Refusals {
			fmt.Fprintf(f.stderr, "%s %s refuses %s %s: %s\n", f.paint(f.errTerminal, red, "refused:"), e.Node, r.Type, r.Name, r.Reason)
			if strings.Contains(r.Reason, "Address already in use") {
				fmt.Fprintln(f.stderr, "  help: another program listens there: stop it and start this again, or choose another port in the Gateway")
			}
		}
	}
	return out
}

// summary names what an edit changed; of the first reading, how much there is.
func summary(result *control.Result, seen bool) string {
	if !seen {
		return ": " + count(len(result.Build.Objects), "object")
	}
	var parts []string
	for i, c := range result.Changes {
		if i == 5 {
			parts = append(parts, fmt.Sprintf("and %d more", len(result.Changes)-i))
			break
		}
		parts = append(parts, sign(c)+c.Ref.String())
	}
	if len(parts) == 0 {
		return ": as before"
	}
	return ": " + strings.Join(parts, " ")
}

func sign(c control.Change) string {
	switch {
	case c.Before == nil:
		return "+"
	case c.After == nil:
		return "-"
	}
	return "~"
}

// listening says where everything is, when that has changed.
func (f *follower) listening(config *model.Config) {
	var b strings.Builder
	for _, g := range config.Gateways {
		for _, l := range g.Listeners {
			if l.HTTP3 {
				continue // beside the one of TCP, with its address
			}
			scheme := "http"
			if l.TLS != nil {
				scheme = "https"
			}
			fmt.Fprintf(&b, "  %-28s gateway %s\n", fmt.Sprintf("%s://%s:%d", scheme, shownHost(l.Address), l.Port), l.Name)
		}
	}
	fmt.Fprintf(&b, "  %-28s status page, admin API, metrics\n", shownURL(addressOf(f.site.admin)))
	fmt.Fprintf(&b, "  %-28s xDS\n", addressOf(f.site.doors.xds))
	for _, line := range f.fleet.listening() {
		fmt.Fprintf(&b, "  %-28s Envoy's admin page (%s)\n", shownURL(line.admin), line.gateway)
	}
	if text := b.String(); text != f.listen {
		f.listen = text
		fmt.Fprintf(f.stdout, "listening:\n%s", text)
	}
}

func shownHost(address string) string {
	switch {
	case address == "" || address == "0.0.0.0" || address == "::":
		return "localhost"
	case strings.Contains(address, ":"):
		return "[" + address + "]"
	}
	return address
}

func shownURL(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return address
	}
	return "http://" + address
}

func now() string { return time.Now().Format(time.TimeOnly) }
