package feature

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// secretTimeout is how long a listener or cluster waits for its secrets before it comes without them, and refuses every
// handshake until they are there.
const secretTimeout = 5 * time.Second

// SecretPlace is a place that a document names, as the model has it.
func SecretPlace(s policy.Secret) model.SecretPlace {
	return model.SecretPlace{File: s.File, Env: s.Env, Secret: string(s.Secret)}
}

// SecretConfig makes Envoy ask for a Certificate by its name, so that a new one changes neither listener nor cluster.
func SecretConfig(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(secretTimeout),
	}}
}

// TLSParameters are the versions and ciphers that are spoken: TLS 1.3, and below it only 1.2 with forward secrecy and
// authenticated encryption.
func TLSParameters(from13 bool) *tlsv3.TlsParameters {
	out := &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		CipherSuites: []string{
			"[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]", "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
			"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
		},
	}
	if from13 {
		out.TlsMinimumProtocolVersion = tlsv3.TlsParameters_TLSv1_3
		out.CipherSuites = nil
	}
	return out
}
