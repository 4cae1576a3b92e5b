package policy

import "reflect"

// Blocks are the fields of a struct that it does not name itself: the features' blocks, still unread. A struct that
// has a field of this type takes any further key.
type Blocks []RawBlock

// RawBlock is one feature's block as written.
type RawBlock struct {
	Name string
	At   At
	key  At
}

// Unknown gathers that no feature has this name; known are the names that could stand there.
func (b RawBlock) Unknown(parent string, known []string, p *Problems) {
	p.Suggestf(b.key, CodeField, suggestion(b.Name, known), "%s has no field %q", parent, shorten(b.Name))
}

// Key is the place of the block's name.
func (b RawBlock) Key() At { return b.key }

func blocksOf(v reflect.Value) (*Blocks, bool) {
	for i := range v.NumField() {
		if v.Field(i).Type() == blocksType {
			return v.Field(i).Addr().Interface().(*Blocks), true
		}
	}
	return nil, false
}
