package policy

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Unmarshaler is a type that reads itself from a node, gathering what is wrong. Implemented by pointers.
type Unmarshaler interface {
	UnmarshalNode(at At, p *Problems)
}

// Decode reads the value at a place into the pointer given, strictly: an unknown field, a value of another type, a
// missing required field or a value outside its bounds is a Problem, and decoding goes on. Fields are named by their
// json tag; their bounds stand in the jsonschema tag (required, enum=, minimum=, maximum=), from which the published
// schema is made too. What into holds beforehand are the defaults.
func Decode(at At, into any, p *Problems) {
	decodeValue(at, reflect.ValueOf(into).Elem(), p)
}

func decodeValue(at At, v reflect.Value, p *Problems) {
	if at.Node == nil {
		return
	}
	if u, ok := v.Addr().Interface().(Unmarshaler); ok {
		u.UnmarshalNode(at, p)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		decodeText(at, u, p)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		decodeValue(at, v.Elem(), p)
	case reflect.Struct:
		decodeStruct(at, v, p)
	case reflect.Slice:
		decodeSlice(at, v, p)
	case reflect.Map:
		decodeMap(at, v, p)
	default:
		decodeScalar(at, v, p)
	}
}

func decodeText(at At, u encoding.TextUnmarshaler, p *Problems) {
	if at.Node.Kind != Scalar {
		p.Errorf(at, CodeType, "%s is %s; a single value is wanted", at.Path, at.Node.Kind)
		return
	}
	if err := u.UnmarshalText([]byte(at.Node.Value)); err != nil {
		p.Errorf(at, CodeValue, "%s: %v", at.Path, err)
	}
}

func decodeStruct(at At, v reflect.Value, p *Problems) {
	if at.Node.Kind == Null {
		at.Node = &Node{Kind: Map, Line: at.Node.Line, Column: at.Node.Column}
	}
	if at.Node.Kind != Map {
		p.Errorf(at, CodeType, "%s is %s; a mapping is wanted", at.Path, at.Node.Kind)
		return
	}
	fields := structFields(v.Type())
	for _, f := range at.Node.Fields {
		known, ok := fields[f.Key]
		if !ok {
			if blocks, ok := blocksOf(v); ok {
				*blocks = append(*blocks, RawBlock{Name: f.Key, At: at.Field(f.Key), key: at.key(f)})
				continue
			}
			unknownField(p, at, f, fieldNames(fields))
			continue
		}
		decodeField(at.Field(f.Key), v.FieldByIndex(known.index), known, p)
	}
	for name, f := range fields {
		if f.required && at.Node.Get(name) == nil {
			p.Suggestf(at, CodeRequired, "add "+name+":", "%s is missing", at.Field(name).Path)
		}
	}
}

func decodeField(at At, v reflect.Value, f field, p *Problems) {
	if at.Node.Kind == Null && v.Kind() != reflect.Pointer && v.Kind() != reflect.Struct {
		if f.required {
			p.Errorf(at, CodeRequired, "%s is empty", at.Path)
		}
		return
	}
	decodeValue(at, v, p)
	f.check(at, v, p)
}

func decodeSlice(at At, v reflect.Value, p *Problems) {
	if at.Node.Kind != List {
		p.Suggestf(at, CodeType, "write it as a list: [ … ]", "%s is %s; a list is wanted", at.Path, at.Node.Kind)
		return
	}
	out := reflect.MakeSlice(v.Type(), len(at.Node.Items), len(at.Node.Items))
	for i := range at.Node.Items {
		decodeValue(at.Index(i), out.Index(i), p)
	}
	v.Set(out)
}

func decodeMap(at At, v reflect.Value, p *Problems) {
	if at.Node.Kind != Map {
		p.Errorf(at, CodeType, "%s is %s; a mapping is wanted", at.Path, at.Node.Kind)
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(at.Node.Fields))
	for _, f := range at.Node.Fields {
		item := reflect.New(v.Type().Elem()).Elem()
		decodeValue(at.Field(f.Key), item, p)
		out.SetMapIndex(reflect.ValueOf(f.Key).Convert(v.Type().Key()), item)
	}
	v.Set(out)
}

