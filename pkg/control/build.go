package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/proof"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/translate"
)

// Build is everything that a set of objects became.
type Build struct {
	Revision  store.Revision
	Objects   []policy.Object
	Config    *model.Config
	Problems  *policy.Problems
	Snapshots map[string]*snapshot.Snapshot // by gateway
	Tables    map[string]string             // by gateway: the digest that its answers carry
	Proof     Proof
	Published time.Time
	// Quarantined are the routes and services that are served in their stead: a route answers 503 on its own match.
	Quarantined map[string]string // by resource name: the reason
	// Registrations are what became of the catalog's registrations, by service.
	Registrations []compile.RegistrationStatus

	native   map[string]translate.NativeBlocks // by gateway: what Envoy decides by
	missing  []policy.Problem                  // certificates and secrets that cannot be read and never could
	unstored map[string]bool                   // secrets of the store among them
}

// Proof is what the real Envoy said of a build.
type Proof struct {
	State  ProofState    `json:"state"`
	Faults []proof.Fault `json:"faults,omitempty"`
	Took   time.Duration `json:"took,omitempty"`
	// Reason is why there was none.
	Reason string `json:"reason,omitempty"`
}

// ProofState is how a proof ended.
type ProofState string

// How a proof ended.
const (
	Proven   ProofState = "proven"
	Unproven ProofState = "unproven" // there was none
	Refused  ProofState = "refused"
)

// build is the whole line, from objects to proven snapshots. It stops where something is wrong: with Problems, or with
// a refused proof. An error is one of the program or its machine, not of the policies. Patience is how long it may wait
// for what the catalog has; without any, the catalog is not asked for more than it is already.
func (c *Controller) build(ctx context.Context, objects []policy.Object, patience time.Duration) (*Build, error) {
	b := &Build{Objects: objects}
	if c.compile(b); b.Problems.Failed() {
		return b, nil
	}
	c.checkStoreSecrets(ctx, b)
	if err := c.proveTemplates(ctx, b); err != nil || b.Problems.Failed() {
		return b, err
	}
	if patience > 0 {
		if c.inform(ctx, b, patience); b.Problems.Failed() {
			return b, nil
		}
		c.wantKeys(ctx, b)
		if err := c.awaitTables(ctx, b); err != nil {
			return nil, err
		}
	}
	if err := c.translate(b); errors.As(err, new(*feature.HookError)) {
		b.Problems.Add(hookProblem(err))
		return b, nil
	} else if err != nil {
		return nil, err
	}
	return b, c.prove(ctx, b)
}

// compile makes a build's config, with the routes that registrations opt in to.
func (c *Controller) compile(b *Build) {
	c.step("compile", func() {
		b.Config, b.Problems, b.Registrations = c.compiler.CompileWith(b.Objects, c.further())
	})
}

// hookProblem shows what a feature's hook cannot carry out where the block was written.
func hookProblem(err error) policy.Problem {
	var hook *feature.HookError
	errors.As(err, &hook)
	file, line := splitOrigin(hook.From)
	return policy.Problem{
		Severity: policy.Error, Code: policy.CodeConflict, File: file, Line: line, Column: min(line, 1),
		Message: hook.Feature + ": " + hook.Err.Error(),
	}
}

// translate makes a build's snapshots.
func (c *Controller) translate(b *Build) (err error) {
	if c.Loopback {
		bindLoopback(b.Config)
	}
	b.Snapshots, b.Tables, b.native = map[string]*snapshot.Snapshot{}, map[string]string{}, map[string]translate.NativeBlocks{}
	for _, g := range b.Config.Gateways {
		var resources feature.Resources
		c.step("translate", func() { resources, err = c.translator.Translate(g) })
		if err == nil {
			err = c.addEndpoints(resources[resource.EndpointType], g, func(catalog.Key) bool { return true })
		}
		if err == nil {
			err = c.addKeys(resources, g, nil)
		}
		c.addTables(resources, g)
		if b.native[g.Name] = translate.Native(g); err == nil && c.Keys != nil {
			err = c.addNative(resources, g.Name, b)
		}
		if err != nil {
			return err
		}
		c.addSecrets(resources, g, b)
		c.step("snapshot", func() { b.Snapshots[g.Name] = snapshot.Build(resources, c.published()[g.Name]) })
		b.Tables[g.Name] = g.Table
	}
	c.translator.EndRun()
	c.endpoints.EndRun()
	return nil
}

