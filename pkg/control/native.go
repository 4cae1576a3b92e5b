package control

import (
	"time"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/translate"
)

// lingers is how long Envoy is still told how to decide on routes that are gone: one that is a switch of routes behind
// would refuse their requests otherwise. What no route names decides nothing.
const lingers = time.Minute

// lingering are blocks of routes that have been replaced.
type lingering struct {
	gateway string
	blocks  translate.NativeBlocks
	until   time.Time
}

// addNative adds the configs of filters that decide by themselves, with the keys of the moment: for the routes of a build,
// and for those that it replaces.
func (c *Controller) addNative(out feature.Resources, gateway string, b *Build) error {
	blocks := b.native[gateway]
	if serving := c.serving.Load(); serving != nil {
		blocks = blocks.And(serving.native[gateway])
	}
	now := time.Now()
	for _, l := range c.lingering {
		if l.gateway == gateway && now.Before(l.until) {
			blocks = blocks.And(l.blocks)
		}
	}
	return c.translator.Discovered(blocks, c.keyData, out)
}

func (c *Controller) keyData(name string) []byte {
	if c.Keys == nil {
		return nil
	}
	body, _ := c.Keys.Get(name)
	return body
}

// linger keeps what a build is about to replace.
func (c *Controller) linger(old, next *Build) {
	now := time.Now()
	var kept []lingering
	for _, l := range c.lingering {
		if now.Before(l.until) {
			kept = append(kept, l)
		}
	}
	if old != nil {
		for gateway, blocks := range old.native {
			if gone := blocks.Without(next.native[gateway]); len(gone) > 0 {
				kept = append(kept, lingering{gateway, gone, now.Add(lingers)})
			}
		}
	}
	c.lingering = kept
}
