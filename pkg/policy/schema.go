package policy

import "github.com/invopop/jsonschema"

// inlineSchema is the schema of one value's type, with nothing left to refer to.
func inlineSchema(v any) *jsonschema.Schema {
	return TypeSchema(v)
}

// TypeSchema is the JSON Schema of a type that Decode reads, made from the same tags.
func TypeSchema(v any) *jsonschema.Schema {
	r := jsonschema.Reflector{DoNotReference: true, Anonymous: true, RequiredFromJSONSchemaTags: true}
	s := r.Reflect(v)
	s.Version = ""
	return s
}
