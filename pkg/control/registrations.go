package control

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// registrations are what the services in the catalog opt in to, by service. Not to be changed.
func (d *discovery) registrations() []compile.Registration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asking.sorted()
}

// askers are the services that opt in, kept so that one more costs little beside thousands.
type askers struct {
	byKey map[catalog.Key]compile.Registration
	list  []compile.Registration // sorted; nil when something has changed
}

// note takes over what the view has of a key.
func (a *askers) note(k catalog.Key, view catalog.View) {
	s, _ := view.Get(k)
	before, was := a.byKey[k]
	if s.OptIn == nil || s.OptIn.Template == "" {
		if was {
			delete(a.byKey, k)
			a.list = nil
		}
		return
	}
	o := s.OptIn
	now := compile.Registration{Service: o.Service, Template: o.Template, Path: o.Path, Host: o.Host, Since: o.Since, Empty: len(s.Instances) == 0}
	if was && before == now {
		return
	}
	if a.byKey == nil {
		a.byKey = map[catalog.Key]compile.Registration{}
	}
	a.byKey[k], a.list = now, nil
}

// sorted are all of them, by service, each service once.
func (a *askers) sorted() []compile.Registration {
	if a.list == nil {
		byService := func(x, y compile.Registration) int { return cmp.Compare(x.Service, y.Service) }
		a.list = slices.SortedFunc(maps.Values(a.byKey), byService)
		a.list = slices.CompactFunc(a.list, func(x, y compile.Registration) bool { return x.Service == y.Service })
	}
	return a.list
}

// refusedOptIns are what registrations among these keys ask for in a form that cannot be read, by service.
func (d *discovery) refusedOptIns(keys []catalog.Key) map[string][]catalog.OptInProblem {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]catalog.OptInProblem{}
	for _, k := range keys {
		if s, _ := d.view.Get(k); s.OptIn != nil && len(s.OptIn.Problems) > 0 {
			out[s.OptIn.Service] = s.OptIn.Problems
		}
	}
	return out
}

// noteOptIns tells, once, of opt-ins that cannot be read.
func (c *Controller) noteOptIns(keys []catalog.Key) {
	for service, problems := range c.discovery.refusedOptIns(keys) {
		for _, p := range problems {
			told := toldOptIn{service, p.Reason}
			if c.toldOptIns[told] {
				continue
			}
			if len(c.toldOptIns) >= maxTold {
				clear(c.toldOptIns)
			}
			c.toldOptIns[told] = true
			c.Log.Warn("an opt-in was refused", "service", service, "instances", p.Count, "reason", p.Reason)
		}
	}
}

// toldOptIn is a refusal that the log has. After maxTold of them it may be told again.
type toldOptIn struct{ service, reason string }

const maxTold = 10_000

// register compiles once more with the registrations as they now are, and publishes. Registrations fill approved
// templates with values of a checked alphabet: there is nothing to prove.
func (c *Controller) register(ctx context.Context) {
	serving := c.serving.Load()
	next := &Build{Revision: serving.Revision, Objects: serving.Objects, Proof: serving.Proof, Quarantined: serving.Quarantined}
	c.compile(next)
	if next.Problems.Failed() {
		c.Log.Error("registrations could not be compiled; what was published stays", "problems", next.Problems.Render())
		return
	}
	if len(next.Quarantined) > 0 {
		next.Config = model.Quarantine(next.Config, next.Quarantined)
	}
	c.ask(ctx, next, newKeyPatience)
	if err := c.translate(next); err != nil {
		c.Log.Error("registrations could not be translated; what was published stays", "error", err)
		return
	}
	c.publish(next)
}

// noteRegistrations tells of registrations that were newly refused.
func (c *Controller) noteRegistrations(before, after *Build) {
	known := map[compile.RegistrationStatus]bool{}
	if before != nil {
		for _, s := range before.Registrations {
			known[s] = true
		}
	}
	counts := map[string]float64{"live": 0, "empty": 0, "refused": 0}
	for _, s := range after.Registrations {
		switch {
		case s.Reason != "":
			counts["refused"]++
		case s.Empty:
			counts["empty"]++
		default:
			counts["live"]++
		}
		if s.Reason != "" && !known[s] {
			c.Log.Warn("a registration was refused", "service", s.Service, "template", s.Template, "host", s.Host, "path", s.Path, "reason", s.Reason)
		}
	}
	for state, n := range counts {
		c.metrics.registrations.WithLabelValues(state).Set(n)
	}
}

// proveTemplates shows the templates, filled with sample values, to the compiler and the real Envoy, since their
// registrations will come without an author waiting.
func (c *Controller) proveTemplates(ctx context.Context, b *Build) error {
	samples := c.compiler.Samples()
	digest := templatesDigest(b.Objects)
	if len(samples) == 0 || digest == c.provenTemplates {
		return nil
	}
	trial := &Build{Objects: b.Objects}
	var statuses []compile.RegistrationStatus
	trial.Config, trial.Problems, statuses = c.compiler.CompileWith(b.Objects, compile.Further{Registrations: samples})
	for _, s := range statuses {
		if s.Reason != "" {
			b.Problems.Add(templateProblem(b.Objects, s))
		}
	}
	if b.Problems.Failed() {
		return nil
	}
	err := c.translate(trial)
	if errors.As(err, new(*feature.HookError)) {
		b.Problems.Add(hookProblem(err))
		return nil
	}
	if err == nil {
		err = c.prove(ctx, trial)
	}
	if err != nil {
		return err
	}
	b.Problems.Join(*trial.Problems)
	if !trial.Problems.Failed() {
		c.provenTemplates = digest
	}
	return nil
}

func templateProblem(objects []policy.Object, s compile.RegistrationStatus) policy.Problem {
	out := policy.Problem{Severity: policy.Error, Code: policy.CodeConflict, Message: "no registration could use RouteTemplate " + s.Template + ": " + s.Reason}
	for _, o := range objects {
		if o.Kind == compile.KindTemplate && o.Name == s.Template {
			out.File, out.Line, out.Column = o.File, o.Line, 1
		}
	}
	return out
}

// templatesDigest names all that templates are made of: themselves, and what they may use.
func templatesDigest(objects []policy.Object) string {
	digest := ""
	for _, o := range objects {
		if o.Kind == compile.KindTemplate || o.Kind == compile.KindPolicy || o.Kind == compile.KindGateway {
			digest += o.Digest()
		}
	}
	return digest
}
