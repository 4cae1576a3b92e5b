package sanitize

import (
	"fmt"
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

// The names under which the log and the errors see the refusals.
const (
	invalidHost    = "invalid_host"
	pathParameters = "path_parameters"
)

// filter is the filter's name in the chain.
const filter = "sanitize"

// HTTPFilters implements feature.HTTPFilterer.
func (Feature) HTTPFilters() []feature.Filter {
	return []feature.Filter{{Name: filter, Always: true, Config: refuse(map[string]*rbacv3.Permission{invalidHost: severalHosts()})}}
}

func refuse(which map[string]*rbacv3.Permission) *rbacfilterv3.RBAC {
	rules := &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{}}
	for name, permission := range which {
		rules.Policies[name] = &rbacv3.Policy{
			Permissions: []*rbacv3.Permission{permission},
			Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}},
		}
	}
	return &rbacfilterv3.RBAC{Rules: rules}
}

// severalHosts: Envoy joins several Host headers to one, with commas. Such a request would go to the widest host, and
// the service would pick a name of its own.
func severalHosts() *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: &routev3.HeaderMatcher{
		Name:                 ":authority",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: contains(",")},
	}}}
}

// semicolon takes paths, not queries, with one, encoded or not.
func semicolon() *rbacv3.Permission {
	set := &rbacv3.Permission_Set{}
	for _, form := range []string{";", "%3b"} {
		set.Rules = append(set.Rules, &rbacv3.Permission{Rule: &rbacv3.Permission_UrlPath{
			UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: contains(form)}},
		}})
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_OrRules{OrRules: set}}
}

func contains(text string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: text}, IgnoreCase: true}
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
	if err := s.refusePaths(hcm); err != nil {
		return err
	}
	return answerBadRequest(hcm)
}

// refusePaths gives the filter its further rule.
func (s *Spec) refusePaths(hcm *hcmv3.HttpConnectionManager) error {
	if s.PathParameters != "refuse" {
		return nil
	}
	packed, err := feature.Pack(refuse(map[string]*rbacv3.Permission{invalidHost: severalHosts(), pathParameters: semicolon()}))
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
		Expression: fmt.Sprintf("response.code_details in ['rbac_access_denied_matched_policy[%s]', 'rbac_access_denied_matched_policy[%s]']",
			invalidHost, pathParameters),
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
