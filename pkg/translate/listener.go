package translate

import (
	"cmp"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// What every listener has. Limits and timeouts against slow and hostile clients are a feature of their own, which is on
// by default.
const (
	anyAddress            = "0.0.0.0"
	routesTimeout         = 5 * time.Second
	bufferBytes           = 1 << 20
	streamWindowBytes     = 64 << 10
	connectionWindowBytes = 1 << 20
)

func (t *Translator) listeners(g *model.Gateway, out feature.Resources) error {
	for _, l := range g.Listeners {
		listener, err := t.listener(l)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		if err := out.Add(resource.ListenerType, l.Name, listener); err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
	}
	return nil
}

func (t *Translator) listener(l *model.Listener) (*listenerv3.Listener, error) {
	hcm, err := t.connectionManager(l)
	if err != nil {
		return nil, err
	}
	tellOfClient(l.TLS, hcm)
	if l.RedirectPort != 0 {
		hcm.RouteSpecifier = redirectAll(l.RedirectPort)
	}
	out := &listenerv3.Listener{
		Name:                          l.Name,
		Address:                       address(cmp.Or(l.Address, anyAddress), l.Port),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferBytes),
	}
	if l.HTTP3 {
		hcm.CodecType = hcmv3.HttpConnectionManager_HTTP3
		overUDP(out)
	}
	if l.AltSvcPort != 0 {
		if err := advertiseHTTP3(l.AltSvcPort, hcm); err != nil {
			return nil, err
		}
	}
	chain := &listenerv3.FilterChain{}
	out.FilterChains = []*listenerv3.FilterChain{chain}
	for _, a := range l.Attachments {
		if f, ok := a.Spec.(feature.ListenerConfigurer); ok {
			if err := f.ConfigureListener(l, out, hcm); err != nil {
				return nil, &feature.HookError{Feature: a.Feature, From: a.From, Err: err}
			}
		}
	}
	packed, err := feature.Pack(hcm)
	if err != nil {
		return nil, err
	}
	chain.Filters = append(chain.Filters, &listenerv3.Filter{
		Name:       "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed},
	})
	chain.TransportSocket, err = transportSocket(l)
	return out, err
}

func (t *Translator) connectionManager(l *model.Listener) (*hcmv3.HttpConnectionManager, error) {
	chain, err := t.filterChain()
	if err != nil {
		return nil, err
	}
	return &hcmv3.HttpConnectionManager{
		StatPrefix: l.Name,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			RouteConfigName: model.RouteTableName(l.Gateway), ConfigSource: ads(routesTimeout),
		}},
		HttpFilters:      chain,
		LocalReplyConfig: t.replies(),
		// A path is matched, checked and forwarded in one form.
		NormalizePath:                wrapperspb.Bool(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT,
		StripPortMode:                &hcmv3.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true},
		StripTrailingHostDot:         true,
		// Envoy is the edge: the peer's address is the client's, what it says of others is not believed.
		UseRemoteAddress: wrapperspb.Bool(true),
		// What runs behind is nobody's business.
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
		},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			InitialStreamWindowSize:     wrapperspb.UInt32(streamWindowBytes),
			InitialConnectionWindowSize: wrapperspb.UInt32(connectionWindowBytes),
		},
	}, nil
}

// filterChain is every feature's filters in the published order, disabled until a route switches them on, so that a
// change of policy never changes a listener.
func (t *Translator) filterChain() ([]*hcmv3.HttpFilter, error) {
	var out []*hcmv3.HttpFilter
	for _, f := range t.features.Filters() {
		packed, err := feature.Pack(f.Config)
		if err != nil {
			return nil, fmt.Errorf("filter %s: %w", f.Name, err)
		}
		one := &hcmv3.HttpFilter{Name: f.Name, Disabled: !f.Always, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed}}
		if f.Discovered {
			one.ConfigType = discovered(packed)
		}
		out = append(out, one)
	}
	router, err := feature.Pack(&routerv3.Router{})
	if err != nil {
		return nil, err
	}
	return append(out, &hcmv3.HttpFilter{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router}}), nil
}

// replies are the forms of the filters' own answers.
func (t *Translator) replies() *hcmv3.LocalReplyConfig {
	out := &hcmv3.LocalReplyConfig{}
	for _, f := range t.features.Filters() {
		out.Mappers = append(out.Mappers, f.Replies...)
	}
	if len(out.Mappers) == 0 {
		return nil
	}
	return out
}
