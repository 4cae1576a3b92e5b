package snapshot

import (
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
)

// Consistent says whether Envoy would find everything it is told to ask for: the ClusterLoadAssignment of every EDS
// cluster, and the RouteConfiguration and the filter configs of every listener that takes them over RDS and ECDS. A
// missing one would leave the cluster or listener waiting. The error joins all that is missing. It decodes every cluster
// and listener.
func (s *Snapshot) Consistent() error {
	return errors.Join(s.clustersFindEndpoints(), s.listenersFindWhatTheyName())
}

func (s *Snapshot) clustersFindEndpoints() error {
	var errs []error
	clusters, endpoints := s.Table(resource.ClusterType), s.Table(resource.EndpointType)
	for _, name := range clusters.Names() {
		c := &clusterv3.Cluster{}
		if err := proto.Unmarshal(clusters.Body(name), c); err != nil {
			errs = append(errs, fmt.Errorf("cluster %s: %w", name, err))
			continue
		}
		if asked := assignmentName(c); asked != "" && endpoints.Version(asked) == "" {
			errs = append(errs, fmt.Errorf("cluster %s: no ClusterLoadAssignment %q in the snapshot", name, asked))
		}
	}
	return errors.Join(errs...)
}

// assignmentName is the EDS resource a cluster asks for, "" for a cluster of another type.
func assignmentName(c *clusterv3.Cluster) string {
	if c.GetType() != clusterv3.Cluster_EDS {
		return ""
	}
	if name := c.GetEdsClusterConfig().GetServiceName(); name != "" {
		return name
	}
	return c.GetName()
}

func (s *Snapshot) listenersFindWhatTheyName() error {
	var errs []error
	listeners, routes, filters := s.Table(resource.ListenerType), s.Table(resource.RouteType), s.Table(resource.ExtensionConfigType)
	for _, name := range listeners.Names() {
		managers, err := managers(listeners.Body(name))
		if err != nil {
			errs = append(errs, fmt.Errorf("listener %s: %w", name, err))
		}
		for _, m := range managers {
			if route := m.GetRds().GetRouteConfigName(); route != "" && routes.Version(route) == "" {
				errs = append(errs, fmt.Errorf("listener %s: no RouteConfiguration %q in the snapshot", name, route))
			}
			for _, f := range m.GetHttpFilters() {
				if f.GetConfigDiscovery() != nil && filters.Version(f.GetName()) == "" {
					errs = append(errs, fmt.Errorf("listener %s: no config of the filter %q in the snapshot", name, f.GetName()))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// managers are a listener's HTTP connection managers.
func managers(body []byte) ([]*hcmv3.HttpConnectionManager, error) {
	l := &listenerv3.Listener{}
	if err := proto.Unmarshal(body, l); err != nil {
		return nil, err
	}
	chains := l.GetFilterChains()
	if l.GetDefaultFilterChain() != nil {
		chains = append(chains, l.GetDefaultFilterChain())
	}
	var out []*hcmv3.HttpConnectionManager
	for _, chain := range chains {
		for _, f := range chain.GetFilters() {
			m := &hcmv3.HttpConnectionManager{}
			if !f.GetTypedConfig().MessageIs(m) {
				continue
			}
			if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
				return nil, fmt.Errorf("filter %s: %w", f.GetName(), err)
			}
			out = append(out, m)
		}
	}
	return out, nil
}
