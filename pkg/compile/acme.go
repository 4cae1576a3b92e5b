package compile

import (
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

func checkACME(at policy.At, a *policy.ACME, p *policy.Problems) {
	for _, other := range []string{"certificate", "key", "ca", "crl"} {
		if at.Node.Get(other) != nil {
			p.Suggestf(at.Field(other), policy.CodeConflict, "make them two", "a Certificate that is obtained (acme) has no %s", other)
		}
	}
	at = at.Field("acme")
	if err := policy.CheckHost(a.Domain); err != nil || strings.Contains(a.Domain, "*") || !strings.Contains(a.Domain, ".") {
		p.Suggestf(at.Field("domain"), policy.CodeValue, "write a name such as shop.example", "%q is not a whole domain name; wildcards cannot be asked for by HTTP", a.Domain)
	}
	if a.Email != "" && !strings.Contains(a.Email, "@") {
		p.Errorf(at.Field("email"), policy.CodeValue, "%q is no address", a.Email)
	}
	if a.Directory == "" {
		return
	}
	if err := policy.CheckURL(a.Directory); err != nil || !strings.HasPrefix(a.Directory, "https://") {
		p.Suggestf(at.Field("directory"), policy.CodeValue, "write the https URL of the authority's directory", "%q is not one", a.Directory)
	}
}

func acmeOf(a *policy.ACME) model.ACME {
	if a == nil {
		return model.ACME{}
	}
	return model.ACME{Domain: a.Domain, Email: a.Email, Directory: a.Directory, Roots: feature.SecretPlace(a.CA)}
}
