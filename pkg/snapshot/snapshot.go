// Package snapshot holds what one gateway's Envoys are to have: ready bytes of every resource, versioned by their
// content. A Snapshot never changes once built, so that thousands of nodes and several phases can share its parts.
package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Table is the immutable set of resources of one type. The zero value and nil are empty tables.
type Table struct {
	resources map[string]types.ResourceWithTTL
	bodies    map[string][]byte
	versions  map[string]string
	version   string
}

// NewTable takes ready bytes by resource name; the caller hands the map over. Each version is
// cachev3.HashResource of the bytes, as the delta protocol's server computes it.
func NewTable(bodies map[string][]byte) *Table {
	t := &Table{
		resources: make(map[string]types.ResourceWithTTL, len(bodies)),
		bodies:    bodies,
		versions:  make(map[string]string, len(bodies)),
	}
	for name, body := range bodies {
		t.resources[name] = readyResource(body)
		t.versions[name] = cachev3.HashResource(body)
	}
	t.version = digest(t.versions)
	return t
}

// Len is the number of resources.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return len(t.versions)
}

// Names are the resources' names, sorted.
func (t *Table) Names() []string {
	if t == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(t.versions))
}

// Version is the content hash of the named resource, "" when it is not there.
func (t *Table) Version(name string) string {
	if t == nil {
		return ""
	}
	return t.versions[name]
}

// Body is the named resource as deterministic protobuf bytes, nil when it is not there. Not to be changed.
func (t *Table) Body(name string) []byte {
	if t == nil {
		return nil
	}
	return t.bodies[name]
}

// Digest is the content hash over all names and versions; two tables with equal digests are equal.
func (t *Table) Digest() string {
	if t == nil {
		return ""
	}
	return t.version
}

// Overlay is the union of base and top; where both have a name, top's resource holds. An argument that already is
// the answer is returned itself.
func Overlay(base, top *Table) *Table {
	if base.Len() == 0 || base.Digest() == top.Digest() {
		return top
	}
	if top.Len() == 0 {
		return base
	}
	u := &Table{resources: maps.Clone(base.resources), bodies: maps.Clone(base.bodies), versions: maps.Clone(base.versions)}
	maps.Copy(u.resources, top.resources)
	maps.Copy(u.bodies, top.bodies)
	maps.Copy(u.versions, top.versions)
	u.version = digest(u.versions)
	return u
}

// Change is the table with some resources added or changed, and others removed.
func (t *Table) Change(changed map[string][]byte, removed []string) *Table {
	bodies := map[string][]byte{}
	if t != nil {
		maps.Copy(bodies, t.bodies)
	}
	maps.Copy(bodies, changed)
	for _, name := range removed {
		delete(bodies, name)
	}
	return Renew(t, bodies)
}

// Snapshot is one table for each resource type. It implements cachev3.ResourceSnapshot.
type Snapshot struct {
	tables map[string]*Table
	digest string
}

var _ cachev3.ResourceSnapshot = (*Snapshot)(nil)

// New makes a snapshot of tables by type URL; the caller hands the map over.
func New(tables map[string]*Table) *Snapshot {
	sums := make(map[string]string, len(tables))
	for url, t := range tables {
		if t.Len() > 0 {
			sums[url] = t.Digest()
		}
	}
	return &Snapshot{tables: tables, digest: digest(sums)}
}

// Table is the table of a type, nil when there is none.
func (s *Snapshot) Table(typeURL string) *Table {
	if s == nil {
		return nil
	}
	return s.tables[typeURL]
}

// Types are the type URLs that have a table, sorted.
func (s *Snapshot) Types() []string {
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.tables))
}

// With is the snapshot with the table of one type replaced.
func (s *Snapshot) With(typeURL string, t *Table) *Snapshot {
	tables := map[string]*Table{}
	if s != nil {
		tables = maps.Clone(s.tables)
	}
	tables[typeURL] = t
	return New(tables)
}

// Digest is the content hash of everything in the snapshot.
func (s *Snapshot) Digest() string {
	if s == nil {
		return ""
	}
	return s.digest
}

// GetVersion implements cachev3.ResourceSnapshot.
func (s *Snapshot) GetVersion(typeURL string) string { return s.Table(typeURL).Digest() }

// GetResourcesAndTTL implements cachev3.ResourceSnapshot. The map is shared: not to be changed.
func (s *Snapshot) GetResourcesAndTTL(typeURL string) map[string]types.ResourceWithTTL {
	if t := s.Table(typeURL); t != nil {
		return t.resources
	}
	return nil
}

// GetResources implements cachev3.ResourceSnapshot.
func (s *Snapshot) GetResources(typeURL string) map[string]types.Resource {
	all := s.GetResourcesAndTTL(typeURL)
	out := make(map[string]types.Resource, len(all))
	for name, r := range all {
		out[name] = r.Resource
	}
	return out
}

// ConstructVersionMap implements cachev3.ResourceSnapshot; versions are there from the start.
func (s *Snapshot) ConstructVersionMap() error { return nil }

// GetVersionMap implements cachev3.ResourceSnapshot. The map is shared: not to be changed.
func (s *Snapshot) GetVersionMap(typeURL string) map[string]string {
	if t := s.Table(typeURL); t != nil {
		return t.versions
	}
	return nil
}

// readyResource wraps bytes as a message that marshals to exactly them: unknown fields of an empty message. The
// type URL on the wire is the requested one, whatever the Go type.
func readyResource(body []byte) types.ResourceWithTTL {
	e := &emptypb.Empty{}
	e.ProtoReflect().SetUnknown(body)
	return types.ResourceWithTTL{Resource: e}
}

func digest(versions map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		h.Write([]byte(name))
		h.Write([]byte{0})
		h.Write([]byte(versions[name]))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Renew is NewTable, but takes versions from the previous table where the bytes are the same ones, and is the previous
// table itself where all of them are.
func Renew(previous *Table, bodies map[string][]byte) *Table {
	if previous == nil {
		return NewTable(bodies)
	}
	if len(bodies) == previous.Len() && maps.EqualFunc(bodies, previous.bodies, bytes.Equal) {
		return previous
	}
	t := &Table{
		resources: make(map[string]types.ResourceWithTTL, len(bodies)),
		bodies:    bodies,
		versions:  make(map[string]string, len(bodies)),
	}
	for name, body := range bodies {
		if old := previous.bodies[name]; old != nil && bytes.Equal(old, body) {
			t.resources[name], t.versions[name] = previous.resources[name], previous.versions[name]
			continue
		}
		t.resources[name], t.versions[name] = readyResource(body), cachev3.HashResource(body)
	}
	t.version = digest(t.versions)
	return t
}
