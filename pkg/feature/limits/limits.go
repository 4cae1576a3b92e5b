// Package limits bounds what one client connection may cost the gateway: headers, time, and streams.
package limits

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `limits`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "limits", Stage: feature.StageRoute, On: feature.Gateway,
		Summary: "What a client connection may cost: headers, time, streams."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec {
	return &Spec{
		HeaderBytes: 60 << 10, HeaderCount: 100, HeadersTimeout: seconds(10), RequestTimeout: seconds(300),
		Idle: seconds(3600), StreamIdle: seconds(300), StreamsPerConnection: 100, HTTP3Connections: 10_000,
	}
}

func seconds(n int) policy.Duration { return policy.Duration(time.Duration(n) * time.Second) }

// Default implements feature.Defaulter: no Gateway is without limits.
func (f Feature) Default() feature.Spec { return f.New() }

// Spec is the block.
type Spec struct {
	HeaderBytes           policy.Size     `json:"headerBytes" jsonschema_description:"All headers of a request together, in whole KiB; 60KiB when left out. More is answered 431."`
	HeaderCount           uint32          `json:"headerCount" jsonschema:"minimum=1,maximum=10000" jsonschema_description:"Number of headers of a request; 100 when left out. More is answered 431."`
	HeadersTimeout        policy.Duration `json:"headersTimeout" jsonschema_description:"How long the headers may take to arrive; 10s when left out, 0s for no limit."`
	RequestTimeout        policy.Duration `json:"requestTimeout" jsonschema_description:"How long the whole request may take to arrive; 5m when left out, 0s for no limit."`
	Idle                  policy.Duration `json:"idle" jsonschema_description:"How long a connection may be without a request; 1h when left out."`
	StreamIdle            policy.Duration `json:"streamIdle" jsonschema_description:"How long a request may be without any traffic; 5m when left out, 0s for no limit."`
	StreamsPerConnection  uint32          `json:"streamsPerConnection" jsonschema:"minimum=1,maximum=100000" jsonschema_description:"Requests at once on one HTTP/2 or HTTP/3 connection; 100 when left out."`
	HTTP3Connections      uint32          `json:"http3Connections" jsonschema:"minimum=1,maximum=1000000" jsonschema_description:"HTTP/3 connections at once, of one listener at one Envoy; 10000 when left out."`
	RequestsPerConnection uint32          `json:"requestsPerConnection,omitempty" jsonschema_description:"Requests after which a connection is closed; no limit when left out."`
	ConnectionAge         policy.Duration `json:"connectionAge,omitempty" jsonschema_description:"Age after which a connection is drained and closed; no limit when left out."`
}

// maxHeaderBytes is what Envoy takes.
const maxHeaderBytes = 8 << 20

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if s.HeaderBytes < 1<<10 || s.HeaderBytes > maxHeaderBytes || s.HeaderBytes%(1<<10) != 0 {
		p.Suggestf(at.Field("headerBytes"), policy.CodeValue, "write for example 60KiB", "headerBytes is %s; whole KiB from 1KiB to 8MiB are wanted", s.HeaderBytes)
	}
	if s.Idle == 0 {
		p.Suggestf(at.Field("idle"), policy.CodeValue, "write a long time instead, as 24h", "connections that are never closed pile up: their clients may be gone")
	}
}

// ConfigureListener implements feature.ListenerConfigurer.
func (s *Spec) ConfigureListener(l *model.Listener, out *listenerv3.Listener, hcm *hcmv3.HttpConnectionManager) error {
	hcm.MaxRequestHeadersKb = wrapperspb.UInt32(uint32(s.HeaderBytes >> 10))
	hcm.RequestHeadersTimeout = durationpb.New(s.HeadersTimeout.D())
	hcm.RequestTimeout = durationpb.New(s.RequestTimeout.D())
	hcm.StreamIdleTimeout = durationpb.New(s.StreamIdle.D())
	if hcm.CommonHttpProtocolOptions == nil {
		hcm.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{}
	}
	s.configureConnections(hcm.CommonHttpProtocolOptions)
	if hcm.Http2ProtocolOptions == nil {
		hcm.Http2ProtocolOptions = &corev3.Http2ProtocolOptions{}
	}
	hcm.Http2ProtocolOptions.MaxConcurrentStreams = wrapperspb.UInt32(s.StreamsPerConnection)
	return s.configureHTTP3(l, out)
}

func (s *Spec) configureConnections(out *corev3.HttpProtocolOptions) {
	out.MaxHeadersCount = wrapperspb.UInt32(s.HeaderCount)
	out.IdleTimeout = durationpb.New(s.Idle.D())
	if s.RequestsPerConnection > 0 {
		out.MaxRequestsPerConnection = wrapperspb.UInt32(s.RequestsPerConnection)
	}
	if s.ConnectionAge > 0 {
		out.MaxConnectionDuration = durationpb.New(s.ConnectionAge.D())
	}
}

var (
	_ feature.Defaulter          = Feature{}
	_ feature.ListenerConfigurer = (*Spec)(nil)
)
