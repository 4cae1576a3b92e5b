package proof

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	// Messages in which a secret can be named must be known to be looked into.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/credential_injector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/oauth2/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/injected_credentials/generic/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/injected_credentials/oauth2/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/quic/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// rewriter replaces in a resource what an Envoy would fetch or open by what can be judged at once.
type rewriter struct {
	filters map[string]*anypb.Any
	// routes are taken out as they are used: listeners that share one have it judged once.
	routes map[string]*routev3.RouteConfiguration
	// secrets are those that are there; placeholder stands in for the others.
	secrets     []*tlsv3.Secret
	placeholder func() (cert, key string)
}

// rewritten is a changed copy; the message itself serves further runs.
func rewritten[M proto.Message](r *rewriter, m M) M {
	c := proto.CloneOf(m)
	r.message(c.ProtoReflect())
	return c
}

// message reports whether it changed anything in m or below.
func (r *rewriter) message(m protoreflect.Message) bool {
	changed := false
	switch v := m.Interface().(type) {
	case *anypb.Any:
		return r.packed(v)
	case *tlsv3.CommonTlsContext:
		changed = r.absentSecrets(v)
	case *tlsv3.SdsSecretConfig:
		if changed = v.SdsConfig != nil && !r.absent(v); changed {
			v.SdsConfig = nil // a name alone means a static secret
		}
	case *filelogv3.FileAccessLog:
		changed = true
		v.Path = "/dev/null" // Envoy opens it even to validate, and it may only exist on Envoy's machine
	case *hcmv3.HttpConnectionManager:
		changed = r.manager(v)
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		changed = r.field(field, value) || changed
		return true
	})
	return changed
}

func (r *rewriter) field(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
	changed := false
	switch {
	case field.IsMap():
		if field.MapValue().Message() == nil {
			return false
		}
		value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
			changed = r.message(v.Message()) || changed
			return true
		})
	case field.Message() == nil:
	case field.IsList():
		for i := range value.List().Len() {
			changed = r.message(value.List().Get(i).Message()) || changed
		}
	default:
		changed = r.message(value.Message())
	}
	return changed
}

// packed looks into an Any. One of an unknown type stays as it is: Envoy knows more types than we do.
func (r *rewriter) packed(a *anypb.Any) bool {
	m, err := a.UnmarshalNew()
	if err != nil || !r.message(m.ProtoReflect()) {
		return false
	}
	a.Value = pack(m).Value
	return true
}

func (r *rewriter) manager(m *hcmv3.HttpConnectionManager) bool {
	changed := false
	if rds := m.GetRds(); rds != nil {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: r.take(rds.GetRouteConfigName())}
		changed = true
	}
	kept := m.HttpFilters[:0]
	for _, f := range m.HttpFilters {
		if f.GetConfigDiscovery() != nil {
			changed = true
			if !r.resolve(f) {
				continue
			}
		}
		kept = append(kept, f)
	}
	m.HttpFilters = kept
	return changed
}

func (r *rewriter) take(name string) *routev3.RouteConfiguration {
	rc, ok := r.routes[name]
	if !ok {
		return &routev3.RouteConfiguration{Name: name}
	}
	delete(r.routes, name)
	return rc
}

// resolve writes a discovered filter's config in its place; it fails if there is none.
func (r *rewriter) resolve(f *hcmv3.HttpFilter) bool {
	typed := r.filters[f.GetName()]
	if typed == nil {
		typed = f.GetConfigDiscovery().GetDefaultConfig()
	}
	if typed == nil {
		return false
	}
	// A copy: what it holds is changed too, and the original serves further runs.
	f.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: proto.CloneOf(typed)}
	return true
}
