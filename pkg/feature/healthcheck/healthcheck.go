// Package healthcheck asks a service's instances whether they are well, and takes those that are not out of use.
package healthcheck

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `healthCheck`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "healthCheck", Stage: feature.StageRoute, On: feature.Service,
		Summary: "Asks every instance again and again whether it is well; one that is not gets no requests."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec {
	return &Spec{
		Interval: policy.Duration(5 * time.Second), Timeout: policy.Duration(time.Second),
		UnhealthyAfter: 3, HealthyAfter: 2,
	}
}

// lastResort is the share of healthy instances, in percent, below which all of them are used where nothing is written:
// so small that it means none. The one instance that is well is not joined by those that are not; but when all look
// sick, it is the check that is wrong more often than everything else, and a request that may fail is better than one
// that must.
const lastResort = 1

// maxTimeout bounds how long one check may hang: a new cluster waits for its first checks, and all that comes after it
// waits too.
const maxTimeout = 5 * time.Second

// Spec is the block: how to ask, one of http, tcp and grpc, and how often.
type Spec struct {
	HTTP           *HTTP           `json:"http,omitempty" jsonschema_description:"Ask by HTTP."`
	TCP            *TCP            `json:"tcp,omitempty" jsonschema_description:"Only connect: tcp: {}."`
	GRPC           *GRPC           `json:"grpc,omitempty" jsonschema_description:"Ask by grpc.health.v1; the Service needs protocol: grpc or http2."`
	Interval       policy.Duration `json:"interval,omitempty" jsonschema_description:"Between two checks of an instance; 5s when left out."`
	Timeout        policy.Duration `json:"timeout,omitempty" jsonschema_description:"An answer that takes longer is none; 1s when left out, at most 5s."`
	UnhealthyAfter uint32          `json:"unhealthyAfter,omitempty" jsonschema:"minimum=1,maximum=100" jsonschema_description:"Failed checks in a row until an instance is taken out; 3 when left out."`
	HealthyAfter   uint32          `json:"healthyAfter,omitempty" jsonschema:"minimum=1,maximum=100" jsonschema_description:"Good checks in a row until it is back; 2 when left out. Of a new instance the first decides."`
	PanicBelow     *policy.Percent `json:"panicBelow,omitempty" jsonschema_description:"When fewer than this share of the instances are healthy, all are used; 1% when left out, so when none is. 0% for never: 503 then."`
}

// HTTP is a check by HTTP.
type HTTP struct {
	Path             string        `json:"path" jsonschema:"required" jsonschema_description:"What to ask for: /healthz."`
	ExpectedStatuses []StatusRange `json:"expectedStatuses,omitempty" jsonschema_description:"Answers that mean healthy; 200 when left out."`
	Host             string        `json:"host,omitempty" jsonschema_description:"The host header; the Service's name when left out."`
}

// TCP is a check that only connects.
type TCP struct{}

// GRPC is a check by grpc.health.v1.
type GRPC struct {
	Service string `json:"service,omitempty" jsonschema_description:"The name to ask about; the whole server when left out."`
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	kinds := 0
	for _, given := range []bool{s.HTTP != nil, s.TCP != nil, s.GRPC != nil} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		p.Suggestf(at, policy.CodeValue, "write exactly one of http: {path: /healthz}, tcp: {}, grpc: {}", "%s says %d ways to ask", at.Path, kinds)
	}
	if s.Timeout == 0 || s.Timeout.D() > maxTimeout {
		p.Suggestf(at.Field("timeout"), policy.CodeValue, fmt.Sprintf("at most %s: an instance that hangs holds up every change that comes after it", maxTimeout), "a health check's timeout of %s", s.Timeout)
	}
	if s.Interval.D() < 100*time.Millisecond {
		p.Errorf(at.Field("interval"), policy.CodeValue, "%s between two checks; at least 100ms is wanted", s.Interval)
	}
	if s.HTTP != nil && s.HTTP.Path != "" && !strings.HasPrefix(s.HTTP.Path, "/") {
		p.Errorf(at.Field("http").Field("path"), policy.CodeValue, "%q is not a path: it must start with /", s.HTTP.Path)
	}
}

// StatusRange is HTTP statuses, both ends included: 204, 200-299 or 2xx.
type StatusRange struct{ First, Last int64 }

// UnmarshalText reads any of the forms.
func (r *StatusRange) UnmarshalText(b []byte) error {
	text := string(b)
	if digit, ok := strings.CutSuffix(text, "xx"); ok {
		text = digit + "00-" + digit + "99"
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	f, errFirst := strconv.ParseInt(first, 10, 16)
	l, errLast := strconv.ParseInt(last, 10, 16)
	if errFirst != nil || errLast != nil || f < 100 || l > 599 || f > l {
		return fmt.Errorf("%.20q is not a status between 100 and 599; write 204, 200-299 or 2xx", b)
	}
	*r = StatusRange{f, l}
	return nil
}

// MarshalText writes the shortest form that reads the same.
func (r StatusRange) MarshalText() ([]byte, error) {
	if r.First == r.Last {
		return strconv.AppendInt(nil, r.First, 10), nil
	}
	return fmt.Appendf(nil, "%d-%d", r.First, r.Last), nil
}

// JSONSchema describes all forms.
func (StatusRange) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Type: "integer", Minimum: "100", Maximum: "599"},
		{Type: "string", Pattern: `^[1-5](xx|[0-9]{2}(-[1-5][0-9]{2})?)$`, Examples: []any{"200-299", "2xx"}},
	}}
}