func decodeScalar(at At, v reflect.Value, p *Problems) {
	if at.Node.Kind != Scalar {
		p.Errorf(at, CodeType, "%s is %s; %s is wanted", at.Path, at.Node.Kind, wanted(v.Kind()))
		return
	}
	if err := setScalar(v, at.Node); err != nil {
		p.Errorf(at, CodeType, "%s is %q; %s is wanted", at.Path, shorten(at.Node.Value), wanted(v.Kind()))
	}
}

func setScalar(v reflect.Value, n *Node) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
		return nil
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		v.SetBool(b)
		return err
	case reflect.Int, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		v.SetInt(i)
		return err
	case reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(n.Value, 10, v.Type().Bits())
		v.SetUint(u)
		return err
	case reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, 64)
		v.SetFloat(f)
		return err
	}
	return fmt.Errorf("policy: no decoder for %s", v.Type())
}

func wanted(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a word"
	case reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// field is what a struct field's tags say.
type field struct {
	index    []int
	required bool
	enum     []string
	min, max *float64
}

var blocksType = reflect.TypeFor[Blocks]()

// structFields are a struct's fields by their YAML name, those of embedded structs among them.
func structFields(t reflect.Type) map[string]field {
	out := map[string]field{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "" || name == "-" || f.Type == blocksType {
			continue
		}
		out[name] = readTag(f)
	}
	return out
}

func readTag(f reflect.StructField) field {
	out := field{index: f.Index}
	for _, word := range strings.Split(f.Tag.Get("jsonschema"), ",") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "required":
			out.required = true
		case "enum":
			out.enum = append(out.enum, value)
		case "minimum":
			out.min = parseBound(value)
		case "maximum":
			out.max = parseBound(value)
		}
	}
	return out
}

func parseBound(s string) *float64 {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return &f
	}
	return nil
}

// check holds a decoded value against its tags' bounds.
func (f field) check(at At, v reflect.Value, p *Problems) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	f.checkEnum(at, v, p)
	var n float64
	switch v.Kind() {
	case reflect.Int, reflect.Int32, reflect.Int64:
		n = float64(v.Int())
	case reflect.Uint32, reflect.Uint64:
		n = float64(v.Uint())
	case reflect.Float64:
		n = v.Float()
	default:
		return
	}
	if f.min != nil && n < *f.min {
		p.Errorf(at, CodeValue, "%s is %v; at least %v is wanted", at.Path, n, *f.min)
	}
	if f.max != nil && n > *f.max {
		p.Errorf(at, CodeValue, "%s is %v; at most %v is allowed", at.Path, n, *f.max)
	}
}

func (f field) checkEnum(at At, v reflect.Value, p *Problems) {
	if len(f.enum) == 0 {
		return
	}
	if v.Kind() == reflect.Slice {
		for i := range v.Len() {
			f.checkEnum(at.Index(i), v.Index(i), p)
		}
		return
	}
	if v.Kind() == reflect.String && !slices.Contains(f.enum, v.String()) {
		p.Suggestf(at, CodeValue, suggestion(v.String(), f.enum), "%s is %q, which is not one of %s", at.Path, shorten(v.String()), strings.Join(f.enum, ", "))
	}
}

func fieldNames(fields map[string]field) []string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func unknownField(p *Problems, at At, f Field, known []string) {
	where := at.Path
	if where == "" {
		where = "a document"
	}
	p.Suggestf(at.key(f), CodeField, suggestion(f.Key, known), "%s has no field %q", where, shorten(f.Key))
}

// FieldNames are the names of the fields that a struct decodes, sorted.
func FieldNames(v any) []string { return fieldNames(structFields(reflect.TypeOf(v))) }
