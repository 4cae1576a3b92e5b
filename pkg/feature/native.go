package feature

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// The abilities of blocks that Envoy may decide in the agent's stead. A route is decided in one place, whole: by Envoy
// when every Checker that holds there lets it, else by the agent. Blocks see by the route's Decider which it is.
type (
	// NativeChecker is a Checker that Envoy may decide. Its ConfigureRoute makes Envoy do so.
	NativeChecker interface {
		// WhyAgent is why the agent has to decide this one, "" where Envoy can.
		WhyAgent() string
	}
	// NativeAuthenticator is a NativeChecker that finds out who is calling.
	NativeAuthenticator interface {
		// NativeIdentity is where Envoy then says so.
		NativeIdentity() *model.Identity
	}
	// DeciderChooser is a block that may say who is to decide.
	DeciderChooser interface {
		// Decide is who, "" for whoever can.
		Decide() model.Decider
	}
	// FilterDiscoverer is a Feature with filters whose config grows with policies and data, and so comes over ECDS: no
	// listener changes with it.
	FilterDiscoverer interface {
		// DiscoverFilters are the configs by the filters' names, for all blocks of the feature that Envoy decides by, in
		// any order; data gives data by name, nil for what is not there. There is always one of each filter.
		DiscoverFilters(specs []any, data func(name string) []byte) (map[string]proto.Message, error)
	}
)

// AgentIdentity is where the agent says who is calling.
func AgentIdentity() *model.Identity {
	at := func(name string) []model.MetadataPath { return []model.MetadataPath{{name}} }
	return &model.Identity{
		Namespace: "envoy.filters.http.ext_authz",
		User:      at("user"), Plan: at("plan"), Issuer: at("issuer"),
		Permissions: at("permissions"), Scopes: at("scopes"), Roles: at("roles"),
	}
}

// Decide sets who decides on a route, and what follows from that.
func Decide(r *model.Route) (err error) {
	r.Decider, r.WhyAgent, r.Identity, r.Runtime, r.Native = "", "", nil, nil, nil
	if !slices.ContainsFunc(r.Attachments, func(a model.Attachment) bool { return atRuntime(a.Spec) }) {
		return nil
	}
	if r.WhyAgent = whyAgent(r.Attachments); r.WhyAgent == "" {
		r.Decider = model.Native
		r.Identity, r.Native = native(r.Attachments)
		return nil
	}
	r.Decider, r.Identity = model.Agent, AgentIdentity()
	r.Runtime, err = Runtime(r.Attachments)
	return err
}

// whyAgent is why the agent has to decide on a route, "" where Envoy can.
func whyAgent(attachments []model.Attachment) string {
	var reasons []string
	identified := false
	for _, a := range attachments {
		if d, ok := a.Spec.(DeciderChooser); ok && d.Decide() == model.Agent {
			return "decide: agent"
		}
		if !atRuntime(a.Spec) {
			continue
		}
		n, ok := a.Spec.(NativeChecker)
		switch {
		case !ok:
			reasons = append(reasons, a.Feature+" is decided by agents only")
		case n.WhyAgent() != "":
			reasons = append(reasons, n.WhyAgent())
		}
		_, is := a.Spec.(NativeAuthenticator)
		identified = identified || is
	}
	if len(reasons) == 0 && !identified {
		return "nobody is authenticated here"
	}
	return strings.Join(reasons, "; ")
}

// native is what Envoy decides by.
func native(attachments []model.Attachment) (id *model.Identity, data []model.Data) {
	for _, a := range attachments {
		if n, ok := a.Spec.(NativeAuthenticator); ok && atRuntime(a.Spec) {
			id = n.NativeIdentity()
		}
		if u, ok := a.Spec.(DataUser); ok && atRuntime(a.Spec) {
			data = append(data, u.Data()...)
		}
	}
	return id, data
}

// NativeSpecs are the blocks of routes that Envoy decides by, by feature, each once, in the order of their digests.
func NativeSpecs(routes iter.Seq[*model.Route]) map[string]map[string]any {
	out := map[string]map[string]any{}
	for r := range routes {
		if r.Decider != model.Native {
			continue
		}
		for _, a := range r.Attachments {
			if !atRuntime(a.Spec) {
				continue
			}
			if out[a.Feature] == nil {
				out[a.Feature] = map[string]any{}
			}
			out[a.Feature][a.Digest] = a.Spec
		}
	}
	return out
}

// ClaimPaths are the places below at where a claim of a name may be, in the order in which they are tried: a name with
// a dot is first a name, then leads into an object.
func ClaimPaths(at model.MetadataPath, name string) []model.MetadataPath {
	out := []model.MetadataPath{append(slices.Clone(at), name)}
	if first, rest, ok := strings.Cut(name, "."); ok && first != "" && rest != "" {
		out = append(out, ClaimPaths(append(slices.Clone(at), first), rest)...)
	}
	return out
}

// CheckDecider is what is wrong with a block's wish that Envoy decide.
func CheckDecider(attachments []model.Attachment) error {
	for _, a := range attachments {
		d, ok := a.Spec.(DeciderChooser)
		if !ok || d.Decide() != model.Native || !atRuntime(a.Spec) {
			continue
		}
		if why := whyAgent(attachments); why != "" {
			return fmt.Errorf("Envoy cannot decide by itself: %s", why)
		}
	}
	return nil
}
