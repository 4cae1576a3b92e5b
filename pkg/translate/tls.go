package translate

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// httpsPort is the one that an address need not name.
const httpsPort = 443

// transportSocket makes a listener speak TLS; nil for one that does not.
func transportSocket(l *model.Listener) (*corev3.TransportSocket, error) {
	switch {
	case l.TLS == nil:
		return nil, nil
	case l.HTTP3:
		return quicSocket(l.TLS)
	}
	packed, err := feature.Pack(downstreamTLS(l.TLS, "h2", "http/1.1"))
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed}}, nil
}

// downstreamTLS is how TLS is spoken with clients. Of several certificates Envoy takes the one that the client's server
// name fits, the first where none does.
func downstreamTLS(t *model.TLS, protocols ...string) *tlsv3.DownstreamTlsContext {
	common := &tlsv3.CommonTlsContext{TlsParams: feature.TLSParameters(t.From13), AlpnProtocols: protocols}
	for _, name := range t.Certificates {
		common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, feature.SecretConfig(name))
	}
	if t.ClientCA != "" {
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{ValidationContextSdsSecretConfig: feature.SecretConfig(t.ClientCA)}
	}
	context := &tlsv3.DownstreamTlsContext{CommonTlsContext: common, RequireClientCertificate: wrapperspb.Bool(t.ClientRequired)}
	if t.ClientCA != "" {
		noResumption(context)
	}
	return context
}

// noResumption makes every connection show the client's certificate anew: a session that is resumed would count as
// verified although the certificate has expired or was revoked since.
func noResumption(out *tlsv3.DownstreamTlsContext) {
	out.SessionTicketKeysType = &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true}
	out.DisableStatefulSessionResumption = true
}

// tellOfClient lets services know whose certificate it was, where that is asked for. What a client says of itself in
// this header is dropped everywhere.
func tellOfClient(t *model.TLS, hcm *hcmv3.HttpConnectionManager) {
	if t == nil || !t.ForwardClient {
		return
	}
	hcm.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
	hcm.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Subject: wrapperspb.Bool(true), Uri: true, Dns: true}
}

// redirectAll is the routing table of a listener that only redirects. 308 keeps the method.
func redirectAll(port uint32) *hcmv3.HttpConnectionManager_RouteConfig {
	to := &routev3.RedirectAction{
		SchemeRewriteSpecifier: &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true},
		ResponseCode:           routev3.RedirectAction_PERMANENT_REDIRECT,
	}
	if port != httpsPort {
		to.PortRedirect = port
	}
	name := model.OwnPrefix + "redirect-to-tls"
	return &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: []*routev3.VirtualHost{{Name: "*", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Name:   name,
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Redirect{Redirect: to},
		}}}},
	}}
}
