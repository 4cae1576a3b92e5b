package feature

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// MetadataKey is the namespace of what Sluice says about routes and virtual hosts in their metadata: `policy`
// on a route, `config` on a virtual host.
const MetadataKey = "sluice"

// HookError is what a feature's hook says of a block that it cannot carry out: a Problem of the block's author.
type HookError struct {
	Feature string
	// From is where the block stands: file:line.
	From string
	Err  error
}

// Error implements error.
func (e *HookError) Error() string { return fmt.Sprintf("%s (%s): %v", e.Feature, e.From, e.Err) }

// Unwrap is the hook's own error.
func (e *HookError) Unwrap() error { return e.Err }

// validator is what Envoy's generated messages offer.
type validator interface{ ValidateAll() error }

// Pack is the one place where a message becomes an Any: validated by its own rules, since nothing looks inside an
// Any later, and marshalled deterministically.
func Pack(m proto.Message) (*anypb.Any, error) {
	b, err := Marshal(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: b}, nil
}

// Marshal is a message's deterministic bytes, after it has passed its own rules.
func Marshal(m proto.Message) ([]byte, error) {
	if v, ok := m.(validator); ok {
		if err := v.ValidateAll(); err != nil {
			return nil, err
		}
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("marshal %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return b, nil
}

// Enable switches a disabled filter on for a route, with per-route config of its own.
func Enable(out *routev3.Route, filter string, perRoute proto.Message) error {
	packed, err := Pack(perRoute)
	if err != nil {
		return err
	}
	return setPerFilter(out, filter, packed)
}

// Switch switches a disabled filter on for a route, with its config at the listener.
func Switch(out *routev3.Route, filter string) error {
	return Enable(out, filter, &routev3.FilterConfig{Config: &anypb.Any{}})
}

func setPerFilter(out *routev3.Route, filter string, packed *anypb.Any) error {
	if out.TypedPerFilterConfig == nil {
		out.TypedPerFilterConfig = map[string]*anypb.Any{}
	}
	if _, twice := out.TypedPerFilterConfig[filter]; twice {
		return fmt.Errorf("filter %s is configured twice on route %s", filter, out.GetName())
	}
	out.TypedPerFilterConfig[filter] = packed
	return nil
}
