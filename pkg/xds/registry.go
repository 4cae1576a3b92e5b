package xds

import (
	"container/list"
	"time"
)

// registry knows the nodes by id: those connected, and for a while those that are gone. Its owner locks.
type registry struct {
	keep  time.Duration
	most  int
	nodes map[string]*node
	gone  *list.List // of departure, the longest gone first
	left  map[*node]*list.Element
}

type departure struct {
	node *node
	at   time.Time
}

func newRegistry(keep time.Duration, most int) registry {
	return registry{keep: keep, most: most, nodes: map[string]*node{}, gone: list.New(), left: map[*node]*list.Element{}}
}

func (r *registry) find(id string) *node { return r.nodes[id] }

// connected makes n the node of its id.
func (r *registry) connected(n *node) {
	r.returned(r.nodes[n.info.id])
	r.nodes[n.info.id] = n
}

// disconnected remembers n as gone, if it still is the node of its id.
func (r *registry) disconnected(n *node, now time.Time) {
	if r.nodes[n.info.id] != n {
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
		delete(r.nodes, d.node.info.id)
	}
}
