package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

type bootstrapOptions struct {
	envoy.Bootstrap
	labels  []string
	maxHeap string
}

func newBootstrapCommand(a *app) *cobra.Command {
	var o bootstrapOptions
	cmd := &cobra.Command{
		Use:   "bootstrap --gateway NAME",
		Short: "Print what an Envoy is started with",
		Long: `Prints the bootstrap of one Envoy. It is complete: a change of policy never needs another one.
Each Envoy needs a --node of its own; it is the host's name when left out.

For a control plane on another host, sluice certs node makes the certificate. With --tls-secrets Envoy takes new ones without
a restart, if each file is put in place by a rename, as sluice certs renew and mv do.`,
		Example: `  sluice bootstrap --gateway edge --label zone=a > envoy.yaml && envoy -c envoy.yaml
  sluice bootstrap --gateway edge --xds 10.0.0.5:18000 --xds 10.0.1.5:18000 \
    --tls-ca /etc/sluice/ca.crt --tls-cert /etc/sluice/edge-1.crt --tls-key /etc/sluice/edge-1.key --tls-secrets /etc/sluice`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return bootstrap(a, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.Gateway, "gateway", "", "the Gateway to serve (required)")
	f.StringVar(&o.Node, "node", "", "this Envoy's own id (default: the host's name)")
	f.StringArrayVar(&o.labels, "label", nil, "a label, key=value; region and zone also become the locality; may be repeated")
	f.StringArrayVar(&o.Servers, "xds", nil, "a sluice serve, host:port or unix:/path, in the order they are tried; may be repeated (default "+envoy.DefaultServer+")")
	f.StringVar(&o.Agent, "agent", "", "the agent beside this Envoy (default "+envoy.DefaultAgent+")")
	f.StringVar(&o.AgentXDS, "agent-xds", envoy.DefaultAgentXDS, "where that agent serves the last good configuration while no sluice serve answers; or none")
	f.StringVar(&o.Admin, "admin", "", "where Envoy's admin interface listens (default "+envoy.DefaultAdmin+")")
	f.IntVar(&o.MaxConnections, "max-connections", envoy.DefaultMaxConnections, "how many client connections are open at once")
	f.StringVar(&o.maxHeap, "max-heap", "", "the heap near which Envoy frees memory, then refuses requests: 1GiB (default: no limit)")
	f.StringVar(&o.TLS.CA, "tls-ca", "", "file on Envoy's machine with the CA of the xDS servers")
	f.StringVar(&o.TLS.Certificate, "tls-cert", "", "file on Envoy's machine with its certificate")
	f.StringVar(&o.TLS.Key, "tls-key", "", "file on Envoy's machine with its key")
	f.StringVar(&o.TLS.ServerName, "tls-server-name", "", "the name in the servers' certificate (default: the host of each address)")
	f.StringVar(&o.TLS.SecretsDir, "tls-secrets", "", "folder to write two small files to, by which Envoy follows new certificates; the same on Envoy's machine (default: it reads certificates once)")
	return cmd
}

func bootstrap(a *app, o bootstrapOptions) error {
	if o.Gateway == "" {
		return errors.New("--gateway is missing: name the Gateway that this Envoy serves")
	}
	if o.AgentXDS == none {
		o.AgentXDS = ""
	}
	labels, err := parseLabels(o.labels)
	if err != nil {
		return err
	}
	o.Labels = labels
	if o.maxHeap != "" {
		var size policy.Size
		if err := size.UnmarshalText([]byte(o.maxHeap)); err != nil {
			return fmt.Errorf("--max-heap: %w", err)
		}
		o.MaxHeapBytes = int64(size)
	}
	if o.Node == "" {
		if o.Node, err = os.Hostname(); err != nil {
			return fmt.Errorf("the host has no name (%w): give --node", err)
		}
	}
	text, err := o.YAML()
	if err != nil {
		return err
	}
	if err := a.writeSecrets(o.TLS); err != nil {
		return err
	}
	_, err = a.stdout.Write(text)
	return err
}

// writeSecrets writes what has Envoy read its certificates again. It holds none.
func (a *app) writeSecrets(tls envoy.TLS) error {
	if tls.SecretsDir == "" {
		if tls.Certificate != "" {
			fmt.Fprintln(a.stderr, "note: Envoy will take a new certificate only when it is restarted; with --tls-secrets FOLDER it takes it at once")
		}
		return nil
	}
	files, err := tls.Secrets()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(name, files[name], 0o644); err != nil {
			return fmt.Errorf("--tls-secrets: %w", err)
		}
	}
	return nil
}

func parseLabels(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, label := range list {
		key, value, ok := strings.Cut(label, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--label %q is not key=value", label)
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("--label %s stands twice", key)
		}
		out[key] = value
	}
	return out, nil
}
