// Package extauthz answers Envoy's question whether a request may go on, by the checks of its route's policy. What it
// cannot decide on is refused.
package extauthz

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/pkg/agent"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/fetch"
)

// DefaultMost is how many checks run at once before further ones are refused.
const DefaultMost = 1024

// Server is the ext_authz service. It is safe for concurrent use.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	holder    *agent.Holder
	log       *slog.Logger
	slots     chan struct{}
	now       func() time.Time
	client    *http.Client
	clients   *certificates
	decisions *prometheus.CounterVec
}

// New is a Server that decides by what the Holder has. most is how many checks run at once; 0 means DefaultMost.
func New(h *agent.Holder, log *slog.Logger, most int) *Server {
	if most <= 0 {
		most = DefaultMost
	}
	return &Server{
		holder: h, log: log, slots: make(chan struct{}, most), now: time.Now, client: fetch.NewClient(), clients: newCertificates(log),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_authz_decisions_total", Help: "Requests decided on by the agent, by result and reason.",
		}, []string{"result", "reason"}),
	}
}

// Metrics are the server's own.
func (s *Server) Metrics() prometheus.Collector { return s.decisions }

// Check implements envoy.service.auth.v3.Authorization.
func (s *Server) Check(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return s.refuse(in, feature.Unavailable("overloaded", "There are too many requests to decide on now; try again.")), nil
	}
	id := &feature.Identity{}
	d := s.decide(ctx, in, id)
	if id.Key != "" {
		s.holder.Used(id.Key, s.now())
	}
	if !d.Allowed() {
		return s.refuse(in, d), nil
	}
	return s.allow(in, d, id)
}

// decide never lets anything pass because something is wrong here.
func (s *Server) decide(ctx context.Context, in *authv3.CheckRequest, id *feature.Identity) (d feature.Decision) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("a check failed in a way that it should not; the request was refused", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			d = undecided("panic")
		}
	}()
	digest := in.GetAttributes().GetContextExtensions()[feature.PolicyExtension]
	if digest == "" {
		return undecided("no_policy")
	}
	checks, ok := s.holder.Policy(ctx, digest)
	if !ok {
		return undecided("unknown_policy")
	}
	r := s.request(ctx, in)
	out := feature.Decision{}
	for _, c := range checks {
		d := c.Check(ctx, r, id)
		if !d.Allowed() {
			return d
		}
		hidden := append(out.RemoveHeaders, d.RemoveHeaders...)
		hiddenQuery := append(out.RemoveQuery, d.RemoveQuery...)
		if d.Shadow {
			out = d
		}
		out.RemoveHeaders, out.RemoveQuery = hidden, hiddenQuery
	}
	return out
}

func undecided(reason string) feature.Decision {
	return feature.Unavailable(reason, "Whether this request is allowed could not be decided.")
}

func (s *Server) request(ctx context.Context, in *authv3.CheckRequest) *feature.Request {
	r, now := in.GetAttributes().GetRequest().GetHttp(), s.now()
	return &feature.Request{
		Method: r.GetMethod(), Host: r.GetHost(), Path: r.GetPath(), Headers: r.GetHeaders(), Now: now, Data: s.holder.Data,
		Client: client(ctx), Asker: s.client,
		Certificate: s.clients.valid(in.GetAttributes().GetSource().GetCertificate(), now),
	}
}

// client is the address that Envoy gives beside the question; the zero Addr when it gives none, or more than one.
func client(ctx context.Context) netip.Addr {
	said := grpcmetadata.ValueFromIncomingContext(ctx, feature.ClientMetadata)
	if len(said) != 1 {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(said[0])
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}

// allow lets a request go on with its identity, as headers and as metadata. Headers of the identity that are not set
// are removed, should anything have let them through.
func (s *Server) allow(in *authv3.CheckRequest, d feature.Decision, id *feature.Identity) (*authv3.CheckResponse, error) {
	ok := &authv3.OkHttpResponse{HeadersToRemove: d.RemoveHeaders, QueryParametersToRemove: d.RemoveQuery}
	headers := id.Headers()
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if headers[name] == "" {
			ok.HeadersToRemove = append(ok.HeadersToRemove, name)
			continue
		}
		ok.Headers = append(ok.Headers, set(name, headers[name]))
	}
	result := "allowed"
	if d.Shadow {
		result = "shadow"
		s.log.Info("would be refused", "reason", d.Reason, "status", d.Status, "user", id.User, "method", in.GetAttributes().GetRequest().GetHttp().GetMethod(),
			"host", in.GetAttributes().GetRequest().GetHttp().GetHost(), "path", pathOf(in))
	}
	s.decisions.WithLabelValues(result, d.Reason).Inc()
	return &authv3.CheckResponse{
		Status:          &status.Status{Code: int32(codes.OK)},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
		DynamicMetadata: metadata(id, d),
	}, nil
}

// pathOf is the path without its query, which may hold a token.
func pathOf(in *authv3.CheckRequest) string {
	path, _, _ := strings.Cut(in.GetAttributes().GetRequest().GetHttp().GetPath(), "?")
	return path
}

// metadata is the identity for limits and logs.
func metadata(id *feature.Identity, d feature.Decision) *structpb.Struct {
	fields := map[string]*structpb.Value{}
	for name, v := range map[string]string{"user": id.User, "plan": id.Plan, "issuer": id.Issuer, "key": id.Key} {
		if v != "" {
			fields[name] = structpb.NewStringValue(strings.ToValidUTF8(v, "�"))
		}
	}
	for name, list := range map[string][]string{"permissions": id.Permissions, "scopes": id.Scopes, "roles": id.Roles} {
		if len(list) > 0 {
			fields[name] = listOf(list)
		}
	}
	if d.Shadow {
		fields["shadow"] = structpb.NewStringValue(d.Reason)
	}
	return &structpb.Struct{Fields: fields}
}

func listOf(words []string) *structpb.Value {
	out := &structpb.ListValue{}
	for _, w := range words {
		out.Values = append(out.Values, structpb.NewStringValue(strings.ToValidUTF8(w, "�")))
	}
	return structpb.NewListValue(out)
}

// refuse answers the client, as application/problem+json.
func (s *Server) refuse(in *authv3.CheckRequest, d feature.Decision) *authv3.CheckResponse {
	s.decisions.WithLabelValues("denied", d.Reason).Inc()
	headers := []*corev3.HeaderValueOption{set("content-type", "application/problem+json"), set("cache-control", "no-store")}
	if d.Challenge != "" {
		headers = append(headers, set("www-authenticate", d.Challenge))
	}
	if d.Status == http.StatusServiceUnavailable {
		headers = append(headers, set("retry-after", "1"))
	}
	body, _ := json.Marshal(struct { // strings and a number always marshal
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail"`
		RequestID string `json:"requestId,omitempty"`
	}{"about:blank", http.StatusText(d.Status), d.Status, d.Detail, in.GetAttributes().GetRequest().GetHttp().GetHeaders()["x-request-id"]})
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode(d.Status)}, Headers: headers, Body: string(body),
		}},
	}
}

func set(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
