package xds

import (
	"context"
	"crypto/x509"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// mostTypes bounds the resource types of one stream.
const mostTypes = 32

type (
	deltaStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	request     = discoveryv3.DeltaDiscoveryRequest
	response    = discoveryv3.DeltaDiscoveryResponse
)

// StreamAggregatedResources refuses the state-of-the-world protocol, which sends a refused response again without end.
func (s *Server) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	if _, err := stream.Recv(); err != nil { // says who is calling, whom not even this is said to otherwise
		return err
	}
	return status.Error(codes.Unimplemented, "only delta xDS is served: set api_type: DELTA_GRPC in the bootstrap's ads_config")
}

// DeltaAggregatedResources serves one Envoy until its stream or the server ends.
func (s *Server) DeltaAggregatedResources(stream deltaStream) error {
	ctx := stream.Context()
	requests := make(chan *request)
	go receive(ctx, stream, requests)
	first, err := s.firstRequest(ctx, requests)
	if first == nil {
		return err
	}
	n := s.attach(nodeInfoOf(ctx, first.GetNode()))
	defer s.detach(n)
	s.cfg.Log.Info("envoy connected", "node", n.info.id, "gateway", n.info.gateway, "address", n.info.address)
	defer s.cfg.Log.Info("envoy disconnected", "node", n.info.id, "gateway", n.info.gateway)
	n.handle(first, time.Now())
	return s.drive(ctx, n, stream, requests)
}

// receive passes requests on until the stream ends.
func receive(ctx context.Context, stream deltaStream, requests chan<- *request) {
	defer close(requests)
	for {
		req, err := stream.Recv()
		if err != nil {
			return
		}
		select {
		case requests <- req:
		case <-ctx.Done():
			return
		}
	}
}

// firstRequest is the one that says who is calling; nil when the stream or the server ends before.
func (s *Server) firstRequest(ctx context.Context, requests <-chan *request) (*request, error) {
	select {
	case req, ok := <-requests:
		switch {
		case !ok:
			return nil, nil
		case req.GetNode().GetId() == "":
			return nil, status.Error(codes.InvalidArgument, "the first request names no node: set node.id in the bootstrap")
		case req.GetTypeUrl() == "":
			return nil, status.Error(codes.InvalidArgument, "a request names no type_url")
		}
		return req, nil
	case <-ctx.Done():
		return nil, nil
	case <-s.closing:
		return nil, status.Error(codes.Unavailable, "the control plane is stopping")
	}
}

// drive runs the state machine of a node: it does what is due, then waits for a request, a target or the time.
func (s *Server) drive(ctx context.Context, n *node, stream deltaStream, requests <-chan *request) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if err := s.send(n, stream, timer); err != nil {
			return err
		}
		select {
		case req, ok := <-requests:
			if !ok {
				return nil
			}
			if err := n.take(req); err != nil {
				return err
			}
		case <-n.wake:
		case <-n.leave:
			return nil
		case <-timer.C:
		case <-ctx.Done():
			return nil
		case <-s.closing:
			return status.Error(codes.Unavailable, "the control plane is stopping")
		}
	}
}

func (s *Server) send(n *node, stream deltaStream, timer *time.Timer) error {
	out, again, settled := n.step(time.Now())
	for _, resp := range out {
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
	if settled {
		s.announce(n.gateway)
	}
	if !again.IsZero() {
		timer.Reset(time.Until(again))
	}
	return nil
}

func (n *node) take(req *request) error {
	if req.GetTypeUrl() == "" {
		return status.Error(codes.InvalidArgument, "a request names no type_url")
	}
	if report := n.cfg.Reports[req.GetTypeUrl()]; report != nil {
		report(req.GetInitialResourceVersions())
		return nil
	}
	if !n.hasRoom(req.GetTypeUrl()) {
		return status.Errorf(codes.ResourceExhausted, "more than %d resource types on one stream", mostTypes)
	}
	n.handle(req, time.Now())
	return nil
}

func (n *node) hasRoom(typeURL string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.records[typeURL] != nil || len(n.records) < mostTypes
}

// nodeInfo is what an Envoy says of itself on its first request.
type nodeInfo struct {
	id, gateway, version, bootstrap, address string
	labels                                   map[string]string
	envoy, agent                             bool // what it says it is
	certificate                              *x509.Certificate
	outage                                   *Outage
}

func (i nodeInfo) key() nodeKey { return nodeKey{i.gateway, i.id} }

// agentName is what agents call themselves.
const agentName = "sluice-agent"

// The node metadata that the bootstrap writes: its version, and a struct of texts.
const (
	metadataBootstrap = "sluice.bootstrap"
	metadataLabels    = "sluice.labels"
)

func nodeInfoOf(ctx context.Context, node *corev3.Node) nodeInfo {
	fields := node.GetMetadata().GetFields()
	info := nodeInfo{
		id: node.GetId(), gateway: node.GetCluster(), version: envoyVersion(node),
		certificate: certificateIn(ctx), bootstrap: fields[metadataBootstrap].GetStringValue(),
		envoy: node.GetUserAgentName() == "envoy", agent: node.GetUserAgentName() == agentName, labels: map[string]string{},
		outage: outageOf(node.GetMetadata()),
	}
	if p, ok := peer.FromContext(ctx); ok {
		info.address = p.Addr.String()
	}
	for key, value := range fields[metadataLabels].GetStructValue().GetFields() {
		info.labels[key] = value.GetStringValue()
	}
	return info
}
