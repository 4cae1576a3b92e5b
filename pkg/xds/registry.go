package xds

import (
	"container/list"
	"time"
)

// registry knows the nodes by gateway and id: those connected, and for a while those that are gone. Its owner locks.
type registry struct {
	keep  time.Duration
	most  int
	nodes map[nodeKey]*node
	gone  *list.List // of departure, the longest gone first
	left  map[*node]*list.Element
}

// nodeKey tells nodes apart. One that calls itself like a node of another gateway is another node.
type nodeKey struct{ gateway, id string }

type departure struct {
	node *node
	at   time.Time
}

func newRegistry(keep time.Duration, most int) registry {
	return registry{keep: keep, most: most, nodes: map[nodeKey]*node{}, gone: list.New(), left: map[*node]*list.Element{}}
}

func (r *registry) find(k nodeKey) *node { return r.nodes[k] }

// connected makes n the node of its id.
func (r *registry) connected(n *node) {
	r.returned(r.nodes[n.info.key()])
	r.nodes[n.info.key()] = n
}

// disconnected remembers n as gone, if it still is the node of its id.
func (r *registry) disconnected(n *node, now time.Time) {
	if r.nodes[n.info.key()] != n {
		return
	}
	r.left[n] = r.gone.PushBack(departure{node: n, at: now})
	r.prune(now)
}

func (r *registry) returned(n *node) {
	if e, ok := r.left[n]; ok {
		r.gone.Remove(e)
		delete(r.left, n)
	}
}

// prune forgets those who are gone too long, and the longest gone of too many.
func (r *registry) prune(now time.Time) {
	for e := r.gone.Front(); e != nil; e = r.gone.Front() {
		d := e.Value.(departure)
		if now.Sub(d.at) < r.keep && r.gone.Len() <= r.most {
			return
		}
		r.returned(d.node)
		delete(r.nodes, d.node.info.key())
	}
}
