package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// settings is the file of settings. Each key stands for the flag of its name.
type settings struct {
	Server         string `json:"server,omitempty"`
	Output         string `json:"output,omitempty"`
	Envoy          string `json:"envoy,omitempty"`
	Store          string `json:"store,omitempty"`
	ListenXDS      string `json:"listenXDS,omitempty"`
	ListenAdmin    string `json:"listenAdmin,omitempty"`
	ListenAgent    string `json:"listenAgent,omitempty"`
	ListenAgentXDS string `json:"listenAgentXDS,omitempty"`
	AdminHost      string `json:"adminHost,omitempty"`
	LogLevel       string `json:"logLevel,omitempty"`
	LogFormat      string `json:"logFormat,omitempty"`

	ServerCA   string `json:"serverCA,omitempty"`
	ClientCert string `json:"clientCert,omitempty"`
	ClientKey  string `json:"clientKey,omitempty"`
	TokenFile  string `json:"tokenFile,omitempty"`

	AdminCert     string `json:"adminCert,omitempty"`
	AdminKey      string `json:"adminKey,omitempty"`
	AdminClientCA string `json:"adminClientCA,omitempty"`
	AdminCRL      string `json:"adminCRL,omitempty"`
	AdminTokens   string `json:"adminTokens,omitempty"`
	AuditLog      string `json:"auditLog,omitempty"`

	XDSCert     string `json:"xdsCert,omitempty"`
	XDSKey      string `json:"xdsKey,omitempty"`
	XDSClientCA string `json:"xdsClientCA,omitempty"`
	XDSCRL      string `json:"xdsCRL,omitempty"`
	Cert        string `json:"cert,omitempty"`
	Key         string `json:"key,omitempty"`
	CA          string `json:"ca,omitempty"`
	ServerName  string `json:"serverName,omitempty"`

	SecretsKey string `json:"secretsKey,omitempty"`

	Consul           string `json:"consul,omitempty"`
	ConsulDatacenter string `json:"consulDatacenter,omitempty"`
	ConsulTokenFile  string `json:"consulTokenFile,omitempty"`
	ConsulCA         string `json:"consulCA,omitempty"`
	ConsulCert       string `json:"consulCert,omitempty"`
	ConsulKey        string `json:"consulKey,omitempty"`
	ConsulServerName string `json:"consulServerName,omitempty"`
}

// byFlag are the settings by the flag that each stands for.
func (s settings) byFlag() map[string]string {
	return map[string]string{
		"server": s.Server, "output": s.Output, "envoy": s.Envoy, "store": s.Store, "listen-xds": s.ListenXDS,
		"listen-admin": s.ListenAdmin, "listen-agent": s.ListenAgent, "listen-agent-xds": s.ListenAgentXDS, "admin-host": s.AdminHost, "log-level": s.LogLevel, "log-format": s.LogFormat,
		"server-ca": s.ServerCA, "client-cert": s.ClientCert, "client-key": s.ClientKey, "token-file": s.TokenFile,
		"admin-cert": s.AdminCert, "admin-key": s.AdminKey, "admin-client-ca": s.AdminClientCA, "admin-crl": s.AdminCRL,
		"admin-tokens": s.AdminTokens, "audit-log": s.AuditLog, "secrets-key": s.SecretsKey,
		"xds-cert": s.XDSCert, "xds-key": s.XDSKey, "xds-client-ca": s.XDSClientCA, "xds-crl": s.XDSCRL,
		"cert": s.Cert, "key": s.Key, "ca": s.CA, "server-name": s.ServerName,
		"consul": s.Consul, "consul-datacenter": s.ConsulDatacenter, "consul-token-file": s.ConsulTokenFile, "consul-ca": s.ConsulCA,
		"consul-cert": s.ConsulCert, "consul-key": s.ConsulKey, "consul-server-name": s.ConsulServerName,
	}
}

// configure fills in the flags that were not given, from variables and from the file.
func (a *app) configure(cmd *cobra.Command) error {
	if cmd.Name() == "help" || strings.HasPrefix(cmd.Name(), "__complete") {
		return nil
	}
	file, path, err := a.readSettings()
	if err != nil {
		return err
	}
	for name, value := range file.byFlag() {
		from := path
		variable := "SLUICE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if v := a.getenv(variable); v != "" {
			value, from = v, variable
		}
		flag := cmd.Flags().Lookup(name)
		if flag == nil || flag.Changed || value == "" {
			continue
		}
		if err := flag.Value.Set(value); err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
	}
	return nil
}

// readSettings reads the file of settings. One that is named must be there.
func (a *app) readSettings() (s settings, path string, err error) {
	path, named := a.settingsFile()
	if path == "" {
		return s, "", nil
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return s, path, nil
	case err != nil:
		return s, path, fmt.Errorf("settings: %w", err)
	}
	var p policy.Problems
	if at := policy.Text(path, string(text), &p); at.Node != nil {
		policy.Decode(at, &s, &p)
	}
	if p.Failed() {
		return s, path, errors.New("settings:\n" + p.Render())
	}
	return s, path, nil
}

func (a *app) settingsFile() (path string, named bool) {
	if path := a.getenv("SLUICE_CONFIG"); path != "" {
		return path, true
	}
	dir := a.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		if home := a.getenv("HOME"); home != "" {
			dir = filepath.Join(home, ".config")
		}
	}
	if dir == "" {
		return "", false
	}
	return filepath.Join(dir, "sluice", "config.yaml"), false
}
