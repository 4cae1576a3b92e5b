package feature

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// The resource types of agents. A PolicyType resource is named by the digest of its body: a list of blocks as
// canonical JSON. A DataType resource is named feature/name and holds what the feature's ParseData reads. On the wire
// both are a google.protobuf.BytesValue.
const (
	PolicyType = "type.googleapis.com/sluice.agent.v1.Policy"
	DataType   = "type.googleapis.com/sluice.agent.v1.Data"
)

// UseType is the type of which agents are the source: a resource is an API key that was used, by its id, and its version
// when, in seconds since 1970.
const UseType = "type.googleapis.com/sluice.agent.v1.Use"

// How Envoy asks the agent.
const (
	// AgentCluster is the cluster of the agent, in every bootstrap.
	AgentCluster = "sluice-agent"
	// AgentFilter is the filter that asks it, and the key of its per-route config.
	AgentFilter = "ext_authz"
	// PolicyExtension is the context extension that names a route's policy.
	PolicyExtension = "policy"
	// ClientMetadata is the gRPC metadata of a question that holds the client's address. It is no header of the request:
	// no client can send it.
	ClientMetadata = "x-sluice-client"
	agentTimeout   = 250 * time.Millisecond
)

// runtimeBlock is one block of a policy for agents.
type runtimeBlock struct {
	Feature string          `json:"feature"`
	Spec    json.RawMessage `json:"spec"`
}

// Runtime is the policy for agents that a route's blocks ask for, nil when they ask for none. The attachments are in
// the features' order, in which they are checked.
func Runtime(attachments []model.Attachment) (*model.Runtime, error) {
	var blocks []runtimeBlock
	var data []model.Data
	waits := time.Duration(0)
	for _, a := range attachments {
		if !atRuntime(a.Spec) {
			continue
		}
		body, err := json.Marshal(a.Spec)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Feature, err)
		}
		blocks = append(blocks, runtimeBlock{Feature: a.Feature, Spec: body})
		if u, ok := a.Spec.(DataUser); ok {
			data = append(data, u.Data()...)
		}
		if w, ok := a.Spec.(Waiter); ok {
			waits += w.Waits()
		}
	}
	if blocks == nil {
		return nil, nil
	}
	body, err := json.Marshal(blocks)
	if err != nil {
		return nil, err
	}
	return &model.Runtime{Digest: PolicyDigest(body), Body: body, Data: data, Waits: waits}, nil
}

func atRuntime(spec any) bool {
	if d, ok := spec.(RuntimeDecider); ok && !d.AtRuntime() {
		return false
	}
	_, ok := spec.(Checker)
	return ok
}

// PolicyDigest is the name of a policy for agents.
func PolicyDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Check is one decoded block of a policy for agents.
type Check struct {
	Feature string
	Checker
}

// Checks decodes a policy for agents, strictly: a block or field that is not known here must not be passed over.
func (s Set) Checks(body []byte) ([]Check, error) {
	var blocks []runtimeBlock
	if err := strictJSON(body, &blocks); err != nil {
		return nil, err
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("a policy without blocks")
	}
	var out []Check
	for _, b := range blocks {
		f, ok := s.Get(b.Feature)
		if !ok {
			return nil, fmt.Errorf("there is no feature %q in this version", b.Feature)
		}
		spec := f.New()
		if err := strictJSON(b.Spec, spec); err != nil {
			return nil, fmt.Errorf("%s: %w", b.Feature, err)
		}
		c, ok := spec.(Checker)
		if !ok {
			return nil, fmt.Errorf("%s is not decided by agents in this version", b.Feature)
		}
		out = append(out, Check{b.Feature, c})
	}
	return out, nil
}

// ParseData reads data of a name, feature/name.
func (s Set) ParseData(name string, body []byte) (any, error) {
	owner, _, _ := strings.Cut(name, "/")
	f, _ := s.Get(owner)
	p, ok := f.(DataParser)
	if !ok {
		return nil, fmt.Errorf("no feature reads %q in this version", name)
	}
	return p.ParseData(name, body)
}

func strictJSON(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return fmt.Errorf("more after the end")
	}
	return nil
}

// PartName is the name of a part of a table, of which the control plane keeps several.
func PartName(table string, part int) string {
	const hex = "0123456789abcdef"
	return table + partMark + string([]byte{hex[part>>8&15], hex[part>>4&15], hex[part&15]})
}

// PartPrefix is what the names of a table's parts start with, and no others.
func PartPrefix(table string) string { return table + partMark }

// IsPart tells whether data of a name is a part of a table. Such data grants something: what an agent is no longer sent it
// is to forget at once.
func IsPart(name string) bool { return strings.Contains(name, partMark) }

// partMark stands in no other name.
const partMark = "#"

// Wrap is the wire form of a resource for agents.
func Wrap(body []byte) ([]byte, error) { return Marshal(wrapperspb.Bytes(body)) }

// Unwrap reads the wire form of a resource for agents.
func Unwrap(b []byte) ([]byte, error) {
	v := &wrapperspb.BytesValue{}
	if err := proto.Unmarshal(b, v); err != nil {
		return nil, err
	}
	return v.GetValue(), nil
}

// checked tells whether any feature's blocks are decided by the agent.
func (s Set) checked() bool {
	for _, f := range s.features {
		if _, ok := f.New().(Checker); ok {
			return true
		}
	}
	return false
}

// agentFilter asks the agent. When the agent does not answer in time, or at all, the answer is 503: nothing passes
// that was not decided on.
func agentFilter() Filter {
	return Filter{
		Name: AgentFilter,
		Config: &extauthzv3.ExtAuthz{
			TransportApiVersion:    corev3.ApiVersion_V3,
			Services:               &extauthzv3.ExtAuthz_GrpcService{GrpcService: agentService(0)},
			StatusOnError:          &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
			IncludePeerCertificate: true,
		},
		PerRoute: &extauthzv3.ExtAuthzPerRoute{},
	}
}

// agentService is the agent, which may take so much longer than it does when it asks nobody.
func agentService(waits time.Duration) *corev3.GrpcService {
	return &corev3.GrpcService{
		TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: AgentCluster}},
		Timeout:         durationpb.New(agentTimeout + waits),
		// Where the request really comes from: what ext_authz tells by itself is the peer's address.
		InitialMetadata: []*corev3.HeaderValue{{Key: ClientMetadata, Value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}},
	}
}

// AskAgent makes a route ask the agent to decide by its policy.
func AskAgent(out *routev3.Route, r *model.Runtime) error {
	settings := &extauthzv3.CheckSettings{ContextExtensions: map[string]string{PolicyExtension: r.Digest}}
	if r.Waits > 0 {
		settings.ServiceOverride = &extauthzv3.CheckSettings_GrpcService{GrpcService: agentService(r.Waits)}
	}
	return Enable(out, AgentFilter, &extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_CheckSettings{CheckSettings: settings}})
}
