package xds

import (
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// emptyAssignment is a ClusterLoadAssignment without endpoints, as bytes. Names that are not UTF-8 do not reach it:
// the request that holds them is not decoded.
func emptyAssignment(name string) []byte {
	body, err := cachev3.MarshalResource(&endpointv3.ClusterLoadAssignment{ClusterName: name})
	if err != nil {
		return nil
	}
	return body
}

func emptyAssignmentVersion(name string) string { return cachev3.HashResource(emptyAssignment(name)) }
