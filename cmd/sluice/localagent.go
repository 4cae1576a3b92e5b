package main

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/agent"
	"github.com/sluice-gateway/sluice/pkg/agent/extauthz"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/keys"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// localAgent is an agent in the control plane's own process, for Envoys on the same host. It is given what is published
// before any Envoy is, for every gateway.
type localAgent struct {
	lis    net.Listener
	holder *agent.Holder
	server *extauthz.Server
	log    *slog.Logger

	mu    sync.Mutex
	taken map[string]*snapshot.Snapshot // by gateway
}

// openAgent listens for Envoys.
func (a *app) openAgent(ctx context.Context, address string, log *slog.Logger) (*localAgent, error) {
	lis, err := admin.Listen(ctx, "--listen-agent", address)
	if err != nil {
		return nil, err
	}
	h := agent.NewHolder(a.features)
	return &localAgent{lis: lis, holder: h, server: extauthz.New(h, log, 0), log: log, taken: map[string]*snapshot.Snapshot{}}, nil
}

func (l *localAgent) run(ctx context.Context) error { return l.server.Run(ctx, l.lis) }

// report tells which API keys were used, until ctx ends.
func (l *localAgent) report(ctx context.Context, to func(map[string]time.Time)) error {
	tick := time.NewTicker(agent.ReportEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			to(l.holder.TakeUses())
		case <-ctx.Done():
			to(l.holder.TakeUses())
			return nil
		}
	}
}

// beside is a publisher that gives this agent its part first. Without an agent it is the publisher itself.
func (l *localAgent) beside(p control.Publisher) control.Publisher {
	if l == nil {
		return p
	}
	return agentFirst{p, l}
}

type agentFirst struct {
	control.Publisher
	agent *localAgent
}

// Publish implements control.Publisher.
func (a agentFirst) Publish(gateway string, s *snapshot.Snapshot) {
	a.agent.take(gateway, s)
	a.Publisher.Publish(gateway, s)
}

// Withdraw implements control.Publisher. Its Envoys go on, and so do their checks.
func (a agentFirst) Withdraw(gateway string) { a.Publisher.Withdraw(gateway) }

// take takes in what is other than what was published before.
func (l *localAgent) take(gateway string, s *snapshot.Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var changed, removed []agent.Resource
	for _, typeURL := range []string{feature.DataType, feature.PolicyType} {
		table := s.Table(typeURL)
		for _, name := range snapshot.Diff(l.taken[gateway].Table(typeURL), table) {
			packed := table.Body(name)
			if packed == nil {
				removed = append(removed, agent.Resource{Type: typeURL, Name: name})
				continue
			}
			body, err := feature.Unwrap(packed)
			if err != nil {
				l.log.Error("what was published cannot be read by the agent", "name", name, "error", err)
				continue
			}
			changed = append(changed, agent.Resource{Type: typeURL, Name: name, Body: body})
		}
	}
	l.taken[gateway] = s
	if len(changed)+len(removed) == 0 {
		return
	}
	if err := l.holder.Change(gateway, changed, removed); err != nil {
		l.log.Error("some of what was published is not taken by the agent", "gateway", gateway, "error", err)
	}
}

// newKeeper keeps what agents need beside policies.
func (a *app) newKeeper(c siteConfig) *keys.Keeper {
	return keys.New(keys.Config{
		Check: func(name string, body []byte) error { _, err := a.features.ParseData(name, body); return err },
		Log:   c.log, File: c.keysFile, Getenv: a.getenv, Secrets: c.vault,
	})
}
