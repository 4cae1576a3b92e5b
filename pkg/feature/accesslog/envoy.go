package accesslog

import (
	"maps"
	"math"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// lines are the fields of every line. Envoy writes a value that is one command with its type, and escapes all others:
// nothing that a client sends can end a line or a string.
func lines() map[string]string {
	return map[string]string{
		"time":               "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
		"requestId":          "%REQ(X-REQUEST-ID)%",
		"method":             "%REQ(:METHOD)%",
		"host":               "%REQ(:AUTHORITY)%",
		"path":               "%PATH(NQ:ORIG_OR_PATH)%",
		"protocol":           "%PROTOCOL%",
		"tls":                "%DOWNSTREAM_TLS_VERSION%",
		"status":             "%RESPONSE_CODE%",
		"grpcStatus":         "%GRPC_STATUS_NUMBER%",
		"bytesIn":            "%BYTES_RECEIVED%",
		"bytesOut":           "%BYTES_SENT%",
		"duration":           "%DURATION%",
		"requestDuration":    "%REQUEST_DURATION%",
		"responseDuration":   "%RESPONSE_DURATION%",
		"responseTxDuration": "%RESPONSE_TX_DURATION%",
		"rule":               "%ROUTE_NAME%",
		"policy":             "%METADATA(ROUTE:sluice:policy)%",
		"config":             "%METADATA(VIRTUAL_HOST:sluice:config)%",
		"service":            "%UPSTREAM_CLUSTER%",
		"upstream":           "%UPSTREAM_HOST%",
		"upstreamError":      "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
		"attempts":           "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
		"client":             "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
		"userAgent":          "%REQ(USER-AGENT)%",
		"flags":              "%RESPONSE_FLAGS%",
		"details":            "%RESPONSE_CODE_DETAILS%",
		"shadow":             shadow,
	}
}

// shadow is why the request would have been refused by what is only tried out: Envoy's reason, or the agent's.
const shadow = `%COALESCE({"operators": [` +
	`{"command": "DYNAMIC_METADATA", "param": "envoy.filters.http.rbac:authorize_shadow_effective_policy_id"}, ` +
	`{"command": "DYNAMIC_METADATA", "param": "envoy.filters.http.ext_authz:shadow"}]})%`

// ConfigureListener implements feature.ListenerConfigurer.
func (s *Spec) ConfigureListener(_ *model.Listener, _ *listenerv3.Listener, hcm *hcmv3.HttpConnectionManager) error {
	if s.Off {
		return nil
	}
	packed, err := feature.Pack(s.logger())
	if err != nil {
		return err
	}
	hcm.AccessLog = append(hcm.AccessLog, &accesslogv3.AccessLog{
		Name: "sluice", Filter: s.filter(), ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: packed},
	})
	return nil
}

func (s *Spec) logger() proto.Message {
	format := s.format()
	if s.File == "" {
		return &streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: format}}
	}
	return &filev3.FileAccessLog{Path: s.File, AccessLogFormat: &filev3.FileAccessLog_LogFormat{LogFormat: format}}
}

func (s *Spec) format() *corev3.SubstitutionFormatString {
	all := lines()
	maps.Copy(all, s.Fields)
	fields := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(all))}
	for name, command := range all {
		fields.Fields[name] = structpb.NewStringValue(command)
	}
	return &corev3.SubstitutionFormatString{
		OmitEmptyValues: true, Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: fields},
	}
}

// filter is nil when every request is written.
func (s *Spec) filter() *accesslogv3.AccessLogFilter {
	var any []*accesslogv3.AccessLogFilter
	if s.Only != nil && s.Only.Status != nil {
		any = append(any, &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
			StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: compare(s.Only.Status.op(), s.Only.Status.Value, "status")},
		}})
	}
	if s.Only != nil && s.Only.SlowerThan > 0 {
		ms := uint32(min(s.Only.SlowerThan.D().Milliseconds(), math.MaxUint32))
		any = append(any, &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_DurationFilter{
			DurationFilter: &accesslogv3.DurationFilter{Comparison: compare(accesslogv3.ComparisonFilter_GE, ms, "duration")},
		}})
	}
	if s.Sample != nil {
		any = append(any, sample(*s.Sample))
	}
	switch len(any) {
	case 0:
		return nil
	case 1:
		return any[0]
	}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{OrFilter: &accesslogv3.OrFilter{Filters: any}}}
}

func compare(op accesslogv3.ComparisonFilter_Op, value uint32, what string) *accesslogv3.ComparisonFilter {
	return &accesslogv3.ComparisonFilter{Op: op, Value: &corev3.RuntimeUInt32{
		DefaultValue: value, RuntimeKey: "sluice.access_log." + what, // Envoy wants a key
	}}
}

// sample takes a share of the requests, by their id, so that the same ones are written everywhere.
func sample(share policy.Percent) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_RuntimeFilter{
		RuntimeFilter: &accesslogv3.RuntimeFilter{RuntimeKey: "sluice.access_log.sample", PercentSampled: &typev3.FractionalPercent{
			Numerator: uint32(math.Round(float64(share) * 10_000)), Denominator: typev3.FractionalPercent_MILLION,
		}},
	}}
}

var (
	_ feature.Defaulter          = Feature{}
	_ feature.ListenerConfigurer = (*Spec)(nil)
	_ policy.Unmarshaler         = (*Spec)(nil)
)
