// Package schema is the language as a JSON Schema, for editors and other tools. It is made from the types that the
// policies are decoded into, so that it cannot say anything else.
package schema

import (
	"maps"
	"slices"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

const draft = "https://json-schema.org/draft/2020-12/schema"

// Document is the schema of one document of any kind.
func Document(features feature.Set) *jsonschema.Schema {
	b := builder{features: features, out: &jsonschema.Schema{
		Version: draft, Title: "Sluice policy", Type: "object", Definitions: jsonschema.Definitions{},
		Description: "One document of a Sluice policy file.",
		Required:    []string{"apiVersion", "kind", "metadata", "spec"}, AdditionalProperties: jsonschema.FalseSchema,
	}}
	b.blocks()
	b.kinds()
	return b.out
}

type builder struct {
	features feature.Set
	out      *jsonschema.Schema
}

// blocks defines every feature's block once.
func (b builder) blocks() {
	for _, f := range b.features.All() {
		s := policy.TypeSchema(f.New())
		s.Description = f.Info().Summary
		b.out.Definitions[blockName(f.Info().Name)] = s
	}
}

func blockName(feature string) string { return "block." + feature }

// kinds defines every kind's spec, and which of them holds for a document.
func (b builder) kinds() {
	specs := b.coreSpecs()
	for _, k := range b.features.Kinds() {
		s := policy.TypeSchema(k.New())
		s.Description = k.Summary
		specs[k.Name] = s
	}
	properties := jsonschema.NewProperties()
	properties.Set("apiVersion", &jsonschema.Schema{Const: policy.APIVersion})
	properties.Set("kind", &jsonschema.Schema{Type: "string"})
	properties.Set("metadata", policy.TypeSchema(metadata{}))
	properties.Set("spec", jsonschema.TrueSchema)
	b.out.Properties = properties
	for _, kind := range slices.Sorted(maps.Keys(specs)) {
		kindSchema, _ := properties.Get("kind")
		kindSchema.Enum = append(kindSchema.Enum, kind)
		b.out.Definitions[kind] = specs[kind]
		b.out.AllOf = append(b.out.AllOf, when(kind))
	}
}

type metadata struct {
	Name string `json:"name" jsonschema:"required,pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=63" jsonschema_description:"Its name, unique among its kind."`
}

// when says that a document of the kind has the kind's spec.
func when(kind string) *jsonschema.Schema {
	is, then := jsonschema.NewProperties(), jsonschema.NewProperties()
	is.Set("kind", &jsonschema.Schema{Const: kind})
	then.Set("spec", &jsonschema.Schema{Ref: "#/$defs/" + kind})
	return &jsonschema.Schema{
		If:   &jsonschema.Schema{Properties: is, Required: []string{"kind"}},
		Then: &jsonschema.Schema{Properties: then},
	}
}

// summary says what a kind of the core's is for.
func summary(kind string) string {
	return map[string]string{
		compile.KindGateway:     "What a set of Envoys listens on, and what holds for everything that passes them.",
		compile.KindService:     "Something that routes send requests to, and how it is to be reached.",
		compile.KindRoute:       "Requests for some hosts, and where they go.",
		compile.KindPolicy:      "A bundle of blocks that hold as if they were written where it is used.",
		compile.KindTemplate:    "A route approved in advance, that a registration in Consul may opt in to.",
		compile.KindCertificate: "Where a certificate with its key is, or the authorities to trust.",
	}[kind]
}

// coreSpecs are the core's kinds, with the blocks that may stand on each.
func (b builder) coreSpecs() map[string]*jsonschema.Schema {
	on := map[string]feature.Place{
		compile.KindGateway: feature.Gateway | feature.Rule, compile.KindPolicy: feature.Gateway | feature.Rule,
		compile.KindService: feature.Service, compile.KindRoute: feature.Rule, compile.KindTemplate: feature.Rule | feature.Service,
	}
	out := map[string]*jsonschema.Schema{}
	for kind, spec := range compile.CoreKinds() {
		s := policy.TypeSchema(spec)
		s.Description = summary(kind)
		b.add(s, on[kind])
		if rules, ok := s.Properties.Get("rules"); ok {
			b.add(rules.Items, feature.Rule)
		}
		out[kind] = s
	}
	return out
}

// add lets the blocks of a place stand beside a struct's own fields.
func (b builder) add(to *jsonschema.Schema, on feature.Place) {
	for _, name := range b.features.NamesOn(on) {
		to.Properties.Set(name, &jsonschema.Schema{Ref: "#/$defs/" + blockName(name)})
	}
}
