package compile

import (
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// Challenge is a question by which a certificate authority (ACME, HTTP-01) finds out who answers for a domain.
type Challenge struct {
	Domain string
	// Token is the last segment of the path that is asked for, Answer the whole body of the answer.
	Token, Answer string
}

// challengePath is where authorities ask (RFC 8555, 8.3).
const challengePath = "/.well-known/acme-challenge/"

// challenged adds the answers that a gateway is to give, to the host that takes the domain's requests. Nothing of the
// gateway's own blocks holds there: authorities bring no credentials.
func (s *site) challenged(g *gateway, secrets []model.Secret, hosts map[string][]*model.Route) {
	for _, c := range s.challenges {
		if !slices.ContainsFunc(secrets, func(have model.Secret) bool { return have.ACME.Domain == c.Domain }) {
			continue
		}
		domain := takes(hosts, c.Domain)
		hosts[domain] = append(hosts[domain], seal(&model.Route{
			Name: "sluice/acme/" + c.Token, Origin: g.At().String(), Text: c.Answer,
			Match: model.Match{Path: compilePath(challengePath + c.Token)},
		}))
	}
}

// takes is the host that takes a domain's requests, the domain itself where there is none yet.
func takes(hosts map[string][]*model.Route, domain string) string {
	if _, ok := hosts[domain]; ok {
		return domain
	}
	for rest := domain; ; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		if _, ok := hosts["*."+parent]; ok {
			return "*." + parent
		}
		rest = parent
	}
	if _, ok := hosts["*"]; ok {
		return "*"
	}
	return domain
}
