package integration

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	agents "github.com/sluice-gateway/sluice/integration/consul"
	"github.com/sluice-gateway/sluice/integration/gateway"
	"github.com/sluice-gateway/sluice/pkg/agent"
	"github.com/sluice-gateway/sluice/pkg/agent/extauthz"
	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/credentials"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/revocation"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// keyReplica is a control plane of several, with its keys and the agents that follow it.
type keyReplica struct {
	*control.Controller
	callers *credentials.Keeper
	agents  []*extauthz.Server
}

func startKeyReplica(t *testing.T, a *agents.Agent, followers int) *keyReplica {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	kept := openReplica(t, a)
	r := &keyReplica{callers: credentials.New(credentials.Config{Records: kept, Log: log, Every: 200 * time.Millisecond})}
	server := xds.New(xds.Config{Reports: map[string]func(map[string]string){feature.UseType: r.callers.Reported}})
	r.Controller = control.New(control.Config{Features: all.Features(), Store: kept, Publisher: server, Log: log, Loopback: true, Tables: r.callers})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{r.Run, r.callers.Run, r.FollowTables, func(ctx context.Context) error { return server.Run(ctx, lis) }} {
		running.Go(func() { _ = run(ctx) })
	}
	for n := range followers {
		holder := agent.NewHolder(all.Features())
		client := &agent.Client{
			Holder: holder, Gateway: "edge", Node: fmt.Sprint("agent-", n), Servers: []string{lis.Addr().String()},
			File: filepath.Join(t.TempDir(), "copy"), Log: log, ReportEvery: 200 * time.Millisecond,
		}
		running.Go(func() { _ = client.Run(ctx) })
		r.agents = append(r.agents, extauthz.New(holder, log, 0))
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	return r
}

// asks is what an agent answers to a request with a key: an HTTP status.
func (r *keyReplica) asks(t *testing.T, n int, text string) int {
	t.Helper()
	b := r.Serving()
	if b == nil {
		return 0
	}
	digest := b.Config.Gateways[0].Hosts[0].Routes[0].Runtime.Digest
	answer, err := r.agents[n].Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{feature.PolicyExtension: digest},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/a", Headers: map[string]string{"x-api-key": text},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if denied := answer.GetDeniedResponse(); denied != nil {
		return int(denied.GetStatus().GetCode())
	}
	return 200
}

// everyAgent waits until each agent of each replica answers the same to a key, and says how long that took.
func everyAgent(t *testing.T, replicas []*keyReplica, text string, want int) time.Duration {
	t.Helper()
	start := time.Now()
	for _, r := range replicas {
		for n := range r.agents {
			gateway.Eventually(t, fmt.Sprint("every agent answers ", want), func() bool { return r.asks(t, n, text) == want })
		}
	}
	return time.Since(start)
}

// TestKeys_OfReplicas: what is done to keys at one control plane is in force at the agents of all.
func TestKeys_OfReplicas(t *testing.T) {
	a := agents.Start(t, agents.Options{})
	replicas := []*keyReplica{startKeyReplica(t, a, 3), startKeyReplica(t, a, 3)}
	if _, err := replicas[0].Apply(t.Context(), control.Request{Set: objectsOf(t, fmt.Sprintf(`
apiVersion: sluice/v1
kind: Gateway
metadata: {name: edge}
spec: {listeners: [{name: http, port: %d}]}
---
apiVersion: sluice/v1
kind: Route
metadata: {name: r}
spec: {match: /a, authenticate: {apiKey: x-api-key}, direct: {body: a}}
`, gateway.FreePort(t)))}); err != nil {
		t.Fatal(err)
	}
	here, there := replicas[0].callers, replicas[1].callers
	made, first, err := here.CreateKey(t.Context(), apikey.Key{Owner: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("made: %s", everyAgent(t, replicas, first, 200))
	for range Amount(20) {
		_, second, err := there.RotateKey(t.Context(), made.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("rotated: %s", everyAgent(t, replicas, second, 200))
		everyAgent(t, replicas, first, 401)
		first = second
		if _, err := here.SetDisabled(t.Context(), made.ID, true); err != nil {
			t.Fatal(err)
		}
		t.Logf("disabled: %s", everyAgent(t, replicas, first, 401))
		if _, err := there.SetDisabled(t.Context(), made.ID, false); err != nil {
			t.Fatal(err)
		}
		everyAgent(t, replicas, first, 200)
		revoked, err := there.Revoke(t.Context(), revocation.Revocation{Kind: revocation.Key, Value: made.ID})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("revoked: %s", everyAgent(t, replicas, first, 401))
		if _, err := here.Undo(t.Context(), revoked.ID); err != nil {
			t.Fatal(err)
		}
		everyAgent(t, replicas, first, 200)
	}
	for _, k := range []*credentials.Keeper{here, there} {
		gateway.Eventually(t, "both know when the key was used", func() bool {
			s, err := k.Key(t.Context(), made.ID)
			return err == nil && s.LastUsed != nil
		})
	}
	fresh := startKeyReplica(t, a, 1)
	everyAgent(t, []*keyReplica{fresh}, first, 200)
}
