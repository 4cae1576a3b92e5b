// Package catalog holds the services that a registry knows, and the one way in which sources of them report: complete
// at first, then what changed. It knows no registry, no policy and no Envoy.
package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Key is what a policy asks a registry for. Two equal keys are one watch. Fields other than Service narrow what is
// asked for; empty ones do not.
type Key struct {
	// Service is the registered name.
	Service string `json:"service"`
	// Tags must all be on an instance.
	Tags Tags `json:"tags,omitempty"`
	// Datacenter is where to look; empty means the agent's own.
	Datacenter string `json:"datacenter,omitempty"`
	// Filter is an expression in the registry's own language.
	Filter string `json:"filter,omitempty"`
	// OnlyPassing leaves out instances with a warning, too.
	OnlyPassing bool `json:"onlyPassing,omitempty"`
	// Near names a node ("_agent" is the agent's own) by the distance to which instances get their Rank.
	Near string `json:"near,omitempty"`
	// Namespace and Partition are Consul Enterprise's.
	Namespace string `json:"namespace,omitempty"`
	Partition string `json:"partition,omitempty"`
}

// String names the key for people: the service, and what narrows it.
func (k Key) String() string {
	text := k.Service
	for _, part := range [][2]string{{"datacenter", k.Datacenter}, {"tags", strings.Join(k.Tags.List(), ",")}, {"filter", k.Filter},
		{"near", k.Near}, {"namespace", k.Namespace}, {"partition", k.Partition}} {
		if part[1] != "" {
			text += " " + part[0] + "=" + part[1]
		}
	}
	if k.OnlyPassing {
		text += " onlyPassing"
	}
	return text
}

// Compare orders keys, by service first.
func (k Key) Compare(other Key) int {
	if n := strings.Compare(k.Service, other.Service); n != 0 {
		return n
	}
	return strings.Compare(k.String(), other.String())
}

// Tags is a set of tags in a form that can be compared: sorted, each once, separated by newlines.
type Tags string

// TagsOf makes the set; a tag that is empty or holds a newline cannot be asked for and is left out.
func TagsOf(tags ...string) Tags {
	kept := slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return t == "" || strings.Contains(t, "\n") })
	slices.Sort(kept)
	return Tags(strings.Join(slices.Compact(kept), "\n"))
}

// List is the set, sorted.
func (t Tags) List() []string {
	if t == "" {
		return nil
	}
	return strings.Split(string(t), "\n")
}

// Health is what the registry's checks say of an instance.
type Health string

// The states that Consul's checks know; whoever cannot tell says unknown.
const (
	Passing  Health = "passing"
	Warning  Health = "warning"
	Critical Health = "critical"
	Unknown  Health = "unknown"
)

// Instance is one registered instance of a service. Metadata and tags are what registrants wrote: never trusted.
type Instance struct {
	// ID is unique within a service and stays while the instance is registered.
	ID string `json:"id"`
	// Address is an IP address in its canonical form.
	Address string `json:"address"`
	// Port is 1 to 65535.
	Port uint32 `json:"port"`
	// Weight is the instance's share in its present health; 0 asks for no traffic.
	Weight uint32 `json:"weight"`
	// Health is what the checks say together.
	Health Health `json:"health"`
	// Rank is the instance's place by distance, from 0; only where the Key says Near.
	Rank       uint32            `json:"rank,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	NodeMeta   map[string]string `json:"nodeMeta,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Node       string            `json:"node,omitempty"`
	Datacenter string            `json:"datacenter,omitempty"`
	// Registered is when its registration last changed, as an index that only grows; 0 if the registry does not tell.
	Registered uint64 `json:"-"`
}

// Usable says whether the instance wants traffic and can take it.
func (i Instance) Usable() bool {
	return i.Health != Critical && i.Weight > 0
}

// Service is the answer to a Key.
type Service struct {
	Key Key `json:"key"`
	// Instances are sorted by ID. They are shared: never to be changed.
	Instances []Instance `json:"instances,omitempty"`
	// OptIn is what the service's registration asks for, nil if nothing. It outlives the last instance, until Gone.
	OptIn *OptIn `json:"optIn,omitempty"`
	// Answered is when the registry last said so; zero if it never did.
	Answered time.Time `json:"answered,omitzero"`
	// Stale says that the registry could not be asked when this was sent, and Instances are the last known ones.
	Stale bool `json:"-"`
	// Gone says that a service which nobody but its registration asked for is not there any more.
	Gone bool `json:"-"`
}

// Digest is the hash of all that matters for traffic: equal digests need no new configuration.
func (s Service) Digest() string {
	s.Answered = time.Time{}
	text, err := json.Marshal(struct {
		Service
		Gone bool
	}{s, s.Gone})
	if err != nil { // strings and numbers alone cannot fail to be encoded
		panic("catalog: encoding a service: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// SortInstances brings instances into their one order, in place.
func SortInstances(instances []Instance) {
	slices.SortFunc(instances, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
}

// Source reports services until its context ends, and then returns nil. wanted carries the whole list each time it
// changes; nothing is sent before the first. The first send on out is complete, and empty where there is nothing: every
// wanted key, and what opted in by itself. Later ones hold only what changed, and what is newly wanted. A key that is no longer wanted is not sent again.
type Source interface {
	Run(ctx context.Context, wanted <-chan []Key, out chan<- []Service) error
}
