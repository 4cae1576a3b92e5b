package login

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	oauth2v3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/oauth2/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const (
	filter       = "oauth2"
	tokenTimeout = 3 * time.Second
	// defaultLifetime is how long a login holds whose provider does not say.
	defaultLifetime = time.Hour
)

// HTTPFilters implements feature.HTTPFilterer.
func (Feature) HTTPFilters() []feature.Filter {
	return []feature.Filter{{Name: filter, Config: &oauth2v3.OAuth2{}, PerRoute: &oauth2v3.OAuth2PerRoute{}}}
}

// Expand implements feature.Expander: the paths that Envoy answers itself, of browsers that come back or sign out.
func (s *Spec) Expand(_ *model.Route, self model.Attachment) []*model.Route {
	if s.Off {
		return nil
	}
	self.Spec = &answers{s}
	self.Digest += " answers"
	var out []*model.Route
	for _, path := range []string{s.Callback, s.SignOut} {
		out = append(out, &model.Route{
			Match:       model.Match{Path: literal(path), Methods: []string{http.MethodGet}},
			Attachments: []model.Attachment{self},
		})
	}
	return out
}

func literal(path string) model.Path {
	var out model.Path
	for _, s := range strings.Split(path[1:], "/") {
		out.Segments = append(out.Segments, model.Segment{Literal: s})
	}
	return out
}

// answers is the block on those paths.
type answers struct{ spec *Spec }

// Validate implements feature.Spec.
func (*answers) Validate(policy.At, *policy.Problems) {}

// ConfigureRoute implements feature.RouteConfigurer. The filter answers before the route's own action, but to requests
// that it lets pass: they find nothing here.
func (a *answers) ConfigureRoute(r *model.Route, out *routev3.Route) error {
	out.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: http.StatusNotFound}}
	return a.spec.ConfigureRoute(r, out)
}

// ConfigureRoute implements feature.RouteConfigurer.
func (s *Spec) ConfigureRoute(_ *model.Route, out *routev3.Route) error {
	if s.Off {
		return nil
	}
	return feature.Enable(out, filter, &oauth2v3.OAuth2PerRoute{Config: s.config()})
}

func (s *Spec) config() *oauth2v3.OAuth2Config {
	client, cookies := s.names()
	c := &oauth2v3.OAuth2Config{
		TokenEndpoint: &corev3.HttpUri{
			Uri: s.TokenEndpoint, HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: s.Cluster}, Timeout: durationpb.New(tokenTimeout),
		},
		AuthorizationEndpoint: s.AuthorizationEndpoint, EndSessionEndpoint: s.EndSessionEndpoint,
		RedirectUri:            cmp.Or(s.URL, "%REQ(x-forwarded-proto)%://%REQ(:authority)%") + s.Callback,
		OriginalRequestUri:     s.URL,
		RedirectPathMatcher:    exactly(s.Callback),
		SignoutPath:            exactly(s.SignOut),
		AuthScopes:             s.Scopes,
		AllowedRedirectDomains: s.Hosts,
		DefaultExpiresIn:       durationpb.New(defaultLifetime),
		PassThroughMatcher:     []*routev3.HeaderMatcher{hasToken()},
		DenyRedirectMatcher:    []*routev3.HeaderMatcher{noBrowser()},
		TokenCookieChunking:    &oauth2v3.TokenCookieChunking{},
		CookieConfigs:          cookieConfigs(),
		Credentials: &oauth2v3.OAuth2Credentials{
			ClientId: s.Client, TokenSecret: feature.SecretConfig(client),
			TokenFormation: &oauth2v3.OAuth2Credentials_HmacSecret{HmacSecret: feature.SecretConfig(cookies)},
		},
	}
	if s.Token == tokenID {
		c.ForwardIdToken = &oauth2v3.OAuth2TokenForwarding{Header: "Authorization"}
	} else {
		c.ForwardBearerToken = true
	}
	return c
}

func exactly(path string) *matcherv3.PathMatcher {
	return &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_Exact{Exact: path},
	}}}
}

// hasToken takes requests that bring a token of their own, which authenticate looks at like any other.
func hasToken() *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: "authorization", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "bearer "}, IgnoreCase: true,
	}}}
}

// noBrowser takes requests that a redirect to a page would not help: they are answered 401.
func noBrowser() *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: "accept", InvertMatch: true, TreatMissingHeaderAsEmpty: true,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Contains{Contains: "text/html"},
		}}}
}

// cookieConfigs let no page of another site send the cookies with its own requests; a browser that comes back from the
// provider still has them.
func cookieConfigs() *oauth2v3.CookieConfigs {
	lax := &oauth2v3.CookieConfig{SameSite: oauth2v3.CookieConfig_LAX}
	return &oauth2v3.CookieConfigs{
		BearerTokenCookieConfig: lax, OauthHmacCookieConfig: lax, OauthExpiresCookieConfig: lax, IdTokenCookieConfig: lax,
		RefreshTokenCookieConfig: lax, OauthNonceCookieConfig: lax, CodeVerifierCookieConfig: lax,
	}
}

var _ feature.RouteConfigurer = (*answers)(nil)
