package limits

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	connectionlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// configureHTTP3 bounds connections over UDP: Envoy's own limit, which stands in its bootstrap, counts those that are
// accepted on TCP only.
func (s *Spec) configureHTTP3(l *model.Listener, out *listenerv3.Listener) error {
	if !l.HTTP3 {
		return nil
	}
	out.UdpListenerConfig.QuicOptions.QuicProtocolOptions.MaxConcurrentStreams = wrapperspb.UInt32(s.StreamsPerConnection)
	packed, err := feature.Pack(&connectionlimitv3.ConnectionLimit{
		StatPrefix: l.Name, MaxConnections: wrapperspb.UInt64(uint64(s.HTTP3Connections)),
	})
	if err != nil {
		return err
	}
	chain := out.FilterChains[0]
	chain.Filters = append(chain.Filters, &listenerv3.Filter{
		Name: "envoy.filters.network.connection_limit", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed},
	})
	return nil
}
