package snapshot

import "github.com/sluice-gateway/sluice/pkg/feature"

// Build versions a gateway's resources. Tables equal to those of the previous snapshot, which may be nil, are shared
// with it, so that the work is proportional to what changed.
func Build(resources feature.Resources, previous *Snapshot) *Snapshot {
	tables := make(map[string]*Table, len(resources))
	for url, bodies := range resources {
		tables[url] = Renew(previous.Table(url), bodies)
	}
	return New(tables)
}
