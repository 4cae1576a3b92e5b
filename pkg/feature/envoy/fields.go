package envoy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// writtenField is a field that was written, whatever its value.
type writtenField struct {
	field protoreflect.FieldDescriptor
	raw   json.RawMessage
}

// fieldsOf are the fields that were written, by their number. The JSON is asked, not the message: a message cannot
// tell a false that was written from one that was not.
func fieldsOf(raw json.RawMessage, d protoreflect.MessageDescriptor) ([]writtenField, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name(), err)
	}
	var out []writtenField
	for name, value := range fields {
		fd := d.Fields().ByJSONName(name)
		if fd == nil {
			fd = d.Fields().ByTextName(name)
		}
		if fd != nil && string(value) != "null" {
			out = append(out, writtenField{fd, value})
		}
	}
	slices.SortFunc(out, func(a, b writtenField) int { return int(a.field.Number()) - int(b.field.Number()) })
	return out, nil
}

// mergeMessage carries what was written from one message into another: values replace, a false and a zero too;
// messages merge field by field; lists grow; maps gain or replace keys.
func mergeMessage(raw json.RawMessage, from, into protoreflect.Message) error {
	written, err := fieldsOf(raw, from.Descriptor())
	if err != nil {
		return err
	}
	for _, w := range written {
		switch fd := w.field; {
		case fd.IsList():
			list := into.Mutable(fd).List()
			for i := range from.Get(fd).List().Len() {
				list.Append(from.Get(fd).List().Get(i))
			}
		case fd.IsMap():
			keys := into.Mutable(fd).Map()
			from.Get(fd).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				keys.Set(k, v)
				return true
			})
		case fd.Message() == nil || wholeValue(fd.Message()) || !into.Has(fd):
			into.Set(fd, from.Get(fd))
		default:
			if err := mergeMessage(w.raw, from.Get(fd).Message(), into.Mutable(fd).Message()); err != nil {
				return err
			}
		}
	}
	return nil
}

// wholeValue tells whether a message is one value to whoever writes it: a duration, a truth value, an Any.
func wholeValue(d protoreflect.MessageDescriptor) bool {
	return strings.HasPrefix(string(d.FullName()), "google.protobuf.")
}
