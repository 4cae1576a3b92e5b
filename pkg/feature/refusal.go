package feature

import (
	"net/http"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Refusal is the form of answers by which Envoy refuses a caller: the form of the agent's. Expressions are CEL, as Envoy
// reads it within a format: without double quotes and percent signs.
type Refusal struct {
	// When is the expression that takes the answers, of those that are 401 to 403.
	When string
	// Status is what they become.
	Status int
	// Detail is the expression for the sentence that clients are told.
	Detail string
	// Challenge is the WWW-Authenticate header, as a format; "" for none.
	Challenge string
}

// CEL is a text as an expression that Envoy reads within a format.
func CEL(text string) string { return "'" + strings.ReplaceAll(text, "'", `\'`) + "'" }

// Mappers carry it out. Clients of gRPC read the sentence from a header.
func (r Refusal) Mappers() []*hcmv3.ResponseMapper {
	const isGRPC = "request.headers['content-type'].startsWith('application/grpc')"
	sentence := "%CEL(" + r.Detail + ")%"
	text := structpb.NewStringValue
	problem := &structpb.Struct{Fields: map[string]*structpb.Value{
		"type": text("about:blank"), "title": text(http.StatusText(r.Status)), "status": text("%RESPONSE_CODE%"),
		"detail": text(sentence), "requestId": text("%REQ(X-REQUEST-ID)%"),
	}}
	return []*hcmv3.ResponseMapper{
		r.mapper("("+r.When+") && "+isGRPC, &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: sentence},
			}},
		}),
		r.mapper(r.When, &corev3.SubstitutionFormatString{
			ContentType: "application/problem+json", OmitEmptyValues: true,
			Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: problem},
		}),
	}
}

func (r Refusal) mapper(when string, body *corev3.SubstitutionFormatString) *hcmv3.ResponseMapper {
	headers := []*corev3.HeaderValueOption{setHeader("cache-control", "no-store")}
	if r.Challenge != "" {
		headers = append(headers, setHeader("www-authenticate", r.Challenge))
	}
	if r.Status == http.StatusServiceUnavailable {
		headers = append(headers, setHeader("retry-after", "1"))
	}
	return &hcmv3.ResponseMapper{
		Filter:     allFilters(status(accesslogv3.ComparisonFilter_GE, 401), status(accesslogv3.ComparisonFilter_LE, 403), expression(when)),
		StatusCode: wrapperspb.UInt32(uint32(r.Status)), BodyFormatOverride: body, HeadersToAdd: headers,
	}
}

func setHeader(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func allFilters(all ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{Filters: all}}}
}

func status(op accesslogv3.ComparisonFilter_Op, value uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op: op, Value: &corev3.RuntimeUInt32{DefaultValue: value, RuntimeKey: "sluice.refusals." + strings.ToLower(op.String())}, // Envoy wants a key
		}},
	}}
}

func expression(cel string) *accesslogv3.AccessLogFilter {
	packed, err := Pack(&celv3.ExpressionFilter{Expression: cel})
	if err != nil {
		panic("feature: " + err.Error()) // a text
	}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name:       "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: packed},
		},
	}}
}
