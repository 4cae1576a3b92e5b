package model

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// The names of Envoy's resources. They are public: dashboards, logs and `envoy:` blocks name them.

// maxName is what Envoy's stats and logs bear well.
const maxName = 120

// ListenerName is gateway/listener.
func ListenerName(gateway, listener string) string { return shorten(gateway + "/" + listener) }

// RouteTableName is the name of a gateway's one route configuration.
func RouteTableName(gateway string) string { return gateway }

// RouteName is route/rule.
func RouteName(route, rule string) string { return shorten(route + "/" + rule) }

// ClusterName is the service's own name.
func ClusterName(service string) string { return shorten(service) }

// RegisteredName is template/service: the cluster and the route of a service that opted in to a template.
func RegisteredName(template, service string) string { return shorten(template + "/" + service) }

// EndpointsName is the name under which Envoy asks for a cluster's endpoints. It holds the digest of the cluster's
// config: Envoy takes a changed cluster into use only when its endpoints arrive once more.
func EndpointsName(cluster, digest string) string {
	return cluster + "@" + digest[:min(len(digest), 12)]
}

// OwnPrefix starts the names of the routes that Sluice adds by itself: no route of a policy can have such a name.
const OwnPrefix = "sluice/"

// shorten keeps a name readable and unique when it is too long.
func shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.TrimRight(name[:maxName-9], "/-") + "-" + hex.EncodeToString(sum[:4])
}
