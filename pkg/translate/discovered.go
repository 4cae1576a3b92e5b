package translate

import (
	"fmt"
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// discovered lets a filter's config come over ECDS. Until it has, the default holds, and nobody waits for it.
func discovered(fallback *anypb.Any) *hcmv3.HttpFilter_ConfigDiscovery {
	return &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
		ConfigSource:                     ads(routesTimeout),
		DefaultConfig:                    fallback,
		ApplyDefaultConfigWithoutWarming: true,
		TypeUrls:                         []string{fallback.GetTypeUrl()},
	}}
}

// NativeBlocks are the blocks that Envoy decides by: by feature, then by their digest.
type NativeBlocks map[string]map[string]any

// Native are the blocks that Envoy decides by on a gateway's routes.
func Native(g *model.Gateway) NativeBlocks {
	return feature.NativeSpecs(func(yield func(*model.Route) bool) {
		for _, v := range g.Hosts {
			for _, r := range v.Routes {
				if !yield(r) {
					return
				}
			}
		}
	})
}

// And is all of both.
func (n NativeBlocks) And(more NativeBlocks) NativeBlocks {
	out := NativeBlocks{}
	maps.Copy(out, n)
	for name, specs := range more {
		all := maps.Clone(specs)
		maps.Copy(all, n[name])
		out[name] = all
	}
	return out
}

// Without is what is not in the other.
func (n NativeBlocks) Without(other NativeBlocks) NativeBlocks {
	out := NativeBlocks{}
	for name, specs := range n {
		left := maps.Clone(specs)
		maps.DeleteFunc(left, func(digest string, _ any) bool { _, there := other[name][digest]; return there })
		if len(left) > 0 {
			out[name] = left
		}
	}
	return out
}

// Discovered adds the configs of filters that come over ECDS: there is always one, be it empty. data gives what the
// control plane has fetched, by name, and nil for what is not there.
func (t *Translator) Discovered(blocks NativeBlocks, data func(name string) []byte, out feature.Resources) error {
	for _, f := range t.features.All() {
		d, ok := f.(feature.FilterDiscoverer)
		if !ok {
			continue
		}
		specs := blocks[f.Info().Name]
		var sorted []any
		for _, digest := range slices.Sorted(maps.Keys(specs)) {
			sorted = append(sorted, specs[digest])
		}
		configs, err := d.DiscoverFilters(sorted, data)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Info().Name, err)
		}
		for name, config := range configs {
			packed, err := feature.Pack(config)
			if err != nil {
				return fmt.Errorf("filter %s: %w", name, err)
			}
			if err := out.Add(resource.ExtensionConfigType, name, &corev3.TypedExtensionConfig{Name: name, TypedConfig: packed}); err != nil {
				return err
			}
		}
	}
	return nil
}

// inline gives the data that stands in policies.
func inline(g *model.Gateway) func(name string) []byte {
	found := map[string][]byte{}
	for _, v := range g.Hosts {
		for _, r := range v.Routes {
			for _, d := range r.Native {
				if d.Inline != "" {
					found[d.Name] = []byte(d.Inline)
				}
			}
		}
	}
	return func(name string) []byte { return found[name] }
}

// discovered are the filter configs as far as the policies alone say them.
func (t *Translator) discovered(g *model.Gateway, out feature.Resources) error {
	return t.Discovered(Native(g), inline(g), out)
}
