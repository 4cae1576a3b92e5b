package authorize

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// mapped is where IPv6 has the addresses of IPv4.
const mappedBits = 96

// parseSource reads an address or a range of them. What is written in the mapped form of IPv6 is of IPv4.
func parseSource(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a range such as 10.0.0.0/8", s)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a range such as 10.0.0.0/8", s)
	}
	if p.Addr().Is4In6() && p.Bits() >= mappedBits {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	return p, nil
}

// mapped is a range of IPv4 as IPv6 has it: a proxy in front may write a client's address that way.
func mapped(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+mappedBits)
}

// maxSources is how many ranges a block may name: Envoy tries them one by one.
const maxSources = 1000

func (r Requirement) validateSources(at policy.At, p *policy.Problems) {
	if len(r.Sources) == 0 && at.Node != nil && at.Node.Kind == policy.List && len(at.Node.Items) == 0 {
		p.Suggestf(at, policy.CodeValue, "name the addresses, or leave the field out", "sources is empty: nobody could call")
	}
	if len(r.Sources) > maxSources {
		p.Errorf(at, policy.CodeValue, "%d sources; at most %d are allowed", len(r.Sources), maxSources)
	}
	for i, s := range r.Sources {
		prefix, err := parseSource(s)
		switch {
		case err != nil:
			p.Errorf(at.Index(i), policy.CodeValue, "%v", err)
		case prefix != prefix.Masked():
			p.Suggestf(at.Index(i), policy.CodeValue, "write "+prefix.Masked().String()+", or the address alone",
				"%s is an address inside a range: it is not clear which of the two is meant", s)
		}
	}
}
