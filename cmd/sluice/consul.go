package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"github.com/sluice-gateway/sluice/pkg/catalog/saved"
)

// consulFlags say which Consul is asked, if any.
type consulFlags struct {
	address, datacenter, tokenFile    string
	caFile, certFile, keyFile, server string
}

func (c *consulFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.address, "consul", "", "the Consul agent that Services and registrations come from: host:port, https://host:port or unix:///path (SLUICE_CONSUL); none when left out")
	f.StringVar(&c.datacenter, "consul-datacenter", "", "the datacenter that is asked; the agent's own when left out (SLUICE_CONSUL_DATACENTER)")
	f.StringVar(&c.tokenFile, "consul-token-file", "", "a file with the ACL token, read again when it changes; else CONSUL_HTTP_TOKEN (SLUICE_CONSUL_TOKEN_FILE)")
	f.StringVar(&c.caFile, "consul-ca", "", "a file with the CA of Consul's certificate (SLUICE_CONSUL_CA)")
	f.StringVar(&c.certFile, "consul-cert", "", "a file with the client certificate (SLUICE_CONSUL_CERT)")
	f.StringVar(&c.keyFile, "consul-key", "", "a file with the client certificate's key (SLUICE_CONSUL_KEY)")
	f.StringVar(&c.server, "consul-server-name", "", "the name that Consul's certificate must bear, if not the address's (SLUICE_CONSUL_SERVER_NAME)")
}

// config names the Consul of the flags.
func (c consulFlags) config() consul.Config {
	config := consul.Default()
	config.Address, config.Datacenter = c.address, c.datacenter
	config.TokenFile, config.TokenEnv = c.tokenFile, "CONSUL_HTTP_TOKEN"
	config.CAFile, config.CertFile, config.KeyFile, config.ServerName = c.caFile, c.certFile, c.keyFile, c.server
	return config
}

// source is the Consul catalog; nil when none is asked. What it knew last is kept in the file named, if any, for a
// start while Consul is away.
func (c consulFlags) source(keep string, log *slog.Logger) (*consul.Source, error) {
	if c.address == "" {
		return nil, nil
	}
	config := c.config()
	config.Discover, config.Log = true, log
	if keep != "" {
		config.Saver = saved.NewFile(keep)
	}
	return consul.New(config)
}
