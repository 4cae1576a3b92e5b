package compile

import (
	"cmp"
	"maps"
	"slices"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

func checkCertificate(at policy.At, c *policy.Certificate, p *policy.Problems) {
	if c.ACME != nil {
		checkACME(at, c.ACME, p)
		return
	}
	pair := at.Node.Get("certificate") != nil || at.Node.Get("key") != nil
	switch {
	case at.Node.Get("crl") != nil && c.CA.IsZero():
		p.Suggestf(at.Field("crl"), policy.CodeConflict, "write it in the Certificate with the authorities that signed it", "a revocation list stands beside authorities (ca)")
	case pair && at.Node.Get("ca") != nil:
		p.Suggestf(at, policy.CodeConflict, "make them two", "a Certificate is either a certificate with its key, or authorities (ca)")
	case !pair && c.CA.IsZero():
		p.Suggestf(at, policy.CodeRequired, "add certificate: {file: …} and key: {file: …}, or ca: {file: …}, env: or secret: in place of file:; or acme: {domain: …}", "the Certificate says nowhere where it is")
	case pair && c.Certificate.IsZero():
		p.Suggestf(at, policy.CodeRequired, "add certificate: {file: …}", "the certificate of the key is missing")
	case pair && c.Key.IsZero():
		p.Suggestf(at, policy.CodeRequired, "add key: {file: …}", "the certificate's key is missing")
	}
}

// checkTLS holds one listener against itself and the others.
func checkTLS(at policy.At, l policy.Listener, all []policy.Listener, p *policy.Problems) {
	if l.RedirectToTLS.On {
		checkRedirect(at.Field("redirectToTLS"), l, all, p)
	}
	if l.TLS == nil {
		return
	}
	at = at.Field("tls")
	names := l.TLS.Names()
	switch {
	case l.TLS.Certificate != "" && len(l.TLS.Certificates) > 0:
		p.Errorf(at.Field("certificates"), policy.CodeConflict, "a listener has either certificate or certificates")
	case len(names) == 0:
		p.Suggestf(at, policy.CodeRequired, "add certificate: NAME, of a Certificate", "a listener with TLS needs a certificate")
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			p.Errorf(at.Field("certificates").Index(i), policy.CodeDuplicate, "Certificate %q is listed twice", name)
		}
	}
	for _, field := range []string{"clientCertificate", "forwardClientCertificate"} {
		if at.Node.Get(field) != nil && l.TLS.ClientCA == "" {
			p.Suggestf(at.Field(field), policy.CodeRequired, "add clientCA: NAME, of a Certificate with ca", "nobody knows whom to believe a client's certificate")
		}
	}
}

func checkRedirect(at policy.At, l policy.Listener, all []policy.Listener, p *policy.Problems) {
	switch {
	case l.TLS != nil:
		p.Errorf(at, policy.CodeConflict, "a listener with TLS cannot redirect to TLS")
	case redirectPort(l, all) == 0:
		p.Suggestf(at, policy.CodeConflict, "write the port that clients reach TLS at, as redirectToTLS: 443", "the gateway has not exactly one TLS listener to redirect to")
	}
}

// redirectPort is where a listener redirects to, 0 if nowhere.
func redirectPort(l policy.Listener, all []policy.Listener) uint32 {
	if !l.RedirectToTLS.On || l.RedirectToTLS.Port > 0 {
		return l.RedirectToTLS.Port
	}
	port := uint32(0)
	for _, other := range all {
		switch {
		case other.TLS == nil:
		case port != 0:
			return 0
		default:
			port = other.Port
		}
	}
	return port
}

func listenerTLS(t *policy.ListenerTLS) *model.TLS {
	if t == nil {
		return nil
	}
	return &model.TLS{
		Certificates: t.Names(), ClientCA: t.ClientCA, ClientRequired: t.ClientCA != "" && t.ClientCertificate != "optional",
		ForwardClient: t.ForwardClientCertificate, From13: t.MinVersion == "1.3",
	}
}

// use is one place that names a Certificate.
type use struct {
	feature.SecretUse
	at policy.At
}

// listenerUses are the Certificates that a Gateway's listeners name.
func listenerUses(d *document) []use {
	var out []use
	for i, l := range d.gateway.Listeners {
		if l.TLS == nil {
			continue
		}
		at := d.Spec().Field("listeners").Index(i).Field("tls")
		if l.TLS.Certificate != "" {
			out = append(out, use{feature.SecretUse{Name: l.TLS.Certificate}, at.Field("certificate")})
		}
		for j, name := range l.TLS.Certificates {
			out = append(out, use{feature.SecretUse{Name: name}, at.Field("certificates").Index(j)})
		}
		if l.TLS.ClientCA != "" {
			out = append(out, use{feature.SecretUse{Name: l.TLS.ClientCA, CA: true}, at.Field("clientCA")})
		}
	}
	return out
}

