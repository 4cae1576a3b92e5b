package snapshot

import (
	"maps"
	"slices"
)

// Diff names the resources of which the two tables hold different versions, or that only one of them holds; sorted.
// Tables with equal digests are not looked into.
func Diff(a, b *Table) []string {
	if a.Digest() == b.Digest() || a.Len()+b.Len() == 0 {
		return nil
	}
	names := map[string]struct{}{}
	collectChanged(names, a, b)
	collectChanged(names, b, a)
	return slices.Sorted(maps.Keys(names))
}

func collectChanged(into map[string]struct{}, of, against *Table) {
	if of == nil {
		return
	}
	for name, version := range of.versions {
		if against.Version(name) != version {
			into[name] = struct{}{}
		}
	}
}
