// Package loopguard refuses requests that go round in circles.
package loopguard

import (
	"fmt"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	cdnloopv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cdn_loop/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `loopGuard`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "loopGuard", Stage: feature.StageStrip, On: feature.Gateway,
		Summary: "How often one request may pass the same gateway."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{Passes: 10} }

// Default implements feature.Defaulter.
func (f Feature) Default() feature.Spec { return f.New() }

// filter is the filter's name in the chain.
const filter = "loopguard"

// HTTPFilters implements feature.HTTPFilterer. Each listener fills in its gateway's name.
func (Feature) HTTPFilters() []feature.Filter {
	return []feature.Filter{{Name: filter, Config: &cdnloopv3.CdnLoopConfig{CdnId: "sluice"}, Always: true}}
}

// Spec is the block.
type Spec struct {
	Passes uint32 `json:"passes" jsonschema:"minimum=1,maximum=100" jsonschema_description:"How often one request may pass; 10 when left out."`
}

// Validate implements feature.Spec.
func (s *Spec) Validate(policy.At, *policy.Problems) {}

// ConfigureListener implements feature.ListenerConfigurer.
func (s *Spec) ConfigureListener(l *model.Listener, _ *listenerv3.Listener, hcm *hcmv3.HttpConnectionManager) error {
	packed, err := feature.Pack(&cdnloopv3.CdnLoopConfig{CdnId: id(l.Gateway), MaxAllowedOccurrences: s.Passes - 1})
	if err != nil {
		return err
	}
	for _, f := range hcm.HttpFilters {
		if f.GetName() == filter {
			f.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed}
			return nil
		}
	}
	return fmt.Errorf("the filter %s is not in the chain", filter)
}

// id is the gateway's name in the CDN-Loop header, a token (RFC 8586).
func id(gateway string) string {
	return "sluice-" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, gateway)
}

var (
	_ feature.Defaulter          = Feature{}
	_ feature.HTTPFilterer       = Feature{}
	_ feature.ListenerConfigurer = (*Spec)(nil)
)
