package control

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// KindRegistration is the kind under which Why knows the registrations of a catalog, by the service's name. No policy
// has it.
const KindRegistration = "Registration"

// Fate is what a registration asks for and what became of it.
type Fate struct {
	State FateState `json:"state"`
	// Template, Host and Path are what it asks for. An empty host stands for those of the template.
	Template string `json:"template,omitempty"`
	Host     string `json:"host,omitempty"`
	Path     string `json:"path,omitempty"`
	// Route is the name of its route, "" if it has none.
	Route string `json:"route,omitempty"`
	// Reason is why it was refused.
	Reason string `json:"reason,omitempty"`
	// Problems are the instances that ask for something else, or in a form that cannot be read.
	Problems []catalog.OptInProblem `json:"problems,omitempty"`
}

// FateState is what became of a registration, in a word.
type FateState string

// The states of a registration.
const (
	FateLive    FateState = "live"
	FateEmpty   FateState = "empty"   // no instance is left: its route answers 503 for a while
	FateRefused FateState = "refused" // it has no route
	FatePending FateState = "pending" // it has come, and is not published yet
)

// whyRegistration follows a registration. ErrUnknownObject when no service of the name opts in.
func (c *Controller) whyRegistration(b *Build, name string) (*Journey, error) {
	o := c.discovery.optIn(name)
	if o == nil {
		return nil, fmt.Errorf("%w: %s/%s: no service of this name opts in by its registration: it needs the metadata %s",
			ErrUnknownObject, KindRegistration, name, catalog.MetaTemplate)
	}
	j := &Journey{Object: policy.Ref{Kind: KindRegistration, Name: name}, Serving: b.Revision.Number, Stored: b.Revision.Number, Proof: b.Proof.State}
	j.Asks = []catalog.Key{{Service: name}}
	j.Registration = fateOf(o, b.Registrations)
	if route := j.Registration.Route; route != "" {
		j.Quarantined = b.Quarantined[route]
		parts := registeredParts(b, route)
		for _, p := range parts {
			j.Compiled = append(j.Compiled, p.names...)
		}
		c.addEnvoys(j, parts)
	}
	return j, nil
}

func fateOf(o *catalog.OptIn, statuses []compile.RegistrationStatus) *Fate {
	f := &Fate{State: FatePending, Template: o.Template, Host: o.Host, Path: o.Path, Problems: o.Problems}
	if o.Template == "" {
		f.State, f.Reason = FateRefused, "none of its instances asks for something that can be read"
		return f
	}
	f.Path = cmp.Or(f.Path, "/"+o.Service)
	i := slices.IndexFunc(statuses, func(s compile.RegistrationStatus) bool { return s.Service == o.Service })
	if i < 0 {
		return f
	}
	s := statuses[i]
	f.Route, f.Reason = s.Route, s.Reason
	switch {
	case s.Reason != "":
		f.State = FateRefused
	case s.Empty:
		f.State = FateEmpty
	default:
		f.State = FateLive
	}
	return f
}

// optIn is what the registration of a service asks for, nil if nothing.
func (d *discovery) optIn(service string) *catalog.OptIn {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.view.Services() {
		if s.OptIn != nil && s.OptIn.Service == service {
			return s.OptIn
		}
	}
	return nil
}

// registeredParts are the route and the cluster of a registration, which share their name.
func registeredParts(b *Build, name string) []part {
	var out []part
	for _, g := range b.Config.Gateways {
		p := part{gateway: g.Name}
		p.addRoutesWhere(g, func(r *model.Route) bool { return r.Name == name })
		p.addClusters(g, func(c *model.Cluster) bool { return c.Registered && c.Name == name })
		if p.names = slices.Compact(p.names); len(p.names) > 0 {
			out = append(out, p)
		}
	}
	return out
}
