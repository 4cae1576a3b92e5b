package model

import "slices"

// Quarantine is the config without what Envoy refuses, by name: a refused route answers 503 on its own match, so that
// no wider route takes its requests; a refused cluster is left out, and routes to it answer 503; without a refused secret every handshake that needs it fails.
func Quarantine(c *Config, refused map[string]string) *Config {
	out := &Config{}
	for _, g := range c.Gateways {
		kept := *g
		kept.Clusters = slices.DeleteFunc(slices.Clone(g.Clusters), func(c *Cluster) bool { return refused[c.Name] != "" })
		kept.Secrets = slices.DeleteFunc(slices.Clone(g.Secrets), func(s Secret) bool { return refused[s.Name] != "" })
		kept.Hosts, kept.Table = nil, g.Table+"-quarantine"
		for _, v := range g.Hosts {
			kept.Hosts = append(kept.Hosts, quarantineHost(v, refused))
		}
		out.Gateways = append(out.Gateways, &kept)
	}
	return out
}

func quarantineHost(v *VirtualHost, refused map[string]string) *VirtualHost {
	out := &VirtualHost{Domain: v.Domain}
	for _, r := range v.Routes {
		if refused[r.Name] != "" {
			stopped := *r
			stopped.Unavailable, stopped.Backends, stopped.Attachments = true, nil, nil
			stopped.Digest = "unavailable " + r.Digest
			r = &stopped
		}
		out.Routes = append(out.Routes, r)
	}
	return out
}
