package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

type translateOptions struct {
	policies policyFlags
	output   format
	types    []string
	gateway  string
}

func newTranslateCommand(a *app) *cobra.Command {
	var o translateOptions
	cmd := &cobra.Command{
		Use:   "translate -f FILE|FOLDER|-",
		Short: "Print the Envoy configuration that policies become",
		Long: `Prints the Envoy resources that policies become, by gateway and type, by the same code that serves them.
Needs neither a server nor an Envoy.`,
		Example: `  sluice translate -f policies
  sluice translate -f policies --type routes --type clusters --gateway edge -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return translate(cmd.Context(), a, o) },
	}
	o.policies.add(cmd)
	addOutput(cmd, &o.output)
	cmd.Flags().StringSliceVar(&o.types, "type", nil, "only resources of this type: "+strings.Join(typeNames(), ", "))
	cmd.Flags().StringVar(&o.gateway, "gateway", "", "only this Gateway")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(typeNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// resourceTypes are the types by the name that people give them.
func resourceTypes() map[string]string {
	return map[string]string{
		"listeners": resource.ListenerType, "routes": resource.RouteType, "clusters": resource.ClusterType,
		"endpoints": resource.EndpointType, "secrets": resource.SecretType, "filters": resource.ExtensionConfigType,
		"runtime": resource.RuntimeType,
	}
}

func typeNames() []string { return slices.Sorted(maps.Keys(resourceTypes())) }

func translate(ctx context.Context, a *app, o translateOptions) error {
	for _, t := range o.types {
		if resourceTypes()[t] == "" {
			return fmt.Errorf("--type %q is not one of %s", t, strings.Join(typeNames(), ", "))
		}
	}
	b, err := a.mustBuild(ctx, o.policies)
	if err != nil {
		return err
	}
	if err := hasGateway(b, o.gateway); err != nil {
		return err
	}
	out := map[string]map[string][]json.RawMessage{}
	for name, s := range b.Snapshots {
		if o.gateway != "" && o.gateway != name {
			continue
		}
		if out[name], err = resources(s, o.types); err != nil {
			return fmt.Errorf("gateway %s: %w", name, err)
		}
	}
	if o.output == jsonForm {
		return writeJSON(a.stdout, out)
	}
	return writeYAML(a.stdout, out)
}

func hasGateway(b *control.Build, name string) error {
	names := slices.Sorted(maps.Keys(b.Snapshots))
	if name == "" || slices.Contains(names, name) {
		return nil
	}
	if near := policy.Nearest(name, names); near != "" {
		return fmt.Errorf("there is no Gateway %q: did you mean %s?", name, near)
	}
	return fmt.Errorf("there is no Gateway %q; there are: %s", name, strings.Join(names, ", "))
}

// resources are a snapshot's resources of some types, or all, by the types' names.
func resources(s *snapshot.Snapshot, types []string) (map[string][]json.RawMessage, error) {
	out := map[string][]json.RawMessage{}
	for name, url := range resourceTypes() {
		t := s.Table(url)
		if t.Len() == 0 || len(types) > 0 && !slices.Contains(types, name) {
			continue
		}
		for _, key := range t.Names() {
			body, err := resourceJSON(url, t.Body(key))
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", name, key, err)
			}
			out[name] = append(out[name], body)
		}
	}
	return out, nil
}

// resourceJSON is one resource as Envoy's documentation writes it.
func resourceJSON(url string, body []byte) (json.RawMessage, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByURL(url)
	if err != nil {
		return nil, err
	}
	m := kind.New().Interface()
	if err := proto.Unmarshal(body, m); err != nil {
		return nil, err
	}
	return protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
}
