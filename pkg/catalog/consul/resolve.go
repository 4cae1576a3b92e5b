package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog"
)

// Bounds of looking up host names: Envoy wants addresses, and registrations may name hosts.
const (
	maxNames        = 2000
	maxLookups      = 8
	lookupTimeout   = 5 * time.Second
	maxAddresses    = 16
	retryUnresolved = time.Second
)

// resolver keeps the addresses of host names that registrations name, and looks them up again once in a while, since the
// system's resolver does not tell how long they hold. It belongs to one goroutine; lookups run in others.
type resolver struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	every  time.Duration
	names  map[string]*name
	done   chan lookedUp
	places chan struct{}
	wait   sync.WaitGroup
}

type name struct {
	users     map[catalog.Key]bool
	addresses []netip.Addr
	err       error
	// known says that a lookup has ended, one way or the other.
	known, asking bool
	next          time.Time
}

type lookedUp struct {
	host      string
	addresses []netip.Addr
	err       error
}

func newResolver(every time.Duration) *resolver {
	return &resolver{
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		every: every, names: map[string]*name{}, done: make(chan lookedUp), places: make(chan struct{}, maxLookups),
	}
}

// instances are the registrations with addresses: one for each address of a host name. ready is false while a name has
// never been looked up; problems are those left out.
func (r *resolver) instances(key catalog.Key, list []registration) (out []catalog.Instance, problems []string, ready bool) {
	ready = true
	used := map[string]bool{}
	for _, i := range list {
		addresses, host, err := r.addresses(key, i)
		used[host] = true
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%.100q is left out: %s", i.ID, err))
			continue
		case addresses == nil:
			ready = false
		}
		for _, a := range addresses {
			one := i
			one.Address = a.String()
			if host != "" {
				one.ID += "@" + one.Address
			}
			out = append(out, one)
		}
	}
	r.release(key, used)
	catalog.SortInstances(out)
	return slices.CompactFunc(out, func(a, b catalog.Instance) bool { return a.ID == b.ID }), problems, ready
}

// addresses of one registration, and the host name they are from; none and no error if it is yet to be looked up.
func (r *resolver) addresses(key catalog.Key, i registration) ([]netip.Addr, string, error) {
	if i.Port == 0 {
		return nil, "", errors.New("it has no port")
	}
	if a, err := netip.ParseAddr(strings.Trim(i.Address, "[]")); err == nil {
		a = a.Unmap()
		return []netip.Addr{a}, "", checkAddress(a)
	}
	n, err := r.name(strings.ToLower(i.Address))
	if err != nil {
		return nil, "", err
	}
	n.users[key] = true
	if n.known && len(n.addresses) == 0 {
		return nil, strings.ToLower(i.Address), n.err
	}
	return n.addresses, strings.ToLower(i.Address), nil
}

func (r *resolver) name(host string) (*name, error) {
	if n, ok := r.names[host]; ok {
		return n, nil
	}
	if !hostName(host) {
		return nil, fmt.Errorf("address %.60q is neither an IP address nor a host name", host)
	}
	if len(r.names) >= maxNames {
		return nil, fmt.Errorf("host name %q is one too many: at most %d are looked up; register IP addresses", host, maxNames)
	}
	n := &name{users: map[catalog.Key]bool{}}
	r.names[host] = n
	return n, nil
}

// release drops the names that a key does not use any more.
func (r *resolver) release(key catalog.Key, used map[string]bool) {
	for host, n := range r.names {
		if n.users[key] && !used[host] {
			delete(n.users, key)
		}
		if len(n.users) == 0 {
			delete(r.names, host)
		}
	}
}

// start looks up what is due.
func (r *resolver) start(ctx context.Context, now time.Time) {
	for host, n := range r.names {
		if n.asking || n.next.After(now) {
			continue
		}
		n.asking = true
		r.wait.Go(func() { r.ask(ctx, host) })
	}
}

func (r *resolver) ask(ctx context.Context, host string) {
	select {
	case r.places <- struct{}{}:
	case <-ctx.Done():
		return
	}
	limited, cancel := context.WithTimeout(ctx, lookupTimeout)
	addresses, err := r.lookup(limited, host)
	cancel()
	<-r.places
	select {
	case r.done <- lookedUp{host, addresses, err}:
	case <-ctx.Done():
	}
}

// take notes the end of a lookup, and returns the keys whose instances it changes. A name that does not resolve any more
// keeps the addresses it had.
func (r *resolver) take(l lookedUp, now time.Time) []catalog.Key {
	n, ok := r.names[l.host]
	if !ok {
		return nil
	}
	first := !n.known
	n.asking, n.known, n.next = false, true, now.Add(r.every)
	if l.err == nil {
		l.addresses, l.err = usableAddresses(l.addresses)
	}
	if n.err = l.err; l.err != nil {
		n.next = now.Add(min(r.every, retryUnresolved))
		if !first {
			return nil
		}
	} else if slices.Equal(n.addresses, l.addresses) {
		return nil
	} else {
		n.addresses = l.addresses
	}
	keys := make([]catalog.Key, 0, len(n.users))
	for k := range n.users {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, catalog.Key.Compare)
	return keys
}

// usableAddresses are the allowed ones, sorted, each once, and not more than Envoy should get of one instance.
func usableAddresses(list []netip.Addr) ([]netip.Addr, error) {
	var out []netip.Addr
	var refused error
	for _, a := range list {
		a = a.Unmap().WithZone("")
		if err := checkAddress(a); err != nil {
			refused = err
			continue
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, errors.Join(errors.New("its host name has no usable address"), refused)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	out = slices.Compact(out)
	return out[:min(len(out), maxAddresses)], nil
}

// Next is when start has something to do, zero if never.
func (r *resolver) Next() time.Time {
	var next time.Time
	for _, n := range r.names {
		if !n.asking && (next.IsZero() || n.next.Before(next)) {
			next = n.next
			if next.IsZero() {
				return time.Unix(0, 0)
			}
		}
	}
	return next
}

func hostName(text string) bool {
	if text == "" || len(text) > 253 {
		return false
	}
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}
