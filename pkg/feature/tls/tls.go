// Package tls reaches a service by TLS, and shows it a certificate where it wants one.
package tls

import (
	"net/netip"
	"path"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// DefaultRoots is where most Linux distributions keep the authorities that the system trusts.
const DefaultRoots = "/etc/ssl/certs/ca-certificates.crt"

// Feature is the block `tls`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "tls", Stage: feature.StageRoute, On: feature.Service,
		Summary: "Reaches the service by TLS, checks whose certificate it shows, and shows it one."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{SystemRoots: DefaultRoots, MinVersion: "1.2"} }

// Spec is the block.
type Spec struct {
	CA          string   `json:"ca,omitempty" jsonschema_description:"Name of the Certificate with the authorities to trust; those of Envoy's system when left out."`
	SystemRoots string   `json:"systemRoots,omitempty" jsonschema_description:"The file where Envoy's own machine keeps the authorities that its system trusts; /etc/ssl/certs/ca-certificates.crt when left out. Of no use beside ca."`
	SNI         string   `json:"sni,omitempty" jsonschema_description:"The server name to ask for; the host of the Service's dns when left out."`
	SANs        []string `json:"sans,omitempty" jsonschema_description:"Names, addresses or URIs, one of which the service's certificate must have; sni when left out."`
	Certificate string   `json:"certificate,omitempty" jsonschema_description:"Name of the Certificate to show the service, if it wants one."`
	MinVersion  string   `json:"minVersion,omitempty" jsonschema:"enum=1.2,enum=1.3" jsonschema_description:"The oldest TLS version spoken; 1.2 when left out."`
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if s.CA != "" && at.Node.Get("systemRoots") != nil {
		p.Errorf(at.Field("systemRoots"), policy.CodeConflict, "only one of ca and systemRoots may be set")
	}
	if !path.IsAbs(s.SystemRoots) {
		p.Errorf(at.Field("systemRoots"), policy.CodeValue, "%q is not a whole path, from / on, of Envoy's machine", s.SystemRoots)
	}
	if s.SNI != "" && !isDNSName(s.SNI) {
		p.Suggestf(at.Field("sni"), policy.CodeValue, "write a name such as orders.internal; addresses go under sans", "%q is not a host name", s.SNI)
	}
	if at.Node.Get("sans") != nil && len(s.SANs) == 0 {
		p.Suggestf(at.Field("sans"), policy.CodeValue, "leave it out, to check for sni", "an empty list would take any certificate")
	}
	for i, san := range s.SANs {
		if kindOf(san) == isNone {
			p.Suggestf(at.Field("sans").Index(i), policy.CodeValue, "write orders.internal, 10.0.0.7 or spiffe://food.example/orders", "%q is no host name, address or URI", san)
		}
	}
}

// sanKind is what a subject alternative name is.
type sanKind int

const (
	isNone sanKind = iota
	isDNS
	isIP
	isURI
)

func kindOf(san string) sanKind {
	if _, err := netip.ParseAddr(san); err == nil {
		return isIP
	}
	if scheme, rest, ok := strings.Cut(san, "://"); ok {
		if scheme == "" || rest == "" || strings.ContainsAny(san, " \t\n\x00") {
			return isNone
		}
		return isURI
	}
	if isDNSName(san) {
		return isDNS
	}
	return isNone
}

// isDNSName is for names that Envoy compares as they are: lower case, no wildcard, no address.
func isDNSName(s string) bool {
	_, err := netip.ParseAddr(s)
	return err != nil && !strings.Contains(s, "*") && policy.CheckHost(s) == nil
}

// Secrets implements feature.SecretNamer.
func (s *Spec) Secrets() []feature.SecretUse {
	var out []feature.SecretUse
	if s.CA != "" {
		out = append(out, feature.SecretUse{Name: s.CA, Field: "ca", CA: true})
	}
	if s.Certificate != "" {
		out = append(out, feature.SecretUse{Name: s.Certificate, Field: "certificate"})
	}
	return out
}

// serverName is the name to ask for, "" for none.
func (s *Spec) serverName(c *model.Cluster) string {
	if s.SNI == "" && c.DNS != nil && isDNSName(c.DNS.Host) {
		return c.DNS.Host
	}
	return s.SNI
}

// names are those of which the service's certificate must have one.
func (s *Spec) names(c *model.Cluster) []string {
	if len(s.SANs) > 0 {
		return s.SANs
	}
	if name := s.serverName(c); name != "" {
		return []string{name}
	}
	if c.DNS != nil {
		return []string{c.DNS.Host} // an address
	}
	return nil
}
