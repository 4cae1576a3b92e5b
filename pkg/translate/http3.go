package translate

import (
	"fmt"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	quicv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/quic/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// altSvcSeconds is how long clients remember that there is HTTP/3.
const altSvcSeconds = 24 * 60 * 60

// overUDP makes a listener that of a UDP port, which speaks QUIC.
func overUDP(out *listenerv3.Listener) {
	out.Address.GetSocketAddress().Protocol = corev3.SocketAddress_UDP
	out.UdpListenerConfig = &listenerv3.UdpListenerConfig{QuicOptions: &listenerv3.QuicProtocolOptions{
		QuicProtocolOptions: &corev3.QuicProtocolOptions{
			InitialStreamWindowSize:     wrapperspb.UInt32(streamWindowBytes),
			InitialConnectionWindowSize: wrapperspb.UInt32(connectionWindowBytes),
		},
	}}
}

// quicSocket is the transport socket of such a listener. It takes no early data, which whoever recorded it could send
// again; so nothing that changes anything is done twice.
func quicSocket(t *model.TLS) (*corev3.TransportSocket, error) {
	quic13 := *t
	quic13.From13 = true // QUIC has no older one
	packed, err := feature.Pack(&quicv3.QuicDownstreamTransport{
		DownstreamTlsContext: downstreamTLS(&quic13, "h3"),
		EnableEarlyData:      wrapperspb.Bool(false),
		EnableResumption:     wrapperspb.Bool(t.ClientCA == ""),
	})
	if err != nil {
		return nil, fmt.Errorf("quic: %w", err)
	}
	return &corev3.TransportSocket{Name: "envoy.transport_sockets.quic", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed}}, nil
}

// advertiseHTTP3 tells clients in every answer, also those that Envoy makes itself, where they reach HTTP/3.
func advertiseHTTP3(port uint32, hcm *hcmv3.HttpConnectionManager) error {
	packed, err := feature.Pack(&headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{
		ResponseMutations: []*mutationv3.HeaderMutation{{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: "alt-svc", Value: fmt.Sprintf(`h3=":%d"; ma=%d`, port, altSvcSeconds)},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}}},
	}})
	if err != nil {
		return err
	}
	first := &hcmv3.HttpFilter{Name: "alt-svc", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed}}
	hcm.HttpFilters = append([]*hcmv3.HttpFilter{first}, hcm.HttpFilters...) // the first sees every answer, as the last
	return nil
}
