package xds

import (
	"slices"
	"strings"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// EnvoyTypes are the types of resources that Envoys are sent, in the order in which the responses of different types
// leave: what is named before what names it, except that Envoy asks for endpoints only after their cluster.
func EnvoyTypes() []string {
	return []string{
		resource.RuntimeType, resource.SecretType, resource.ClusterType, resource.EndpointType,
		resource.ExtensionConfigType, resource.ListenerType, resource.RouteType,
	}
}

// compareTypes sorts type URLs by EnvoyTypes, unknown ones last by name.
func compareTypes(a, b string) int {
	order := EnvoyTypes()
	i, j := slices.Index(order, a), slices.Index(order, b)
	switch {
	case i < 0 && j < 0:
		return strings.Compare(a, b)
	case i < 0:
		return 1
	case j < 0:
		return -1
	}
	return i - j
}

// switches says whether a type decides what traffic does, and so must wait until the others are there.
func switches(typeURL string) bool {
	return typeURL == resource.ListenerType || typeURL == resource.RouteType
}

// alone says whether each resource of a type gets a response of its own. Envoy's refusal of these does not name the
// resource, so that the nonce has to.
func alone(typeURL string) bool {
	switch typeURL {
	case resource.RouteType, resource.SecretType, resource.ExtensionConfigType, resource.RuntimeType:
		return true
	}
	return false
}

// legacyWildcard says whether a first request without names means everything. Secrets are never served that way.
func legacyWildcard(typeURL string) bool {
	return typeURL == resource.ClusterType || typeURL == resource.ListenerType
}

// agentTypes starts the type URLs of what agents are sent.
const agentTypes = "type.googleapis.com/sluice.agent.v1."

// shortType is a type URL as people and metric labels know it: cluster, listener, route, …
func shortType(typeURL string) string {
	switch typeURL {
	case resource.ClusterType:
		return "cluster"
	case resource.EndpointType:
		return "endpoint"
	case resource.ListenerType:
		return "listener"
	case resource.RouteType:
		return "route"
	case resource.SecretType:
		return "secret"
	case resource.ExtensionConfigType:
		return "extension_config"
	case resource.RuntimeType:
		return "runtime"
	}
	if own, ok := strings.CutPrefix(typeURL, agentTypes); ok {
		return "agent_" + strings.ToLower(own)
	}
	return "other"
}
