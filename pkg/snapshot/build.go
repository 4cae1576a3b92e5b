package snapshot

import "github.com/sluice-gateway/sluice/pkg/feature"

// Build versions a gateway's resources. Tables equal to those of the previous snapshot, which may be nil, are shared
// with it.
func Build(resources feature.Resources, previous *Snapshot) (*Snapshot, error) {
	tables := make(map[string]*Table, len(resources))
	for url, bodies := range resources {
		tables[url] = Renew(previous.Table(url), bodies)
	}
	s := New(tables)
	return s, s.Consistent()
}
