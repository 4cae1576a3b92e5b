package tls

import (
	"errors"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// ConfigureCluster implements feature.ClusterConfigurer.
func (s *Spec) ConfigureCluster(c *model.Cluster, out *clusterv3.Cluster) error {
	names := s.names(c)
	if len(names) == 0 {
		return errors.New("nobody knows whose certificate to expect: add sni: NAME or sans: [NAME]")
	}
	common := &tlsv3.CommonTlsContext{TlsParams: feature.TLSParameters(s.MinVersion == "1.3"), AlpnProtocols: alpn(c.Protocol)}
	if s.Certificate != "" {
		common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{feature.SecretConfig(s.Certificate)}
	}
	s.trust(common, names)
	packed, err := feature.Pack(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: s.serverName(c)})
	if err != nil {
		return err
	}
	out.TransportSocket = &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed},
	}
	return nil
}

func (s *Spec) trust(common *tlsv3.CommonTlsContext, names []string) {
	context := &tlsv3.CertificateValidationContext{}
	for _, name := range names {
		context.MatchTypedSubjectAltNames = append(context.MatchTypedSubjectAltNames, sanMatcher(name))
	}
	if s.CA == "" {
		context.TrustedCa = &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: s.SystemRoots}}
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: context}
		return
	}
	common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
		DefaultValidationContext: context, ValidationContextSdsSecretConfig: feature.SecretConfig(s.CA),
	}}
}

func sanMatcher(name string) *tlsv3.SubjectAltNameMatcher {
	kinds := map[sanKind]tlsv3.SubjectAltNameMatcher_SanType{
		isDNS: tlsv3.SubjectAltNameMatcher_DNS, isIP: tlsv3.SubjectAltNameMatcher_IP_ADDRESS, isURI: tlsv3.SubjectAltNameMatcher_URI,
	}
	return &tlsv3.SubjectAltNameMatcher{
		SanType: kinds[kindOf(name)], Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
	}
}

func alpn(p model.Protocol) []string {
	if p == model.HTTP2 || p == model.GRPC {
		return []string{"h2"}
	}
	return []string{"http/1.1"}
}

var (
	_ feature.ClusterConfigurer = (*Spec)(nil)
	_ feature.SecretNamer       = (*Spec)(nil)
)
