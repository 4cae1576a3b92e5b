package xds_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// shape is a small configuration for fake Envoys: versions by name, a negative one is unacceptable.
type shape struct {
	clusters  map[string]int
	routes    map[string]int    // each names all clusters
	listeners map[string]string // listener → route
	badOnes   map[string]bool   // listeners
}

func marshal(m proto.Message) []byte {
	b, err := cachev3.MarshalResource(m)
	if err != nil {
		panic(err)
	}
	return b
}

func (s shape) snapshot() *snapshot.Snapshot {
	clusters, endpoints := map[string][]byte{}, map[string][]byte{}
	for name, v := range s.clusters {
		service := fmt.Sprintf("%s/%d", name, v)
		clusters[name] = marshal(&clusterv3.Cluster{
			Name: name, AltStatName: badMark(v < 0), ConnectTimeout: durationpb.New(time.Duration(v*v) * time.Second),
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{ServiceName: service},
		})
		endpoints[service] = marshal(&endpointv3.ClusterLoadAssignment{ClusterName: service})
	}
	listeners := map[string][]byte{}
	for name, route := range s.listeners {
		listeners[name] = marshal(&listenerv3.Listener{Name: name + badMark(s.badOnes[name]), StatPrefix: route})
	}
	return snapshot.New(map[string]*snapshot.Table{
		resource.ClusterType:  snapshot.NewTable(clusters),
		resource.EndpointType: snapshot.NewTable(endpoints),
		resource.RouteType:    snapshot.NewTable(s.routeBodies(clusters)),
		resource.ListenerType: snapshot.NewTable(listeners),
		resource.RuntimeType:  snapshot.NewTable(map[string][]byte{"sluice": marshal(&runtimev3.Runtime{Name: "sluice"})}),
	})
}

func (s shape) routeBodies(clusters map[string][]byte) map[string][]byte {
	out := map[string][]byte{}
	for name, v := range s.routes {
		host := &routev3.VirtualHost{Name: fmt.Sprint(v) + badMark(v < 0), Domains: []string{"*"}}
		for _, cluster := range slices.Sorted(maps.Keys(clusters)) {
			host.Routes = append(host.Routes, &routev3.Route{
				Name:   cluster + "=" + cachev3.HashResource(clusters[cluster]),
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}},
			})
		}
		out[name] = marshal(&routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{host}})
	}
	return out
}

func badMark(bad bool) string {
	if bad {
		return " unacceptable"
	}
	return ""
}

func coldCluster() *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: "cold", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{ServiceName: "cold"},
	}
}

// namedClusters are the clusters a route names, with the versions it was made for.
func namedClusters(body []byte) map[string]string {
	c := &routev3.RouteConfiguration{}
	out := map[string]string{}
	if proto.Unmarshal(body, c) != nil {
		return out
	}
	for _, h := range c.GetVirtualHosts() {
		for _, r := range h.GetRoutes() {
			if _, version, ok := strings.Cut(r.GetName(), "="); ok {
				out[r.GetRoute().GetCluster()] = version
			}
		}
	}
	return out
}
