package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
)

func TestCerts_FromAuthorityToRevocation(t *testing.T) {
	w := newWorld(t)
	w.run("certs", "list").wants(t, 1, "there is no authority in ca: make one with sluice certs init")
	w.run("certs", "init").wants(t, 0, "made an authority in ca", "ca.key")
	w.run("certs", "init").wants(t, 1, "there is an authority in ca already")
	w.run("certs", "list").wants(t, 0, "it has signed none")
	for _, args := range [][]string{
		{"server", "--host", "sluice.internal", "--host", "10.0.0.5"}, {"node", "--gateway", "edge", "--node", "a/b c"},
		{"node", "--gateway", "edge", "--any-node", "--days", "7"}, {"client", "--name", "alice", "--role", "apply", "--out", "me"},
	} {
		w.run(append([]string{"certs"}, args...)...).wants(t, 0, "wrote ", "renew it from")
	}
	for name, mode := range map[string]os.FileMode{
		"ca": 0o700, "ca/ca.key": 0o600, "server.key": 0o600, "a%2Fb%20c.key": 0o600, "edge.key": 0o600, "me.key": 0o600, "server.crt": 0o644,
	} {
		if info, err := os.Stat(filepath.Join(w.dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	w.run("certs", "show", "a%2Fb%20c.crt").wants(t, 0, "spiffe://sluice/gateway/edge/node/a%2Fb%20c")
	w.run("certs", "show", "edge.crt").wants(t, 0, "every Envoy and agent of the gateway edge")
	w.run("certs", "show", "ca/ca.crt").wants(t, 0, "the authority sluice")
	w.run("certs", "show", "me.key").wants(t, 1, "no certificate in PEM")
	if got := w.run("certs", "show", "me.key"); strings.Contains(got.stdout+got.stderr, "PRIVATE") {
		t.Error("a key is shown")
	}

	before := w.run("certs", "show", "me.crt").stdout
	w.run("certs", "renew", "me.crt").wants(t, 0, "wrote me.crt", "spiffe://sluice/role/apply/name/alice")
	if after := w.run("certs", "show", "me.crt").stdout; after == before {
		t.Error("it is not renewed")
	}
	w.run("certs", "renew", "ca/ca.crt").wants(t, 1, "it names neither a host, nor a node, nor a client")
	w.run("certs", "revoke", "server.crt", "spiffe://sluice/role/apply/name/alice").wants(t, 0, "revoked the server sluice.internal", "revoked spiffe://sluice/role/apply/name/alice")
	if n := revokedIn(t, w); n != 3 {
		t.Errorf("%d are revoked, want the server's and both of alice", n)
	}
	w.run("certs", "revoke", "server.crt").wants(t, 0)
	if n := revokedIn(t, w); n != 3 {
		t.Errorf("%d are revoked after the same again", n)
	}
	w.write("ca/ca.crl.lock", "")
	w.run("certs", "revoke", "edge.crt").wants(t, 1, "another sluice certs revoke is at work")
}

func revokedIn(t *testing.T, w *world) (n int) {
	t.Helper()
	var list []shownCertificate
	if err := json.Unmarshal([]byte(w.run("certs", "list", "-o", "json").stdout), &list); err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Revoked {
			n++
		}
	}
	return n
}

func TestCerts_Mistakes(t *testing.T) {
	w := newWorld(t)
	w.run("certs", "init").wants(t, 0)
	w.run("certs", "init", "--dir", "other").wants(t, 0)
	w.run("certs", "node", "--gateway", "edge", "--node", "n1").wants(t, 0)
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"a word", []string{"certs", "nod"}, `there is no command "nod"`},
		{"no host", []string{"certs", "server"}, "--host is missing"},
		{"a host with a port", []string{"certs", "server", "--host", "a:1"}, "without scheme and port"},
		{"no gateway", []string{"certs", "node", "--node", "n2"}, "--gateway is missing"},
		{"no node", []string{"certs", "node", "--gateway", "edge"}, "--any-node"},
		{"a node and any", []string{"certs", "node", "--gateway", "edge", "--node", "n2", "--any-node"}, "exclude each other"},
		{"no role", []string{"certs", "client", "--name", "bob"}, "--name and --role are needed"},
		{"another role", []string{"certs", "client", "--name", "bob", "--role", "root"}, "there are: read, apply, secrets"},
		{"no days", []string{"certs", "node", "--gateway", "edge", "--node", "n2", "--days", "0"}, "from 1 to 36500"},
		{"more days than the authority has", []string{"certs", "node", "--gateway", "edge", "--node", "n2", "--days", "5000"}, "ask for at most 36"},
		{"files that are there", []string{"certs", "node", "--gateway", "edge", "--node", "n1"}, "sluice certs renew"},
		{"a folder without an authority", []string{"certs", "client", "--name", "bob", "--role", "read", "--dir", "none"}, "there is no authority in none"},
		{"what nobody signed", []string{"certs", "revoke", "abc"}, "neither a file, nor a serial number or bearer"},
		{"what another signed", []string{"certs", "revoke", "n1.crt", "--dir", "other"}, "was not signed by this authority"},
		{"renewed by its key", []string{"certs", "renew", "n1.key"}, "ends in .crt"},
		{"nothing to renew", []string{"certs", "renew"}, "one file or several"},
		{"xDS for everybody", []string{"serve", "--store", "s.db", "--listen-xds", "0.0.0.0:0"}, "--xds-cert, --xds-key and --xds-client-ca"},
		{"half a pair for xDS", []string{"serve", "--store", "s.db", "--xds-cert", "n1.crt"}, "are needed together"},
		{"a pair that is none", []string{"serve", "--store", "s.db", "--xds-cert", "ca/ca.crt", "--xds-key", "n1.key", "--xds-client-ca", "ca/ca.crt"}, "does not match"},
		{"a revocation list of another", []string{"serve", "--store", "s.db", "--xds-cert", "n1.crt", "--xds-key", "n1.key", "--xds-client-ca", "ca/ca.crt", "--xds-crl", "other/ca.crl"}, "signed by none of the authorities"},
		{"an agent far from its server", []string{"agent", "--gateway", "edge", "--xds", "10.0.0.1:1"}, "give --cert, --key and --ca"},
		{"an agent with half", []string{"agent", "--gateway", "edge", "--cert", "n1.crt"}, "are needed together"},
		{"an agent of another gateway", []string{"agent", "--gateway", "shop", "--cert", "n1.crt", "--key", "n1.key", "--ca", "ca/ca.crt"}, "neither the node agent-n1 of the gateway shop"},
		{"an agent of another node", []string{"agent", "--gateway", "edge", "--node", "agent-n2", "--cert", "n1.crt", "--key", "n1.key", "--ca", "ca/ca.crt"}, "neither the node agent-n2 of the gateway edge"},
		{"a bootstrap's folder that is not there", []string{"bootstrap", "--gateway", "edge", "--tls-ca", "/ca", "--tls-cert", "/c", "--tls-key", "/k", "--tls-secrets", filepath.Join(w.dir, "none")}, "--tls-secrets: "},
	} {
		t.Run(c.name, func(t *testing.T) { w.run(c.args...).wants(t, 1, "error: ", c.want) })
	}
	w.run("bootstrap", "--gateway", "edge", "--tls-ca", "/ca", "--tls-cert", "/c", "--tls-key", "/k").wants(t, 0, "note: Envoy will take a new certificate only when it is restarted")
}

