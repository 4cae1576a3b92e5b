// Package clientaddress decides which address is the client's.
package clientaddress

import (
	"slices"

	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `clientAddress`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "clientAddress", Stage: feature.StageStrip, On: feature.Gateway,
		Summary: "Which address is the client's: the peer's, or what load balancers in front say."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Default implements feature.Defaulter: the peer is the client, what it says of others is removed.
func (f Feature) Default() feature.Spec { return f.New() }

// Spec is the block.
type Spec struct {
	TrustedHops   uint32 `json:"trustedHops,omitempty" jsonschema:"maximum=20" jsonschema_description:"How many proxies in front add to X-Forwarded-For; 0 when left out: the peer is the client."`
	ProxyProtocol bool   `json:"proxyProtocol,omitempty" jsonschema_description:"Every connection begins with a PROXY protocol header (v1 or v2) that names the client; others are closed."`
}

// Validate implements feature.Spec.
func (s *Spec) Validate(policy.At, *policy.Problems) {}

// CheckListeners implements feature.ListenerChecker: the header is one of TCP.
func (s *Spec) CheckListeners(listeners []*model.Listener, at policy.At, p *policy.Problems) {
	if s.ProxyProtocol && slices.ContainsFunc(listeners, func(l *model.Listener) bool { return l.HTTP3 }) {
		p.Suggestf(at.Field("proxyProtocol"), policy.CodeConflict, "leave http3 out of the listener's tls, or proxyProtocol out",
			"a listener of the gateway speaks HTTP/3, over UDP: no PROXY protocol header comes with it")
	}
}

// ConfigureListener implements feature.ListenerConfigurer.
func (s *Spec) ConfigureListener(_ *model.Listener, out *listenerv3.Listener, hcm *hcmv3.HttpConnectionManager) error {
	hcm.XffNumTrustedHops = s.TrustedHops
	if s.TrustedHops == 0 {
		if err := removeForwarded(hcm); err != nil {
			return err
		}
	}
	if !s.ProxyProtocol {
		return nil
	}
	packed, err := feature.Pack(&proxyprotocolv3.ProxyProtocol{})
	if err != nil {
		return err
	}
	out.ListenerFilters = append([]*listenerv3.ListenerFilter{{
		Name: "envoy.filters.listener.proxy_protocol", ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: packed},
	}}, out.ListenerFilters...) // before anything looks for TLS
	return nil
}

// removeForwarded forgets what a client says of where it comes from, before Envoy writes its own: a service that reads
// the first address of X-Forwarded-For is not fooled.
func removeForwarded(hcm *hcmv3.HttpConnectionManager) error {
	remove := &earlyv3.HeaderMutation{}
	for _, name := range []string{"x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix", "forwarded", "x-real-ip", "true-client-ip", "x-client-ip"} {
		remove.Mutations = append(remove.Mutations, &mutationrulesv3.HeaderMutation{Action: &mutationrulesv3.HeaderMutation_Remove{Remove: name}})
	}
	packed, err := feature.Pack(remove)
	if err != nil {
		return err
	}
	hcm.EarlyHeaderMutationExtensions = append(hcm.EarlyHeaderMutationExtensions, &corev3.TypedExtensionConfig{Name: "clientaddress", TypedConfig: packed})
	return nil
}

var (
	_ feature.Defaulter          = Feature{}
	_ feature.ListenerChecker    = (*Spec)(nil)
	_ feature.ListenerConfigurer = (*Spec)(nil)
)
