package sanitize

import (
	"net/http"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
)

// invalidHost is the name under which the log and the errors see the refusal.
const invalidHost = "invalid_host"

// HTTPFilters implements feature.HTTPFilterer: Envoy joins several Host headers to one, with commas. Such a request
// would go to the widest host, and the service would pick a name of its own.
func (Feature) HTTPFilters() []feature.Filter {
	comma := &routev3.HeaderMatcher{Name: ":authority", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: ","}},
	}}
	return []feature.Filter{{Name: "sanitize", Always: true, Config: &rbacfilterv3.RBAC{Rules: &rbacv3.RBAC{
		Action: rbacv3.RBAC_DENY,
		Policies: map[string]*rbacv3.Policy{invalidHost: {
			Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Header{Header: comma}}},
			Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}},
		}},
	}}}}
}

// ConfigureListener implements feature.ListenerConfigurer.
func (s *Spec) ConfigureListener(_ *model.Listener, _ *listenerv3.Listener, hcm *hcmv3.HttpConnectionManager) error {
	mutations := &earlyv3.HeaderMutation{}
	for _, name := range s.removed() {
		mutations.Mutations = append(mutations.Mutations, remove(name))
	}
	packed, err := feature.Pack(mutations)
	if err != nil {
		return err
	}
	hcm.EarlyHeaderMutationExtensions = append(hcm.EarlyHeaderMutationExtensions, &corev3.TypedExtensionConfig{Name: "sanitize", TypedConfig: packed})
	return answerBadRequest(hcm)
}

func remove(name string) *mutationrulesv3.HeaderMutation {
	prefix, ok := strings.CutSuffix(name, "*")
	if !ok {
		return &mutationrulesv3.HeaderMutation{Action: &mutationrulesv3.HeaderMutation_Remove{Remove: name}}
	}
	return &mutationrulesv3.HeaderMutation{Action: &mutationrulesv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &mutationrulesv3.HeaderMutation_RemoveOnMatch{
			KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}},
		},
	}}
}

// answerBadRequest turns the filter's 403 into what HTTP asks for.
func answerBadRequest(hcm *hcmv3.HttpConnectionManager) error {
	packed, err := feature.Pack(&celv3.ExpressionFilter{
		Expression: "response.code_details == 'rbac_access_denied_matched_policy[" + invalidHost + "]'",
	})
	if err != nil {
		return err
	}
	if hcm.LocalReplyConfig == nil {
		hcm.LocalReplyConfig = &hcmv3.LocalReplyConfig{}
	}
	hcm.LocalReplyConfig.Mappers = append(hcm.LocalReplyConfig.Mappers, &hcmv3.ResponseMapper{
		StatusCode: wrapperspb.UInt32(http.StatusBadRequest),
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
			ExtensionFilter: &accesslogv3.ExtensionFilter{
				Name:       "envoy.access_loggers.extension_filters.cel",
				ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: packed},
			},
		}},
	})
	return nil
}

var (
	_ feature.Defaulter          = Feature{}
	_ feature.HTTPFilterer       = Feature{}
	_ feature.ListenerConfigurer = (*Spec)(nil)
)
