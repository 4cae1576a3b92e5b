package errors

import (
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// ConfigureListener implements feature.ListenerConfigurer.
func (s *Spec) ConfigureListener(_ *model.Listener, _ *listenerv3.Listener, hcm *hcmv3.HttpConnectionManager) error {
	if s.Off {
		return nil
	}
	grpc, err := mapper(isGRPC, "%CEL("+detail()+")%")
	if err != nil {
		return err
	}
	ready, err := mapper(isReady, "%LOCAL_REPLY_BODY%")
	if err != nil {
		return err
	}
	if hcm.LocalReplyConfig == nil {
		hcm.LocalReplyConfig = &hcmv3.LocalReplyConfig{}
	}
	hcm.LocalReplyConfig.Mappers = append(hcm.LocalReplyConfig.Mappers, grpc, ready)
	hcm.LocalReplyConfig.BodyFormat = s.problem()
	return nil
}

// problem is the body of every other answer.
func (s *Spec) problem() *corev3.SubstitutionFormatString {
	text := structpb.NewStringValue
	return &corev3.SubstitutionFormatString{
		ContentType:     "application/problem+json",
		OmitEmptyValues: true, // what Envoy refuses before it has read the headers has no request id
		Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: map[string]*structpb.Value{
			"type":      text(strings.ReplaceAll(s.Types, "{status}", "%RESPONSE_CODE%")),
			"title":     text("%CEL(" + title() + ")%"),
			"status":    text("%RESPONSE_CODE%"),
			"detail":    text("%CEL(" + detail() + ")%"),
			"requestId": text("%REQ(X-REQUEST-ID)%"),
		}}},
	}
}

// mapper gives the answers that a CEL condition takes a body of their own.
func mapper(condition, body string) (*hcmv3.ResponseMapper, error) {
	packed, err := feature.Pack(&celv3.ExpressionFilter{Expression: condition})
	if err != nil {
		return nil, err
	}
	return &hcmv3.ResponseMapper{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
			ExtensionFilter: &accesslogv3.ExtensionFilter{
				Name:       "envoy.access_loggers.extension_filters.cel",
				ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: packed},
			},
		}},
		BodyFormatOverride: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: body},
			}},
		},
	}, nil
}

var (
	_ feature.Defaulter          = Feature{}
	_ feature.ListenerConfigurer = (*Spec)(nil)
	_ policy.Unmarshaler         = (*Spec)(nil)
)
