package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

// largestResponse bounds what a server may send at once, in bytes.
const largestResponse = 64 << 20

// The pauses between tries to connect: none is longer than backoffMost, each anywhere between nothing and twice the
// one before.
const (
	backoffFirst = 50 * time.Millisecond
	backoffMost  = time.Second
)

// Mirror takes all else that the control plane has for the gateway, on the same stream.
type Mirror interface {
	// Types are the type URLs to ask for, and Held what is held of one, name → version.
	Types() []string
	Held(typeURL string) map[string]string
	// Take takes a server's response of one of the types.
	Take(server string, resp *discoveryv3.DeltaDiscoveryResponse)
	// Lost is told each time that a server is gone or could not be reached.
	Lost()
	// Metadata is what the server is told on connecting; nil for nothing.
	Metadata() *structpb.Struct
}

// Client keeps a Holder like what one gateway's control plane has, over delta xDS.
type Client struct {
	// Holder takes what comes. Required.
	Holder *Holder
	// Gateway is whose policies are asked for, Node the agent's own id. Required.
	Gateway, Node string
	// Servers are the xDS servers, host:port or unix:/path, in the order they are tried. Required.
	Servers []string
	// Credentials secure a connection. They are asked for at each, so that they may change. Nil means none.
	Credentials func() credentials.TransportCredentials
	// File keeps the last good copy; "" keeps none.
	File string
	// Mirror takes what is not the agent's own; nil where nothing does.
	Mirror Mirror
	// ReportEvery is how often the control plane is told which API keys were used; a minute when 0.
	ReportEvery time.Duration
	// Log takes connects, refusals and what goes wrong. Required.
	Log *slog.Logger

	held map[key]Resource
	disk disk
}

// Load takes in the last good copy from disk, so that an agent can decide before any server is there. A damaged file is
// an error, and nothing is taken in then.
func (c *Client) Load() error {
	c.held = map[key]Resource{}
	if c.File == "" {
		return nil
	}
	c.disk = disk{file: c.File}
	held, err := c.disk.read()
	if err != nil {
		return err
	}
	maps.Copy(c.held, held)
	if err := c.Holder.Change(c.Gateway, slices.Collect(maps.Values(held)), nil); err != nil {
		c.Log.Warn("some of the copy on disk is not taken", "file", c.File, "error", err)
	}
	return nil
}

// Run follows the servers until ctx ends. Load comes first.
func (c *Client) Run(ctx context.Context) error {
	if c.held == nil {
		c.held, c.disk = map[key]Resource{}, disk{file: c.File}
	}
	limit := backoffFirst
	for i := 0; ctx.Err() == nil; i++ {
		server := c.Servers[i%len(c.Servers)]
		heard, err := c.follow(ctx, server)
		if ctx.Err() != nil {
			return nil
		}
		if c.Mirror != nil {
			c.Mirror.Lost()
		}
		if heard || i == 0 { // once an outage
			c.Log.Warn(c.trouble(err), "server", server, "node", c.Node, "error", err)
		}
		if heard {
			limit = backoffFirst
		}
		select {
		case <-time.After(rand.N(limit)):
		case <-ctx.Done():
		}
		limit = min(2*limit, backoffMost)
	}
	return nil
}

func (c *Client) trouble(err error) string {
	if grpcstatus.Code(err) == codes.PermissionDenied {
		return "the control plane does not let this agent in: is its certificate that of the gateway and node? What is held goes on"
	}
	return "the control plane is away; what is held goes on"
}

type stream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

// follow follows one server until it is gone; heard tells whether it said anything.
func (c *Client) follow(ctx context.Context, server string) (heard bool, err error) {
	secured := insecure.NewCredentials()
	if c.Credentials != nil {
		secured = c.Credentials()
	}
	target := server
	if !strings.HasPrefix(server, "unix:") {
		target = "passthrough:///" + server
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(secured),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largestResponse)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}))
	if err != nil {
		return false, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return false, err
	}
	if err := c.subscribe(s); err != nil {
		return false, err
	}
	var sending sync.Mutex // a stream takes one sender at a time
	send := func(r *discoveryv3.DeltaDiscoveryRequest) error {
		sending.Lock()
		defer sending.Unlock()
		return s.Send(r)
	}
	var reporting sync.WaitGroup
	reporting.Go(func() { c.report(ctx, send) })
	defer reporting.Wait()
	defer cancel()
	for {
		resp, err := s.Recv()
		if err != nil {
			return heard, err
		}
		if !heard {
			heard = true
			c.Log.Info("following", "server", server, "gateway", c.Gateway)
		}
		if err := send(c.answer(server, resp)); err != nil {
			return heard, err
		}
	}
}

// subscribe asks for all of each type, and says what is held already.
func (c *Client) subscribe(s stream) error {
	node := &corev3.Node{Id: c.Node, Cluster: c.Gateway, UserAgentName: "sluice-agent"}
	if c.Mirror != nil {
		node.Metadata = c.Mirror.Metadata()
	}
	ask := func(typeURL string, have map[string]string) error {
		defer func() { node = nil }()
		return s.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: node, TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: have,
		})
	}
	for _, typeURL := range []string{feature.DataType, feature.PolicyType} {
		if err := ask(typeURL, c.versions(typeURL)); err != nil {
			return err
		}
	}
	if c.Mirror == nil {
		return nil
	}
	for _, typeURL := range c.Mirror.Types() {
		if err := ask(typeURL, c.Mirror.Held(typeURL)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) versions(typeURL string) map[string]string {
	have := map[string]string{}
	for k, r := range c.held {
		if k.typeURL == typeURL {
			have[k.name] = r.Version
		}
	}
	return have
}

// answer takes a response to where it belongs.
func (c *Client) answer(server string, resp *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	if c.Mirror != nil && slices.Contains(c.Mirror.Types(), resp.GetTypeUrl()) {
		c.Mirror.Take(server, resp)
		return &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
	}
	return c.take(resp)
}

// take takes a response in and gives the answer: an acknowledgement, or what is refused and why.
func (c *Client) take(resp *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
	var errs []error
	var changed, removed []Resource
	for _, r := range resp.GetResources() {
		body, err := feature.Unwrap(r.GetResource().GetValue())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.GetName(), err))
			continue
		}
		changed = append(changed, Resource{Type: resp.GetTypeUrl(), Name: r.GetName(), Version: r.GetVersion(), Body: body})
	}
	for _, name := range resp.GetRemovedResources() {
		removed = append(removed, Resource{Type: resp.GetTypeUrl(), Name: name})
	}
	if err := errors.Join(append(errs, c.Holder.Change(c.Gateway, changed, removed))...); err != nil {
		c.Log.Error("some of what the control plane sent is not taken", "error", err)
		answer.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
		return answer // the server sends again what is good of it
	}
	c.keep(changed, removed)
	return answer
}

// keep notes what is held, and writes it to disk.
func (c *Client) keep(changed, removed []Resource) {
	for _, r := range changed {
		c.held[r.key()] = r
	}
	for _, r := range removed {
		delete(c.held, r.key())
	}
	if c.File == "" || len(changed)+len(removed) == 0 {
		return
	}
	var lines []line
	for _, r := range changed {
		lines = append(lines, line{Resource: r})
	}
	for _, r := range removed {
		lines = append(lines, line{Resource: r, Removed: true})
	}
	if err := c.disk.write(lines, c.held); err != nil {
		c.Log.Warn("the copy on disk could not be written: a restart without the control plane would not have it", "error", err)
	}
}
