package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// nodes are many delta clients, each on a connection of its own, that take everything.
type nodes struct {
	cancel   context.CancelFunc
	running  sync.WaitGroup
	failed   chan error
	expected atomic.Pointer[expectation]
	names    sync.Map // endpoints' name by cluster and version, so that each is decoded once
}

// expectation is something that every node is to get once.
type expectation struct {
	typeURL string
	left    atomic.Int64
	all     chan struct{}
}

func (e *expectation) met() {
	if e.left.Add(-1) == 0 {
		close(e.all)
	}
}

// node is one client.
type node struct {
	all       *nodes
	id        string
	stream    discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	awaited   map[string]bool // endpoints asked for and not here yet
	has       map[string]bool // types
	met       *expectation
	connected func()
}

// connect starts so many nodes at once, and returns when all have everything.
func connect(ctx context.Context, server string, size int) (*nodes, error) {
	running, cancel := context.WithCancel(ctx)
	n := &nodes{cancel: cancel, failed: make(chan error, size)}
	synced := &expectation{all: make(chan struct{})}
	synced.left.Store(int64(size))
	for i := range size {
		one := &node{
			all: n, id: fmt.Sprintf("node-%d", i), awaited: map[string]bool{}, has: map[string]bool{}, connected: sync.OnceFunc(synced.met),
		}
		n.running.Go(func() {
			if err := one.run(running, server); err != nil && running.Err() == nil {
				n.failed <- err
			}
		})
	}
	if err := n.wait(ctx, synced); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// expect begins to wait until every node gets something of a type.
func (n *nodes) expect(typeURL string) *expectation {
	e := &expectation{typeURL: typeURL, all: make(chan struct{})}
	e.left.Store(fleetSize)
	n.expected.Store(e)
	return e
}

func (n *nodes) wait(ctx context.Context, e *expectation) error {
	select {
	case <-e.all:
		return nil
	case err := <-n.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("%d nodes never got it", e.left.Load())
	}
}

func (n *nodes) close() {
	n.cancel()
	n.running.Wait()
}

func (n *node) run(ctx context.Context, server string) error {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if n.stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, grpc.WaitForReady(true)); err != nil {
		return err
	}
	identity := &corev3.Node{Id: n.id, Cluster: "edge", UserAgentName: "bench"}
	if err := n.stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: identity, TypeUrl: resource.ClusterType}); err != nil {
		return err
	}
	for {
		resp, err := n.stream.Recv()
		if err == nil {
			err = n.take(resp)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n.id, err)
		}
	}
}

// take acknowledges a response, and asks for what it names.
func (n *node) take(resp *discoveryv3.DeltaDiscoveryResponse) error {
	url := resp.GetTypeUrl()
	first := !n.has[url]
	n.has[url] = true
	var next []*discoveryv3.DeltaDiscoveryRequest
	switch url {
	case resource.ClusterType:
		asked, err := n.endpointsOf(resp)
		if err != nil {
			return err
		}
		if len(asked) > 0 {
			next = append(next, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.EndpointType, ResourceNamesSubscribe: asked})
		}
		if first {
			next = append(next, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.ListenerType})
		}
	case resource.EndpointType:
		for _, r := range resp.GetResources() {
			delete(n.awaited, r.GetName())
		}
	case resource.ListenerType:
		if first {
			next = append(next, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.RouteType, ResourceNamesSubscribe: []string{"edge"}})
		}
	}
	n.note(resp)
	var errs []error
	for _, r := range append(next, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResponseNonce: resp.GetNonce()}) {
		errs = append(errs, n.stream.Send(r))
	}
	return errors.Join(errs...)
}

// note tells those who wait.
func (n *node) note(resp *discoveryv3.DeltaDiscoveryResponse) {
	if len(n.awaited) == 0 && n.has[resource.RouteType] {
		n.connected()
	}
	if e := n.all.expected.Load(); e != nil && e != n.met && e.typeURL == resp.GetTypeUrl() && len(resp.GetResources()) > 0 {
		n.met = e
		e.met()
	}
}

// endpointsOf are the endpoints that the clusters of a response name.
func (n *node) endpointsOf(resp *discoveryv3.DeltaDiscoveryResponse) ([]string, error) {
	var asked []string
	for _, r := range resp.GetResources() {
		key := r.GetName() + r.GetVersion()
		name, known := n.all.names.Load(key)
		if !known {
			var c clusterv3.Cluster
			if err := proto.Unmarshal(r.GetResource().GetValue(), &c); err != nil {
				return nil, err
			}
			name = c.GetEdsClusterConfig().GetServiceName()
			n.all.names.Store(key, name)
		}
		n.awaited[name.(string)] = true
		asked = append(asked, name.(string))
	}
	return asked, nil
}
