package retry

import (
	"cmp"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const (
	// otherHostAttempts is how often another instance is looked for before the same one is taken again.
	otherHostAttempts = 10
	defaultBudget     = policy.Percent(20)
	// minBudget is how many retries may be under way however few requests are: an instance that is killed fails as
	// many requests at once as it would have had.
	minBudget = 10
)

// repeatable are the methods that may reach an instance twice, sorted.
func (s *Spec) repeatable() []string {
	all := append([]string{"DELETE", "GET", "HEAD", "OPTIONS", "PUT"}, s.Methods...)
	slices.Sort(all)
	return slices.Compact(all)
}

// split is the route's methods that may reach an instance twice, and whether it takes others too.
func (s *Spec) split(m model.Match) (repeatable []string, others bool) {
	if len(m.Methods) == 0 {
		return s.repeatable(), true
	}
	for _, method := range m.Methods {
		if slices.Contains(s.repeatable(), method) {
			repeatable = append(repeatable, method)
			continue
		}
		others = true
	}
	return repeatable, others
}

// unseen are the conditions after which any method may be tried again, those among wider ones included.
func (s *Spec) unseen() []Condition {
	if slices.ContainsFunc(s.On, Condition.whole) {
		return []Condition{ConnectFailure, RefusedStream}
	}
	return slices.DeleteFunc(slices.Clone(s.On), func(c Condition) bool { return !c.unseen() })
}

// safe tells whether all of the conditions hold for any method.
func (s *Spec) safe() bool {
	return len(s.unseen()) == len(s.On) && !slices.ContainsFunc(s.On, Condition.whole)
}

// ConfigureRoute implements feature.RouteConfigurer. A route whose methods may not all reach an instance twice gets
// what is safe for all of them; the rest is in VaryRoute.
func (s *Spec) ConfigureRoute(r *model.Route, out *routev3.Route) error {
	action := out.GetRoute()
	if action == nil {
		return nil
	}
	on := s.On
	if _, others := s.split(r.Match); others {
		on = s.unseen()
	}
	policy, err := s.policy(on)
	if policy == nil {
		policy = &routev3.RetryPolicy{} // none, whatever the host says
	}
	action.RetryPolicy = policy
	return err
}

// ConfigureHost implements feature.HostConfigurer.
func (s *Spec) ConfigureHost(out *routev3.VirtualHost) (err error) {
	out.RetryPolicy, err = s.policy(s.On)
	return err
}

// VaryRoute implements feature.RouteVarier: of a route that takes both kinds of methods, those that may reach an
// instance twice get a route of their own.
func (s *Spec) VaryRoute(r *model.Route, out *routev3.Route) ([]*routev3.Route, error) {
	repeatable, others := s.split(r.Match)
	if out.GetRoute() == nil || len(repeatable) == 0 || !others || s.safe() || s.Retries == 0 {
		return nil, nil
	}
	unseen, err := s.policy(s.unseen())
	if err != nil || !proto.Equal(unseen, out.GetRoute().GetRetryPolicy()) {
		return nil, err // raw Envoy fields have replaced the policy
	}
	full, err := s.policy(s.On)
	if err != nil {
		return nil, err
	}
	more := proto.Clone(out).(*routev3.Route)
	more.GetRoute().RetryPolicy = full
	more.Match.Headers = append(more.Match.Headers, methods(repeatable))
	return []*routev3.Route{more}, nil
}

func methods(names []string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(names, "|")}},
	}}}
}

// policy is the retry policy for some of the conditions; nil when nothing is to be retried.
func (s *Spec) policy(on []Condition) (*routev3.RetryPolicy, error) {
	if len(on) == 0 || s.Retries == 0 {
		return nil, nil
	}
	out := &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(s.Retries)}
	out.RetryOn, out.RetriableStatusCodes = conditions(on)
	if s.PerTryTimeout > 0 && slices.ContainsFunc(on, Condition.whole) {
		out.PerTryTimeout = durationpb.New(s.PerTryTimeout.D())
	}
	if b := s.Backoff; b != nil {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: durationpb.New(b.Base.D()), MaxInterval: durationpb.New(cmp.Or(b.Max, 10*b.Base).D()),
		}
	}
	if !s.OtherHost {
		return out, nil
	}
	packed, err := feature.Pack(&previoushostsv3.PreviousHostsPredicate{})
	if err != nil {
		return nil, err
	}
	out.HostSelectionRetryMaxAttempts = otherHostAttempts
	out.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
		Name: "envoy.retry_host_predicates.previous_hosts", ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: packed},
	}}
	return out, nil
}

// conditions are Envoy's words, each once, and the statuses among the conditions.
func conditions(on []Condition) (retryOn string, statuses []uint32) {
	known := words()
	var names []string
	for _, c := range on {
		name := known[c]
		if n := c.status(); n != 0 {
			name, statuses = "retriable-status-codes", append(statuses, n)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ","), statuses
}

// ConfigureCluster implements feature.ClusterConfigurer: the budget of all retries to the service, in place of Envoy's
// three at a time. circuitBreaker.maxRetries holds where no budget is written.
func (s *Spec) ConfigureCluster(_ *model.Cluster, out *clusterv3.Cluster) error {
	if out.CircuitBreakers == nil {
		out.CircuitBreakers = &clusterv3.CircuitBreakers{}
	}
	breakers := out.CircuitBreakers
	if len(breakers.Thresholds) == 0 {
		breakers.Thresholds = []*clusterv3.CircuitBreakers_Thresholds{{}}
	}
	share := defaultBudget
	switch {
	case s.Budget != nil:
		share = *s.Budget
	case breakers.Thresholds[0].MaxRetries != nil:
		return nil
	}
	breakers.Thresholds[0].RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
		BudgetPercent: &typev3.Percent{Value: float64(share)}, MinRetryConcurrency: wrapperspb.UInt32(minBudget),
	}
	return nil
}

var (
	_ feature.RouteConfigurer   = (*Spec)(nil)
	_ feature.HostConfigurer    = (*Spec)(nil)
	_ feature.RouteVarier       = (*Spec)(nil)
	_ feature.ClusterConfigurer = (*Spec)(nil)
	_ feature.Defaulter         = Feature{}
)