// TestServe_OverMutualTLS runs the programs as a user does: server, Envoy and agent, each with its certificate, set by
// variables.
func TestServe_OverMutualTLS(t *testing.T) {
	w := newWorld(t).withEnvoy()
	w.run("certs", "init").wants(t, 0)
	w.run("certs", "server", "--host", "sluice.internal").wants(t, 0)
	w.run("certs", "node", "--gateway", "edge", "--node", "e1").wants(t, 0)
	xds, admin, port := freePort(t), freePort(t), freePort(t)
	server := w.with("SLUICE_XDS_CERT=server.crt", "SLUICE_XDS_KEY=server.key", "SLUICE_XDS_CLIENT_CA=ca/ca.crt", "SLUICE_XDS_CRL=ca/ca.crl").
		start("serve", "--store", "s.db", "--listen-xds", here(xds), "--listen-admin", here(admin))
	server.await(0, "serving")
	w = w.with("SLUICE_SERVER=http://" + here(admin))
	w.write("p/a.yaml", policies(port, "hello"))
	w.run("apply", "-f", "p").wants(t, 0, "no Envoy is connected")

	agent := w.with("SLUICE_CERT=e1.crt", "SLUICE_KEY=e1.key", "SLUICE_CA=ca/ca.crt", "SLUICE_SERVER_NAME=sluice.internal").
		start("agent", "--gateway", "edge", "--xds", here(xds), "--listen-agent", here(freePort(t)), "--listen-metrics", here(freePort(t)), "--listen-agent-xds", "none", "--copy", "agent.copy")
	agent.await(0, "following")
	tls := envoy.TLS{
		CA: filepath.Join(w.dir, "ca/ca.crt"), Certificate: filepath.Join(w.dir, "e1.crt"), Key: filepath.Join(w.dir, "e1.key"), ServerName: "sluice.internal",
	}
	p := &envoy.Process{
		Binary: featuretest.Envoy(t), Log: os.Stderr, LogLevel: "error", Concurrency: 1, DrainTime: time.Second,
		Bootstrap: envoy.Bootstrap{Gateway: "edge", Node: "e1", Servers: []string{here(xds)}, Admin: here(freePort(t)), TLS: tls},
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = end(p) })
	eventually(t, "both are synced", func() bool { return strings.Count(w.run("envoys").stdout, "synced") == 2 })
	out := w.run("envoys").stdout
	envoys, agents, ok := strings.Cut(out, "AGENT")
	if !ok || !strings.Contains(envoys, "e1 ") || strings.Contains(envoys, "agent-e1") || !strings.Contains(agents, "agent-e1") {
		t.Errorf("agents do not stand apart:\n%s", out)
	}
	w.write("p/a.yaml", policies(port, "again"))
	w.run("apply", "-f", "p").wants(t, 0, "acknowledged by 1 of 1 Envoy and 1 of 1 agent")

	w.run("certs", "revoke", "e1.crt").wants(t, 0)
	eventually(t, "both are out", func() bool { return strings.Count(w.run("envoys").stdout, "disconnected") == 2 })
	if log, err := os.ReadFile(filepath.Join(w.dir, "s.db.audit")); err != nil || !strings.Contains(string(log), `"who":"spiffe://sluice/gateway/edge/node/e1"`) {
		t.Errorf("the audit log does not name who was denied: %v\n%s", err, log)
	}
}

func here(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) { // between looks
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}
