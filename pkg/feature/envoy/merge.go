package envoy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// target is a resource that raw fields may go into, and the fields that Sluice itself must keep.
type target struct {
	what  string
	new   func() proto.Message
	owned []protoreflect.Name
	why   string
}

func routeTarget() target {
	return target{"Route", func() proto.Message { return &routev3.Route{} }, []protoreflect.Name{"name", "match", "metadata"},
		"they come from the rule's name and match, and say which policy a request met"}
}

func clusterTarget() target {
	return target{"Cluster", func() proto.Message { return &clusterv3.Cluster{} },
		[]protoreflect.Name{"name", "type", "cluster_type", "eds_cluster_config", "load_assignment"},
		"they come from the Service's endpoints or dns"}
}

func listenerTarget() target {
	return target{"Listener", func() proto.Message { return &listenerv3.Listener{} }, []protoreflect.Name{"name", "address", "filter_chains"},
		"they come from the Gateway's listeners"}
}

func managerTarget() target {
	return target{"HttpConnectionManager", func() proto.Message { return &hcmv3.HttpConnectionManager{} },
		[]protoreflect.Name{"rds", "route_config", "scoped_routes", "http_filters"},
		"routes come from policies, and filters stand in one published order"}
}

// decode reads raw fields as the target's message, which holds none that Sluice keeps.
func (t target) decode(raw json.RawMessage) (proto.Message, error) {
	m := t.new()
	if err := protojson.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("not fields of Envoy's %s: %s", t.what, reason(err))
	}
	written, err := fieldsOf(raw, m.ProtoReflect().Descriptor())
	if err != nil {
		return nil, err
	}
	var taken []string
	for _, w := range written {
		if slices.Contains(t.owned, w.field.Name()) {
			taken = append(taken, string(w.field.Name()))
		}
	}
	if len(taken) > 0 {
		return nil, &ownedError{t, taken}
	}
	return m, nil
}

// ownedError is an attempt at a field that Sluice keeps.
type ownedError struct {
	target target
	fields []string
}

func (e *ownedError) Error() string {
	return fmt.Sprintf("%s of Envoy's %s cannot be set here: %s", strings.Join(e.fields, ", "), e.target.what, e.target.why)
}

// reason is protojson's error without its prefix, which differs between builds on purpose, and without a position in
// text that nobody wrote.
func reason(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	if _, after, ok := strings.Cut(text, "): "); ok && strings.Contains(text, "(line ") {
		return after
	}
	return strings.TrimSpace(strings.TrimPrefix(text, "proto:"))
}

// merge puts raw fields into a resource.
func merge(raw json.RawMessage, t target, into proto.Message) error {
	m, err := t.decode(raw)
	if err != nil {
		return err
	}
	return mergeMessage(raw, m.ProtoReflect(), into.ProtoReflect())
}

// gatewayForm is the block on a Gateway.
type gatewayForm struct {
	Listener          json.RawMessage `json:"listener"`
	ConnectionManager json.RawMessage `json:"connectionManager"`
}

func (s *Spec) gateway() (gatewayForm, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(s.json, &fields); err != nil {
		return gatewayForm{}, err
	}
	for name := range fields {
		if name != "listener" && name != "connectionManager" {
			return gatewayForm{}, fmt.Errorf("on a Gateway it holds listener and connectionManager, not %q", name)
		}
	}
	return gatewayForm{fields["listener"], fields["connectionManager"]}, nil
}

func (s *Spec) checkGateway() error {
	g, err := s.gateway()
	if err != nil {
		return err
	}
	for _, part := range []struct {
		raw json.RawMessage
		target
	}{{g.Listener, listenerTarget()}, {g.ConnectionManager, managerTarget()}} {
		if part.raw == nil {
			continue
		}
		if _, err := part.decode(part.raw); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) checkAs(t target) error {
	_, err := t.decode(s.json)
	return err
}

// Validate implements feature.Spec. In a Policy the block may be meant for a Gateway or for routes.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	var err error
	switch at.Object().Kind {
	case "Gateway":
		err = s.checkGateway()
	case "Service":
		err = s.checkAs(clusterTarget())
	default:
		if err = s.checkAs(routeTarget()); err != nil && at.Object().Kind == "Policy" && s.forGateway() {
			err = s.checkGateway()
		}
	}
	if err != nil {
		p.Suggestf(at, policy.CodeValue, "Envoy's API reference lists the fields", "%s: %v", at.Path, err)
	}
}

func (s *Spec) forGateway() bool {
	_, err := s.gateway()
	return err == nil
}

// ConfigureRoute implements feature.RouteConfigurer: only what was written on a Route or rule is about routes.
func (s *Spec) ConfigureRoute(r *model.Route, out *routev3.Route) error {
	i := slices.IndexFunc(r.Attachments, func(a model.Attachment) bool { return a.Feature == name })
	if i < 0 || r.Attachments[i].Level != "route" && r.Attachments[i].Level != "rule" {
		return nil
	}
	return merge(s.json, routeTarget(), out)
}

// ConfigureCluster implements feature.ClusterConfigurer.
func (s *Spec) ConfigureCluster(_ *model.Cluster, out *clusterv3.Cluster) error {
	return merge(s.json, clusterTarget(), out)
}

// ConfigureListener implements feature.ListenerConfigurer.
func (s *Spec) ConfigureListener(_ *model.Listener, out *listenerv3.Listener, hcm *hcmv3.HttpConnectionManager) error {
	g, err := s.gateway()
	if err != nil {
		return err
	}
	if g.Listener != nil {
		if err := merge(g.Listener, listenerTarget(), out); err != nil {
			return err
		}
	}
	if g.ConnectionManager != nil {
		return merge(g.ConnectionManager, managerTarget(), hcm)
	}
	return nil
}

var (
	_ feature.RouteConfigurer    = (*Spec)(nil)
	_ feature.ClusterConfigurer  = (*Spec)(nil)
	_ feature.ListenerConfigurer = (*Spec)(nil)
	_ policy.Unmarshaler         = (*Spec)(nil)
)
