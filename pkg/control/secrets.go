package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/secrets"
	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// Certificates are rotated by whoever issues them. They take the short way, as endpoints do: no compile, no proof, one
// resource of the gateways that name them, and no listener or cluster changes.

// FollowSecrets runs beside Run until ctx ends, and publishes certificates as they are rotated.
func (c *Controller) FollowSecrets(ctx context.Context) error {
	if c.Secrets == nil {
		<-ctx.Done()
		return nil
	}
	return c.Secrets.Run(ctx, c.rotated)
}

// rotated publishes the secrets that are other ones than those that are served.
func (c *Controller) rotated() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.amend(func(g *model.Gateway, was *snapshot.Snapshot) (*snapshot.Snapshot, error) {
		return was.With(resource.SecretType, snapshot.Renew(was.Table(resource.SecretType), c.secretBodies(g))), nil
	})
}

// secretBodies are a gateway's secrets in their last good form.
func (c *Controller) secretBodies(g *model.Gateway) map[string][]byte {
	out := map[string][]byte{}
	for _, s := range g.Secrets {
		if body := c.Secrets.Resource(s); body != nil {
			out[s.Name] = body
		}
	}
	return out
}

// addSecrets reads the secrets that a gateway names. What is wrong with them becomes the build's Problems.
func (c *Controller) addSecrets(resources feature.Resources, g *model.Gateway, b *Build) {
	if c.Secrets == nil {
		return
	}
	for _, s := range g.Secrets {
		body, warnings, err := c.Secrets.Read(s)
		if body != nil {
			resources.AddReady(resource.SecretType, s.Name, body)
		}
		switch {
		case slices.ContainsFunc(s.Places(), func(p model.SecretPlace) bool { return b.unstored[p.Secret] }): // it is said already, and where
		case err != nil && body == nil:
			b.missing = append(b.missing, secretProblem(s, policy.Error, err.Error(), "put it there, where sluice serve runs, or correct the Certificate"))
		case err != nil:
			warnings = append(warnings, err.Error()+"; the last good one is served")
		}
		for _, w := range warnings {
			b.Problems.Add(secretProblem(s, policy.Warning, w, ""))
		}
	}
}

// StoreSecrets are the secrets of the store.
type StoreSecrets interface {
	// Get is the value of one. Its errors show nothing of it.
	Get(ctx context.Context, name string) ([]byte, error)
}

// checkStoreSecrets finds the places that name secrets which are not in the store, or cannot be read there. What is
// served with such a name already holds up no other change.
func (c *Controller) checkStoreSecrets(ctx context.Context, b *Build) {
	b.unstored = map[string]bool{}
	if c.StoreSecrets == nil {
		return
	}
	for _, s := range b.Config.StoreSecrets {
		_, err := c.StoreSecrets.Get(ctx, s.Name)
		if err == nil {
			continue
		}
		problem := unstored(s, err)
		b.unstored[s.Name] = true
		if c.isServed(s) {
			problem.Severity = policy.Warning
			b.Problems.Add(problem)
			continue
		}
		b.missing = append(b.missing, problem)
	}
}

func unstored(s model.StoreSecret, err error) policy.Problem {
	file, line := splitOrigin(s.From)
	return policy.Problem{
		Severity: policy.Error, Code: policy.CodeContent, File: file, Line: line, Column: min(line, 1),
		Object: &policy.Ref{Kind: s.Kind, Name: s.Object}, Message: err.Error(),
	}
}

func (c *Controller) isServed(s model.StoreSecret) bool {
	serving := c.serving.Load()
	return serving != nil && slices.ContainsFunc(serving.Config.StoreSecrets, func(had model.StoreSecret) bool {
		return had.Kind == s.Kind && had.Object == s.Object && had.Name == s.Name
	})
}

func secretProblem(s model.Secret, severity policy.Severity, what, help string) policy.Problem {
	file, line := splitOrigin(s.From)
	out := policy.Problem{Severity: severity, Code: policy.CodeContent, File: file, Line: line, Column: min(line, 1), Suggestion: help}
	if s.IsText() {
		out.Message = "secret: " + what
		return out
	}
	out.Object, out.Message = &policy.Ref{Kind: compile.KindCertificate, Name: s.Name}, fmt.Sprintf("Certificate %s: %s", s.Name, what)
	return out
}

// keepSecrets follows the secrets of what is published, and no others.
func (c *Controller) keepSecrets(config *model.Config) {
	if c.Secrets == nil {
		return
	}
	var all []model.Secret
	for _, g := range config.Gateways {
		all = append(all, g.Secrets...)
	}
	c.Secrets.Keep(all)
}

// Certificates are how the certificates stand that are served, by name.
func (c *Controller) Certificates() []secrets.Status {
	if c.Secrets == nil {
		return nil
	}
	return c.Secrets.Status()
}

func (c *Controller) certificate(ref policy.Ref) *secrets.Status {
	for _, s := range c.Certificates() {
		if ref.Kind == compile.KindCertificate && s.Name == ref.Name {
			return &s
		}
	}
	return nil
}

func (p *part) addSecret(g *model.Gateway, name string) {
	for _, s := range g.Secrets {
		if s.Name == name {
			p.names = append(p.names, name)
			p.resources = append(p.resources, resourceName{resource.SecretType, "secret", name})
		}
	}
}
