// Package retry sends a request once more when an instance could not be reached or failed, where that is safe.
package retry

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `retry`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "retry", Stage: feature.StageRoute, On: feature.Rule | feature.Service,
		Summary: "Sends a request once more, to another instance, when the first could not be reached or failed."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec {
	return &Spec{On: []Condition{ConnectFailure, RefusedStream, Reset, "503"}, Retries: 1, OtherHost: true}
}

// Default implements feature.Defaulter: one more try for requests that no instance has seen. That is safe whatever
// they do, and an instance that was just killed costs nobody an answer.
func (Feature) Default() feature.Spec {
	return &Spec{On: []Condition{ConnectFailure, RefusedStream}, Retries: 1, OtherHost: true}
}

// Spec is the block.
type Spec struct {
	On            []Condition     `json:"on,omitempty" jsonschema_description:"What is tried once more: connectFailure, refusedStream, reset, timeout, 5xx, gatewayError, retriable4xx, grpcUnavailable and other grpc conditions, or statuses. connectFailure, refusedStream, reset and 503 when left out."`
	Retries       uint32          `json:"retries" jsonschema:"minimum=0,maximum=10" jsonschema_description:"Tries after the first; 1 when left out, 0 for none."`
	PerTryTimeout policy.Duration `json:"perTryTimeout,omitempty" jsonschema_description:"A try that takes longer is given up and, with timeout, reset, 5xx or gatewayError, tried once more. The route's timeout bounds all tries together."`
	OtherHost     bool            `json:"otherHost" jsonschema_description:"Try another instance than before, if there is one; true when left out."`
	Backoff       *Backoff        `json:"backoff,omitempty" jsonschema_description:"The wait before each retry, chosen at random below a bound that doubles."`
	Budget        *policy.Percent `json:"budget,omitempty" jsonschema_description:"The most retries under way, as a share of the service's requests under way; 20% when left out. On a Service only."`
	Methods       []string        `json:"methods,omitempty" jsonschema_description:"Further methods that may reach an instance twice, beside GET, HEAD, OPTIONS, PUT and DELETE: [POST] says that the service recognises repeats."`
}

// Backoff is the wait before a retry.
type Backoff struct {
	Base policy.Duration `json:"base" jsonschema:"required" jsonschema_description:"The bound of the first wait."`
	Max  policy.Duration `json:"max,omitempty" jsonschema_description:"The bound never grows beyond; ten times base when left out."`
}

// Condition is what a request is tried once more after: a word, or a status between 400 and 599.
type Condition string

// The conditions that others build on. After the first two no instance has seen the request.
const (
	ConnectFailure Condition = "connectFailure"
	RefusedStream  Condition = "refusedStream"
	Reset          Condition = "reset"
	Timeout        Condition = "timeout"
)

// words are the conditions as Envoy names them. Envoy knows a try that takes too long as one that is reset.
func words() map[Condition]string {
	return map[Condition]string{
		ConnectFailure: "connect-failure", RefusedStream: "refused-stream", Reset: "reset", Timeout: "reset",
		"5xx": "5xx", "gatewayError": "gateway-error", "retriable4xx": "retriable-4xx",
		"grpcUnavailable": "unavailable", "grpcResourceExhausted": "resource-exhausted", "grpcDeadlineExceeded": "deadline-exceeded",
		"grpcCancelled": "cancelled", "grpcInternal": "internal",
	}
}

// unseen tells whether no instance has seen the request when this happens, so that any method may be tried again.
func (c Condition) unseen() bool { return c == ConnectFailure || c == RefusedStream }

// whole tells whether the condition is any way in which no answer came: a connection that failed, a stream that was
// refused or reset, a try that took too long.
func (c Condition) whole() bool {
	return slices.Contains([]Condition{Reset, Timeout, "5xx", "gatewayError"}, c)
}

// status is the HTTP status that the condition names; 0 when it is a word.
func (c Condition) status() uint32 {
	n, err := strconv.ParseUint(string(c), 10, 16)
	if err != nil || n < 400 || n > 599 {
		return 0
	}
	return uint32(n)
}

// UnmarshalText reads a word or a status.
func (c *Condition) UnmarshalText(b []byte) error {
	*c = Condition(b)
	known := words()
	if known[*c] != "" || c.status() != 0 {
		return nil
	}
	names := make([]string, 0, len(known))
	for name := range maps.Keys(known) {
		names = append(names, string(name))
	}
	slices.Sort(names)
	if near := policy.Nearest(string(b), names); near != "" {
		return fmt.Errorf("%.40q is nothing to retry on; did you mean %s?", b, near)
	}
	return fmt.Errorf("%.40q is nothing to retry on; write a status between 400 and 599, or one of %s", b, strings.Join(names, ", "))
}

// JSONSchema describes words and statuses.
func (Condition) JSONSchema() *jsonschema.Schema {
	var names []any
	for _, name := range slices.Sorted(maps.Keys(words())) {
		names = append(names, string(name))
	}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Type: "string", Enum: names}, {Type: "integer", Minimum: "400", Maximum: "599"},
	}}
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if len(s.On) == 0 {
		p.Suggestf(at.Field("on"), policy.CodeRequired, "write retries: 0 for no retries at all", "%s is empty", at.Field("on").Path)
	}
	if slices.Contains(s.On, Timeout) && s.PerTryTimeout == 0 {
		p.Suggestf(at.Field("on"), policy.CodeRequired, "add perTryTimeout:, shorter than the route's timeout", "a retry after a timeout: nothing says when a try has taken too long")
	}
	if s.PerTryTimeout > 0 && !slices.ContainsFunc(s.On, Condition.whole) {
		p.Suggestf(at.Field("perTryTimeout"), policy.CodeConflict, "add timeout to on:", "a try that takes longer than perTryTimeout is not retried")
	}
	if b := s.Backoff; b != nil && (b.Base == 0 || b.Max != 0 && b.Max < b.Base) {
		p.Suggestf(at.Field("backoff"), policy.CodeValue, "write for example {base: 25ms, max: 250ms}", "a wait from %s up to %s", b.Base, b.Max)
	}
	for i, m := range s.Methods {
		if policy.CheckHeaderName(m) != nil || m != strings.ToUpper(m) {
			p.Errorf(at.Field("methods").Index(i), policy.CodeValue, "%q is not an HTTP method in capital letters", m)
		}
	}
	if s.Budget != nil && at.Object().Kind != "" && at.Object().Kind != "Service" {
		p.Suggestf(at.Field("budget"), policy.CodePlace, "write it in the Service's retry", "a budget is shared by all that reach a service; it has no effect here")
	}
}
