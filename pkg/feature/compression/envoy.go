package compression

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	brotliv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/brotli/compressor/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/compressor/v3"
	zstdv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/zstd/compressor/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	filterchainv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/filter_chain/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// own is the filter that holds the compressors of a route that wants others than the shared ones.
const own = "compression"

// filter is the name of an algorithm's shared filter.
func filter(algorithm string) string { return own + "." + algorithm }

// HTTPFilters implements feature.HTTPFilterer. Nothing but the library and the removal of Accept-Encoding can be told
// a compressor by route, so that there are two ways: shared filters as the defaults say, and a chain of a route's own.
func (f Feature) HTTPFilters() []feature.Filter {
	out := []feature.Filter{{Name: own, Config: &filterchainv3.FilterChainConfig{}, PerRoute: &filterchainv3.FilterChainConfigPerRoute{}}}
	s := f.New().(*Spec)
	for i, a := range s.Algorithms {
		config, err := s.compressor(i)
		if err != nil {
			panic("compression: " + err.Error()) // a constant
		}
		config.ResponseDirectionConfig.RemoveAcceptEncodingHeader = false // which one is the last, the route knows
		out = append(out, feature.Filter{Name: filter(a), Config: config, PerRoute: &compressorv3.CompressorPerRoute{}})
	}
	return out
}

// ConfigureRoute implements feature.RouteConfigurer.
func (s *Spec) ConfigureRoute(_ *model.Route, out *routev3.Route) error {
	switch {
	case s.Off:
		return nil
	case s.isShared():
		return s.enableShared(out)
	}
	chain := &filterchainv3.FilterChain{}
	for i, a := range s.Algorithms {
		config, err := s.compressor(i)
		if err != nil {
			return err
		}
		packed, err := feature.Pack(config)
		if err != nil {
			return err
		}
		chain.Filters = append(chain.Filters, &corev3.TypedExtensionConfig{Name: a, TypedConfig: packed})
	}
	return feature.Enable(out, own, &filterchainv3.FilterChainConfigPerRoute{FilterChain: chain})
}

func (s *Spec) enableShared(out *routev3.Route) error {
	for i, a := range s.Algorithms {
		err := feature.Enable(out, filter(a), &compressorv3.CompressorPerRoute{Override: &compressorv3.CompressorPerRoute_Overrides{
			Overrides: &compressorv3.CompressorOverrides{ResponseDirectionConfig: &compressorv3.ResponseDirectionOverrides{
				RemoveAcceptEncodingHeader: wrapperspb.Bool(s.isLast(i)),
			}},
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// isLast tells whether an algorithm is the last one. Its filter takes Accept-Encoding away after all have read it, so
// that the service answers in plain, and what comes before the compressors can read the answer.
func (s *Spec) isLast(i int) bool { return i == len(s.Algorithms)-1 }

// compressor is the filter of one of the block's algorithms.
func (s *Spec) compressor(i int) (*compressorv3.Compressor, error) {
	library, err := feature.Pack(library(s.Algorithms[i]))
	if err != nil {
		return nil, err
	}
	return &compressorv3.Compressor{
		CompressorLibrary: &corev3.TypedExtensionConfig{Name: s.Algorithms[i], TypedConfig: library},
		// Between encodings that a client likes equally Envoy takes the one the client names first, or, among those
		// chosen first, last. Clients name them from old to new.
		ChooseFirst: !s.isLast(i),
		ResponseDirectionConfig: &compressorv3.Compressor_ResponseDirectionConfig{
			CommonConfig: &compressorv3.Compressor_CommonDirectionConfig{
				MinContentLength:   wrapperspb.UInt32(uint32(s.MinBytes)),
				ContentTypeMatcher: matchers(s.ContentTypes),
			},
			WeakenEtagOnCompress:        true,
			RemoveAcceptEncodingHeader:  s.isLast(i),
			UncompressibleResponseCodes: []uint32{206}, // its ranges count the plain bytes
		},
	}, nil
}

func matchers(types []string) []*matcherv3.StringMatcher {
	var out []*matcherv3.StringMatcher
	for _, t := range types {
		if family, ok := strings.CutSuffix(t, "*"); ok {
			out = append(out, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: family}, IgnoreCase: true})
			continue
		}
		out = append(out, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: t}, IgnoreCase: true})
	}
	return out
}

func library(algorithm string) proto.Message {
	switch algorithm {
	case "zstd":
		return &zstdv3.Zstd{}
	case "brotli":
		return &brotliv3.Brotli{}
	}
	return &gzipv3.Gzip{}
}

var (
	_ feature.HTTPFilterer    = Feature{}
	_ feature.RouteConfigurer = (*Spec)(nil)
	_ policy.Unmarshaler      = (*Spec)(nil)
)
