// Package envoy starts Envoys: the bootstrap each one runs on, finding a binary, and a process that is waited for and
// ended properly.
package envoy

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"text/template"
)

// BootstrapVersion counts the changes of the template. An Envoy reports it under MetadataBootstrap, so that one
// running an older bootstrap can be told apart.
const BootstrapVersion = "2"

// Keys of the node's metadata.
const (
	MetadataBootstrap = "sluice.bootstrap" // string: the BootstrapVersion
	MetadataLabels    = "sluice.labels"    // struct of strings
)

// Names of the clusters that every bootstrap defines.
const (
	ClusterAgent   = "sluice-agent"   // the agent beside this Envoy
	ClusterXDS     = "sluice-xds"     // the xDS servers, the first preferred
	ClusterReports = "sluice-reports" // the same: load reports and access logs
)

// Default addresses and limits.
const (
	DefaultServer         = "127.0.0.1:18000"
	DefaultAgent          = "127.0.0.1:18001"
	DefaultAgentXDS       = "127.0.0.1:18003"
	DefaultAdmin          = "127.0.0.1:19000"
	DefaultMaxConnections = 50000
)

//go:embed bootstrap.yaml
var bootstrapText string

// Bootstrap is what differs between the bootstraps of two Envoys. Addresses are host:port, or unix:/path.
type Bootstrap struct {
	// Gateway is the name of the Gateway to serve. Required.
	Gateway string
	// Node is the Envoy's own id, unique in the fleet. Required.
	Node string
	// Labels travel in the node's metadata; region and zone also become its locality.
	Labels map[string]string
	// Servers are the xDS servers in the order they are tried. Empty means DefaultServer.
	Servers []string
	// TLS secures the connection to the xDS servers. Without it Servers must be on this host.
	TLS TLS
	// Agent is where the agent beside this Envoy listens. Empty means DefaultAgent.
	Agent string
	// AgentXDS is where that agent serves the last good configuration while no server answers. Empty means nowhere.
	AgentXDS string
	// Admin is where Envoy's admin interface listens. Empty means DefaultAdmin.
	Admin string
	// MaxConnections is how many client connections are open at once. 0 means DefaultMaxConnections.
	MaxConnections int
	// MaxHeapBytes is the heap near which Envoy frees memory, then refuses requests. 0 means no limit.
	MaxHeapBytes int64
}

// page is what the template sees.
type page struct {
	Gateway, Node, Version string
	Labels                 map[string]string
	Locality               map[string]string
	AdminAddress           any
	Runtime                map[string]any
	Clusters               []cluster
	MaxConnections         int
	MaxHeapBytes           int64
}

// YAML is the bootstrap as Envoy reads it. The same value gives the same bytes.
func (b Bootstrap) YAML() ([]byte, error) {
	b = b.withDefaults()
	if err := b.validate(); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	p, err := b.page()
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	t, err := template.New("bootstrap.yaml").Funcs(template.FuncMap{"json": toJSON}).Parse(bootstrapText)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return out.Bytes(), nil
}

// Runtime is the lowest runtime layer of every Envoy; the proof runs on the same.
func Runtime() map[string]any {
	return map[string]any{}
}

func (b Bootstrap) withDefaults() Bootstrap {
	if len(b.Servers) == 0 {
		b.Servers = []string{DefaultServer}
	}
	if b.Agent == "" {
		b.Agent = DefaultAgent
	}
	if b.Admin == "" {
		b.Admin = DefaultAdmin
	}
	if b.MaxConnections == 0 {
		b.MaxConnections = DefaultMaxConnections
	}
	if b.Labels == nil {
		b.Labels = map[string]string{}
	}
	return b
}

func (b Bootstrap) validate() error {
	switch {
	case b.Gateway == "":
		return errors.New("gateway is empty: name the Gateway this Envoy serves")
	case b.Node == "":
		return errors.New("node is empty: give this Envoy an id of its own")
	case b.MaxConnections < 0:
		return fmt.Errorf("max connections %d: must be positive", b.MaxConnections)
	case b.MaxHeapBytes < 0:
		return fmt.Errorf("max heap %d bytes: must not be negative", b.MaxHeapBytes)
	}
	return b.TLS.validate()
}

func (b Bootstrap) page() (page, error) {
	admin, err := parseAddress(b.Admin)
	if err != nil {
		return page{}, fmt.Errorf("admin address: %w", err)
	}
	if !admin.local() {
		return page{}, fmt.Errorf("admin address %s: must be on loopback or a unix socket, it has no authentication", b.Admin)
	}
	clusters, err := b.clusters()
	if err != nil {
		return page{}, err
	}
	return page{
		Gateway: b.Gateway, Node: b.Node, Version: BootstrapVersion,
		Labels: b.Labels, Locality: locality(b.Labels),
		AdminAddress: admin.proto(), Runtime: Runtime(),
		Clusters:       clusters,
		MaxConnections: b.MaxConnections, MaxHeapBytes: b.MaxHeapBytes,
	}, nil
}

func locality(labels map[string]string) map[string]string {
	l := map[string]string{}
	for _, key := range []string{"region", "zone"} {
		if v := labels[key]; v != "" {
			l[key] = v
		}
	}
	return l
}

// toJSON escapes no HTML: nobody reads a bootstrap in a browser, and paths and names stay readable.
func toJSON(v any) (string, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), nil
}