// prove shows every snapshot that is not published already to the real Envoy.
func (c *Controller) prove(ctx context.Context, b *Build) error {
	b.Proof.State = Proven
	if c.Prover == nil {
		b.Proof = Proof{State: Unproven, Reason: "no Envoy binary was found"}
		return nil
	}
	start := time.Now()
	for name, s := range b.Snapshots {
		if s.Digest() == c.published()[name].Digest() {
			continue
		}
		faults, err := c.Prover.Prove(ctx, s)
		if err != nil {
			return fmt.Errorf("the proof could not be run: %w", err)
		}
		b.Proof.Faults = append(b.Proof.Faults, faults...)
	}
	b.Proof.Took = time.Since(start)
	c.metrics.step("proof", b.Proof.Took)
	if len(b.Proof.Faults) > 0 {
		b.Proof.State = Refused
		b.Problems.Join(faultProblems(b))
	}
	return nil
}

// faultProblems shows Envoy's refusals where they were written.
func faultProblems(b *Build) policy.Problems {
	var p policy.Problems
	for _, f := range b.Proof.Faults {
		file, line := splitOrigin(f.Origin)
		if ref, ok := objectOf(b.Config, f.Name); ok && file == "" {
			for _, o := range b.Objects {
				if o.Ref == ref {
					file, line = o.File, o.Line
				}
			}
		}
		p.Add(policy.Problem{
			Severity: policy.Error, Code: policy.CodeRefused, File: file, Line: line, Column: min(line, 1),
			Message: fmt.Sprintf("Envoy refuses %s: %s", f.Name, f.Reason),
		})
	}
	return p
}

// objectOf is the object that a cluster or listener comes from.
func objectOf(config *model.Config, resource string) (policy.Ref, bool) {
	for _, g := range config.Gateways {
		for _, cl := range g.Clusters {
			if cl.Name == resource {
				return policy.Ref{Kind: "Service", Name: cl.Service}, true
			}
		}
		for _, l := range g.Listeners {
			if l.Name == resource {
				return policy.Ref{Kind: "Gateway", Name: g.Name}, true
			}
		}
		for _, s := range g.Secrets {
			if s.Name == resource {
				return policy.Ref{Kind: compile.KindCertificate, Name: s.Name}, true
			}
		}
	}
	return policy.Ref{}, false
}

// quarantine serves the rest when the proof refuses what nobody is waiting for: refused routes answer 503 on their own
// match, so that nothing falls through to a wider one; refused clusters are left out, which answers 503 too.
func (c *Controller) quarantine(ctx context.Context, objects []policy.Object, b *Build) (*Build, error) {
	refused := map[string]string{}
	for len(b.Proof.Faults) > 0 {
		before := len(refused)
		for _, f := range b.Proof.Faults {
			refused[f.Name] = f.Reason
		}
		if len(refused) == before {
			return nil, fmt.Errorf("envoy refuses what is stored: %s", b.Proof.Faults[0].Reason)
		}
		b = &Build{Objects: objects}
		c.compile(b)
		b.Config = model.Quarantine(b.Config, refused)
		if err := c.translate(b); err != nil {
			return nil, err
		}
		if err := c.prove(ctx, b); err != nil {
			return nil, err
		}
	}
	for name, reason := range refused {
		c.Log.Error("quarantined: envoy refuses it", "resource", name, "reason", reason)
	}
	b.Quarantined = refused
	return b, nil
}

func bindLoopback(config *model.Config) {
	for _, g := range config.Gateways {
		for _, l := range g.Listeners {
			if l.Address == "" {
				l.Address = "127.0.0.1"
			}
		}
	}
}

// step times one step of the line.
func (c *Controller) step(name string, run func()) {
	start := time.Now()
	run()
	c.metrics.step(name, time.Since(start))
}
