// Package consul starts real Consul agents for tests, stops them and breaks them.
package consul

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// Agent is a Consul server, on ports of its own.
type Agent struct {
	// Address is its HTTP address, host:port; HTTPS that of the other door, "" without Options.TLS.
	Address, HTTPS string
	// CAFile signs its certificate.
	CAFile string
	// Client asks it, with the management token if it has ACLs.
	Client *api.Client

	t       testing.TB
	folder  string
	ports   map[string]int
	process *exec.Cmd
}

// Management is the token that may do all, where Options.ACL is set.
const Management = "5e0b5a3c-1c3f-4b5e-9a2c-0f8c1f5d7a11"

// Options of an agent.
type Options struct {
	// ACL denies what no token allows.
	ACL bool
	// TLS opens a second door, by HTTPS.
	TLS bool
	// Settings are merged over the agent's configuration.
	Settings map[string]any
}

// Binary is the path of the Consul program; without one the test is skipped, or fails under CI.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := Find()
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatal(err)
	}
	t.Skip(err)
	return ""
}

// Find is the path of the Consul program: the one that SLUICE_CONSUL_BINARY names, else what scripts/tools.sh fetched.
func Find() (string, error) {
	if path := os.Getenv("SLUICE_CONSUL_BINARY"); path != "" {
		return path, nil
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	found, _ := filepath.Glob(filepath.Join(cache, "sluice", "tools", "consul-*", "consul"))
	if len(found) == 0 {
		return "", errors.New("no Consul: run `scripts/tools.sh consul`, or name one with SLUICE_CONSUL_BINARY")
	}
	return slices.Max(found), nil
}

// Start runs a server that has a leader and answers; it ends with the test.
func Start(t testing.TB, o Options) *Agent {
	a := configure(t, "one", o, map[string]any{"bootstrap_expect": 1})
	a.Launch()
	a.AwaitLeader()
	return a
}

// Cluster runs three servers that have a leader.
func Cluster(t testing.TB, o Options) []*Agent {
	var agents []*Agent
	var peers []string
	for n := range 3 {
		agents = append(agents, configure(t, fmt.Sprintf("server-%d", n), o, map[string]any{"bootstrap_expect": 3}))
		peers = append(peers, fmt.Sprintf("127.0.0.1:%d", agents[n].ports["serf_lan"]))
	}
	for _, a := range agents {
		a.write("join.json", map[string]any{"retry_join": peers, "retry_interval": "500ms"})
		a.Launch()
	}
	for _, a := range agents {
		a.AwaitLeader()
	}
	return agents
}

func configure(t testing.TB, node string, o Options, more map[string]any) *Agent {
	a := &Agent{t: t, folder: t.TempDir(), ports: map[string]int{"grpc": -1, "grpc_tls": -1, "dns": -1, "https": -1}}
	free := freePorts(t, 5)
	for n, name := range []string{"http", "serf_lan", "serf_wan", "server"} {
		a.ports[name] = free[n]
	}
	if o.TLS {
		a.ports["https"] = free[4]
		a.HTTPS = fmt.Sprintf("127.0.0.1:%d", free[4])
		if err := Certificates(a.folder); err != nil {
			t.Fatal(err)
		}
		a.CAFile = filepath.Join(a.folder, "cert.pem")
	}
	a.Address = fmt.Sprintf("127.0.0.1:%d", a.ports["http"])
	settings := map[string]any{
		"server": true, "node_name": node, "data_dir": filepath.Join(a.folder, "data"), "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
		"ports": a.ports, "log_level": "warn", "performance": map[string]any{"raft_multiplier": 1}, "disable_update_check": true,
		"ui_config": map[string]any{"enabled": false}, "connect": map[string]any{"enabled": false},
	}
	config := &api.Config{Address: a.Address}
	if o.ACL {
		config.Token = Management
		settings["acl"] = map[string]any{"enabled": true, "default_policy": "deny", "tokens": map[string]any{"initial_management": Management, "agent": Management}}
	}
	if o.TLS {
		settings["tls"] = map[string]any{"https": map[string]any{"cert_file": filepath.Join(a.folder, "cert.pem"), "key_file": filepath.Join(a.folder, "key.pem")}}
	}
	for _, extra := range []map[string]any{more, o.Settings} {
		for k, v := range extra {
			settings[k] = v
		}
	}
	a.write("agent.json", settings)
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	a.Client = client
	return a
}

func (a *Agent) write(name string, settings map[string]any) {
	text, err := json.Marshal(settings)
	if err != nil {
		a.t.Fatal(err)
	}
	folder := filepath.Join(a.folder, "config")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// Launch starts the agent's process, with the data and ports it had before.
func (a *Agent) Launch() {
	a.t.Helper()
	log, err := os.OpenFile(filepath.Join(a.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(Binary(a.t), "agent", "-config-dir", filepath.Join(a.folder, "config"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.process = cmd
	a.t.Cleanup(func() {
		a.Signal(syscall.SIGCONT)
		a.Kill()
		if a.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			a.t.Logf("consul at %s:\n%s", a.Address, text[max(0, len(text)-40000):])
		}
	})
}

// Kill ends the process at once, as a crash does.
func (a *Agent) Kill() {
	if a.process == nil {
		return
	}
	_ = a.process.Process.Kill()
	_ = a.process.Wait()
	a.process = nil
}

// Signal sends one to the process, such as SIGSTOP and SIGCONT.
func (a *Agent) Signal(s syscall.Signal) {
	if a.process != nil {
		_ = a.process.Process.Signal(s)
	}
}

// AwaitLeader returns when the agent answers that there is a leader, and lets its own node be seen.
func (a *Agent) AwaitLeader() {
	a.t.Helper()
	Until(a.t, time.Minute, "consul has a leader", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		nodes, meta, err := a.Client.Catalog().Nodes((&api.QueryOptions{}).WithContext(ctx))
		return err == nil && len(nodes) > 0 && meta.KnownLeader
	})
}

// Register registers an instance at an agent, and fails the test if that fails.
func (a *Agent) Register(r *api.AgentServiceRegistration) {
	a.t.Helper()
	if err := a.Client.Agent().ServiceRegister(r); err != nil {
		a.t.Fatal(err)
	}
}

// Deregister removes an instance by its ID.
func (a *Agent) Deregister(id string) {
	a.t.Helper()
	if err := a.Client.Agent().ServiceDeregister(id); err != nil {
		a.t.Fatal(err)
	}
}

// Until asks again and again until the condition holds; the test fails if it does not in time.
func Until(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("within %s it did not come that %s", limit, what)
		}
	}
}

// freePorts are free for TCP and UDP alike, which Consul's gossip needs.
func freePorts(t testing.TB, n int) []int {
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		// Below the range that the system gives to outgoing connections, which would take it before the agent does.
		address := "127.0.0.1:" + strconv.Itoa(10_000+mathrand.IntN(20_000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			if tries > 1000 {
				t.Fatal(err)
			}
			continue
		}
		defer l.Close()
		if p, err := net.ListenPacket("udp", address); err == nil {
			defer p.Close()
			ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		}
	}
	return ports
}

// Certificates writes cert.pem, a certificate for 127.0.0.1 that signs itself, and key.pem to a folder.
func Certificates(folder string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "consul"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
