package xds

import (
	"slices"
	"sync"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// mostDiffs is how many differences are remembered: those of the last few publishes of some dozen gateways.
const mostDiffs = 256

// diffs remembers how tables differ, so that a thousand nodes that make the same step share one comparison.
type diffs struct {
	mu    sync.Mutex
	known map[[2]string][]string
	order [][2]string
}

// between is snapshot.Diff, remembered. The answer is shared but may be appended to.
func (d *diffs) between(a, b *snapshot.Table) []string {
	key := [2]string{a.Digest(), b.Digest()}
	if key[0] == key[1] {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	names, ok := d.known[key]
	if !ok {
		names = snapshot.Diff(a, b)
		d.remember(key, names)
	}
	return slices.Clip(names)
}

func (d *diffs) remember(key [2]string, names []string) {
	if d.known == nil {
		d.known = map[[2]string][]string{}
	}
	if len(d.order) >= mostDiffs {
		delete(d.known, d.order[0])
		d.order = slices.Delete(d.order, 0, 1)
	}
	d.known[key] = names
	d.order = append(d.order, key)
}