// blockUses are the Certificates that a Service's blocks name.
func blockUses(d *document) []use {
	var out []use
	for _, b := range d.blocks {
		n, ok := b.spec.(feature.SecretNamer)
		if !ok {
			continue
		}
		for _, u := range n.Secrets() {
			out = append(out, use{u, b.at.Field(u.Field)})
		}
	}
	return out
}

// checkSecrets follows every name of a Certificate, also of a Service that no route reaches.
func (s *site) checkSecrets() {
	for _, d := range s.documents {
		uses := blockUses(d)
		if d.gateway != nil {
			uses = append(uses, listenerUses(d)...)
		}
		for _, u := range uses {
			s.checkUse(u)
		}
	}
}

func (s *site) checkUse(u use) {
	d := s.documents[policy.Ref{Kind: KindCertificate, Name: u.Name}]
	switch {
	case d == nil || d.secret == nil:
		s.problems.Suggestf(u.at, policy.CodeReference, hint(u.Name, s.names(KindCertificate), KindCertificate), "there is no Certificate %q", u.Name)
	case d.problems.Failed():
	case u.CA && d.secret.CA.IsZero():
		s.problems.Suggestf(u.at, policy.CodeConflict, "name a Certificate with ca", "Certificate %q is no authority", u.Name)
	case !u.CA && !d.secret.CA.IsZero():
		s.problems.Suggestf(u.at, policy.CodeConflict, "name a Certificate with certificate and key", "Certificate %q is authorities, without a key", u.Name)
	}
}

// secretNames are the places in all that was decoded that name secrets of the store.
func (d *document) secretNames() []policy.NamedSecret {
	var out []policy.NamedSecret
	if d.secret != nil {
		out = append(out, policy.SecretNames(d.Spec(), d.secret)...)
	}
	if d.owned != nil {
		out = append(out, policy.SecretNames(d.Spec(), d.owned)...)
	}
	for _, blocks := range append(d.rules, d.blocks) {
		for _, b := range blocks {
			out = append(out, policy.SecretNames(b.at, b.spec)...)
		}
	}
	return out
}

// storeSecrets are the places in all documents, used or not, that name secrets of the store.
func (s *site) storeSecrets() []model.StoreSecret {
	var out []model.StoreSecret
	for _, d := range s.documents {
		for _, n := range d.stored {
			out = append(out, model.StoreSecret{Name: n.Name, Kind: d.Kind, Object: d.Name, From: n.At.String()})
		}
	}
	slices.SortFunc(out, func(a, b model.StoreSecret) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Object, b.Object), cmp.Compare(a.From, b.From), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// secrets are those that a gateway's listeners and clusters name, and those that its routes hold.
func (s *site) secrets(g *gateway, clusters map[string]*document, routes []*compiledRoute) []model.Secret {
	uses := listenerUses(g.document)
	for _, d := range clusters {
		uses = append(uses, blockUses(d)...)
	}
	named := heldSecrets(routes)
	for _, u := range uses {
		if d := s.documents[policy.Ref{Kind: KindCertificate, Name: u.Name}]; d != nil && d.secret != nil {
			named[u.Name] = model.Secret{
				Name: u.Name, From: d.At().String(),
				Certificate: feature.SecretPlace(d.secret.Certificate), Key: feature.SecretPlace(d.secret.Key), CA: feature.SecretPlace(d.secret.CA), CRL: feature.SecretPlace(d.secret.CRL),
				ACME: acmeOf(d.secret.ACME),
			}
		}
	}
	var out []model.Secret
	for _, name := range slices.Sorted(maps.Keys(named)) {
		out = append(out, named[name])
	}
	return out
}

// heldSecrets are those of routes, by name; the first place where one was written stands for all.
func heldSecrets(routes []*compiledRoute) map[string]model.Secret {
	out := map[string]model.Secret{}
	for _, c := range routes {
		for _, r := range c.routes {
			for _, a := range r.Attachments {
				h, ok := a.Spec.(feature.SecretHolder)
				if !ok {
					continue
				}
				for _, one := range h.HeldSecrets() {
					if before, twice := out[one.Name]; !twice || one.From < before.From {
						out[one.Name] = one
					}
				}
			}
		}
	}
	return out
}
