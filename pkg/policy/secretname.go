package policy

import (
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// SecretName names a secret of the store. Every field that does so is of this type: SecretNames finds them.
type SecretName string

// UnmarshalNode reads it. Its Problem does not show the value: a secret may stand there by mistake.
func (s *SecretName) UnmarshalNode(at At, p *Problems) {
	if at.Node.Kind == Scalar && ValidName(at.Node.Value) {
		*s = SecretName(at.Node.Value)
		return
	}
	problem := at.problem(Error, CodeValue, "use lower-case letters, digits and dashes, at most 63: sluice secrets list shows the names that there are",
		at.Path+" is not the name of a secret")
	problem.hides = lines(at.Node)
	p.Add(problem)
}

// JSONSchema describes it.
func (SecretName) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
}

// NamedSecret is a place that names a secret of the store.
type NamedSecret struct {
	Name string
	At   At
}

// SecretNames are the places in a decoded value that name secrets of the store. At is where the value was read from.
func SecretNames(at At, value any) []NamedSecret {
	var out []NamedSecret
	findNames(at, reflect.ValueOf(value), &out)
	return out
}

func findNames(at At, v reflect.Value, out *[]NamedSecret) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			findNames(at, v.Elem(), out)
		}
	case reflect.Struct:
		findInFields(at, v, out)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			findNames(at.Index(i), v.Index(i), out)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			findNames(at.Field(key.String()), v.MapIndex(key), out)
		}
	case reflect.String:
		if v.Type() == reflect.TypeFor[SecretName]() && v.String() != "" {
			*out = append(*out, NamedSecret{v.String(), at})
		}
	}
}

func findInFields(at At, v reflect.Value, out *[]NamedSecret) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Type == reflect.TypeFor[Secret]() && name == "": // what a value was read into that has a form of its own
			findNames(at, v.Field(i), out)
		case !f.IsExported() || name == "-":
		case f.Anonymous && name == "":
			findNames(at, v.Field(i), out)
		default:
			findNames(at.Field(name), v.Field(i), out)
		}
	}
}
