package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/auditlog"
	"github.com/sluice-gateway/sluice/pkg/certs"
)

// authority signs what a test needs.
type authority struct {
	*certs.Authority
	w *world
}

func (w *world) authority(name string) authority {
	w.t.Helper()
	a, pair, err := certs.NewAuthority(name, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(name+".pem", string(pair.CertificatePEM))
	return authority{a, w}
}

// issue writes NAME.pem and NAME.key.
func (a authority) issue(name string, r certs.Request) certs.Pair {
	a.w.t.Helper()
	if r.Lifetime == 0 {
		r.Lifetime = 30 * time.Minute
	}
	pair, err := a.Issue(r)
	if err != nil {
		a.w.t.Fatal(err)
	}
	a.w.write(name+".pem", string(pair.CertificatePEM))
	if err := os.Chmod(a.w.write(name+".key", string(pair.KeyPEM)), 0o600); err != nil {
		a.w.t.Fatal(err)
	}
	return pair
}

func client(role access.Role, name string) certs.Request {
	return certs.Request{Client: &certs.Client{Role: role, Name: name}}
}

// token makes a token and gives the variable that holds it.
func (w *world) token(name string, more ...string) string {
	w.t.Helper()
	got := w.run(append([]string{"tokens", "create", "--admin-tokens", "tokens.json", "--name", name}, more...)...)
	got.wants(w.t, 0, "it is shown this once")
	return "SLUICE_TOKEN=" + got.stdout
}

// TestAdminOverTLS is the admin API on all addresses, with tokens and client certificates.
func TestAdminOverTLS(t *testing.T) {
	w := newWorld(t)
	ours, others := w.authority("ca"), w.authority("other")
	port := freePort(t)
	ours.issue("server", certs.Request{Hosts: []string{"127.0.0.1", "sluice.internal"}})
	ours.issue("look", client(access.Read, "look"))
	ours.issue("anna", client(access.Apply, "anna"))
	ours.issue("old", certs.Request{Client: &certs.Client{Role: access.Apply, Name: "old"}, Lifetime: time.Nanosecond})
	ours.issue("node", certs.Request{Node: &certs.Node{Gateway: "edge", Node: "e1"}})
	others.issue("stranger", client(access.Apply, "anna"))
	left := ours.issue("left", client(access.Apply, "left"))
	list, err := ours.Revoke(nil, left.Certificate.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	w.write("crl.pem", string(list))
	ci, reader, expired := w.token("ci", "--role", "apply"), w.token("reader", "--role", "read", "--expires", "never"), w.token("gone", "--role", "apply", "--expires", "1ms")
	w.start("serve", "--store", "s.db", "--listen-xds", "unix:"+w.xds(), "--listen-admin", fmt.Sprintf("0.0.0.0:%d", port),
		"--admin-cert", "server.pem", "--admin-key", "server.key", "--admin-client-ca", "ca.pem", "--admin-crl", "crl.pem", "--admin-tokens", "tokens.json").await(0, "serving")
	w.write("p.yaml", policies(8080, "hello"))
	w = w.with(fmt.Sprintf("SLUICE_SERVER=127.0.0.1:%d", port), "SLUICE_SERVER_CA=ca.pem")
	with := func(name string) *world {
		return w.with("SLUICE_CLIENT_CERT="+name+".pem", "SLUICE_CLIENT_KEY="+name+".key")
	}
	for _, c := range []struct {
		name        string
		as          *world
		read, apply string // "" when it may
	}{
		{"nothing", w, "this needs a token", "this needs a token"},
		{"a token to read", w.with(reader), "", "needs the role apply"},
		{"a token to apply", w.with(ci), "", ""},
		{"a token that expired", w.with(expired), "expired on", "expired on"},
		{"half a token", w.with(ci[:30]), "mistyped, cut short", "mistyped, cut short"},
		{"a certificate to read", with("look"), "", "needs the role apply"},
		{"a certificate to apply", with("anna"), "", ""},
		{"that of an Envoy", with("node"), "not for the admin API", "not for the admin API"},
		{"one that expired", with("old"), "does not take our certificate", "does not take our certificate"},
		{"one that was revoked", with("left"), "does not take our certificate", "does not take our certificate"},
		{"one of another authority", with("stranger"), "does not take our certificate", "does not take our certificate"},
		{"that of an Envoy, with a token", with("node").with(ci), "", ""},
		{"a server that cannot prove itself", w.with(ci, "SLUICE_SERVER_CA=other.pem"), "--server-ca", "--server-ca"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, try := range []struct{ want, words string }{{c.read, "get"}, {c.apply, "apply -f p.yaml"}} {
				code := 0
				if try.want != "" {
					code = 1
				}
				c.as.run(strings.Fields(try.words)...).wants(t, code, try.want)
			}
		})
	}
	w.with(fmt.Sprintf("SLUICE_SERVER=http://127.0.0.1:%d", port), ci).run("get").wants(t, 1, "wants TLS: write https://")
	w.with(ci).run("apply", "-f", "p.yaml", "--server", fmt.Sprintf("https://localhost:%d", port)).wants(t, 1, "does not prove", "--server-ca")
	w.with(ci).run("history").wants(t, 0, "token ci")
	w.run("tokens", "delete", "ci", "--admin-tokens", "tokens.json").wants(t, 0, "1 token deleted")
	w.with(ci).run("get").wants(t, 1, "was deleted")
	w.hosts(t, port)
	w.run("audit-log", "verify", "s.db.audit").wants(t, 0, "hold together")
	for _, who := range []string{"token ci", "certificate anna", "certificate spiffe://sluice/gateway/edge/node/e1", "token reader"} {
		if !strings.Contains(w.read("s.db.audit"), `"who":"`+who+`"`) {
			t.Errorf("the audit log does not name %s", who)
		}
	}
	if all := w.read("s.db.audit"); strings.Count(all, `"operation":"connect"`) < 6 || strings.Contains(all, ci[len("SLUICE_TOKEN=slt_"):20]) {
		t.Errorf("the audit log:\n%s", all)
	}
}

// hosts asks by several names, as DNS could be made to lead here.
func (w *world) hosts(t *testing.T, port int) {
	t.Helper()
	asker := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for host, want := range map[string]int{"sluice.internal": 200, "localhost": 200, "evil.example": 421, "10.9.9.9": 421} {
		r, err := http.NewRequest("GET", fmt.Sprintf("https://127.0.0.1:%d/livez", port), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := asker.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("host %s: %d", host, resp.StatusCode)
		}
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func TestServeRefusesAnOpenDoor(t *testing.T) {
	w := newWorld(t)
	ours := w.authority("ca")
	ours.issue("server", certs.Request{Hosts: []string{"127.0.0.1"}})
	w.token("ci", "--role", "apply")
	at, tlsFlags := []string{"--listen-admin", "0.0.0.0:0"}, []string{"--admin-cert", "server.pem", "--admin-key", "server.key"}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"any address", at, "--admin-cert"},
		{"any address with tokens", append(at, "--admin-tokens", "tokens.json"), "--admin-cert"},
		{"TLS and nobody", append(at, tlsFlags...), "nobody could call"},
		{"clients without TLS", []string{"--admin-client-ca", "ca.pem"}, "by TLS only"},
		{"a certificate without its key", []string{"--admin-cert", "server.pem", "--admin-tokens", "tokens.json"}, "needed together"},
		{"no such token file", []string{"--admin-tokens", "none.json"}, "sluice tokens create"},
		{"tokens at a socket, without any", []string{"--admin-socket-tokens"}, "name their file"},
		{"TLS at a socket", append([]string{"--listen-admin", "unix:x.sock", "--admin-tokens", "tokens.json"}, tlsFlags...), "has no TLS"},
		{"a folder as the audit log", []string{"--audit-log", "."}, "is no regular file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"serve", "--store", filepath.Join(t.TempDir(), "s.db"), "--listen-xds", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"}, c.args...)
			w.run(args...).wants(t, 1, c.want)
		})
	}
}

func TestTokensAtLoopbackAndAtASocket(t *testing.T) {
	w := newWorld(t)
	ci := w.token("ci", "--role", "read", "--role", "secrets")
	w.write("file.token", strings.TrimPrefix(ci, "SLUICE_TOKEN="))
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	w.start("serve", "--store", "s.db", "--listen-xds", "127.0.0.1:0", "--listen-admin", address, "--admin-tokens", "tokens.json").await(0, "serving")
	tcp := w.with("SLUICE_SERVER=" + address)
	tcp.run("get").wants(t, 1, "this needs a token")
	tcp.run("get", "--token-file", "file.token").wants(t, 0)
	tcp.with("SLUICE_TOKEN=slt_nonsense").run("get", "--token-file", "file.token").wants(t, 0)
	tcp.with("SLUICE_TOKEN=slt_nonsense", "SLUICE_TOKEN_FILE=file.token").run("get").wants(t, 1, "SLUICE_TOKEN")
	tcp.run("get", "--token-file", "none").wants(t, 1, "--token-file", "no such file")
	settings := tcp.with("SLUICE_CONFIG=" + w.write("config.yaml", "tokenFile: file.token\n"))
	settings.run("get").wants(t, 0)
	settings.run("delete", "Route/x").wants(t, 1, "needs the role apply")

	trusting, _ := newWorld(t).serve()
	trusting.run("get").wants(t, 0)
	asking := newWorld(t)
	ci = asking.token("ci", "--role", "apply")
	asking, _ = asking.serve("--admin-tokens", filepath.Join(asking.dir, "tokens.json"), "--admin-socket-tokens")
	asking.run("get").wants(t, 1, "this needs a token")
	asking.with(ci).run("get").wants(t, 0)
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.run("tokens", "create", "--name", "ci", "--role", "read").wants(t, 1, "--admin-tokens")
	w = w.with("SLUICE_ADMIN_TOKENS=tokens.json")
	w.run("tokens", "list").wants(t, 1, "no such file")
	got := w.run("tokens", "create", "--name", "ci", "--role", "apply,secrets", "--expires", "10d")
	got.wants(t, 0, "apply, secrets, until ")
	if _, err := access.ParseToken(strings.TrimSpace(got.stdout)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ args, want string }{
		{"--name ci --role read", "a token ci already"}, {"--role read", "--name"}, {"--name x", "there is no role"}, {"--name x --role admin", `no role "admin"`},
		{"--name a/b --role read", "is no name"}, {"--name x --role read --expires 0d", "is no time"}, {"--name x --role read --expires soon", "is no time"},
		{"--name x --role read --expires 99999999d", "is no time"}, {"--name x --role read --expires -1h", "is no time"}, {"--name x --role read,read", "there twice"},
	} {
		w.run(append([]string{"tokens", "create"}, strings.Fields(c.args)...)...).wants(t, 1, c.want)
	}
	w.run("tokens", "list").wants(t, 0, "NAME", "ci", "apply, secrets", "tester@")
	w.run("tokens", "list", "-o", "json").wants(t, 0, `"sha256"`)
	w.run("tokens", "delete", "none").wants(t, 1, "no token none")
	w.run("tokens", "delete", "ci").wants(t, 0, "1 token deleted")
	w.run("tokens", "list").wants(t, 0, "there are no tokens")
	w.run("tokens", "crate").wants(t, 1, "there is no command")
	if info, err := os.Stat(filepath.Join(w.dir, "tokens.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func TestTheAuditLog(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(w.dir, "store.db.audit")
	asked, server := w.serve()
	asked.write("p.yaml", policies(8080, "hello"))
	asked.run("apply", "-f", "p.yaml").wants(t, 0)
	asked.run("serve", "--store", "other.db", "--listen-xds", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0", "--audit-log", file).wants(t, 1, "in use by another process")
	var last auditlog.Entry
	lines := strings.Split(strings.TrimSpace(w.read("store.db.audit")), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("uid %d", os.Geteuid()); last.Who != want || !strings.HasPrefix(last.Says, "tester") || last.Operation != "apply" || last.Revision != 1 || last.From != "unix socket" {
		t.Errorf("%+v, want who %s", last, want)
	}
	if err := errors.Join(os.Rename(file, file+".1"), os.Mkdir(file, 0o700)); err != nil {
		t.Fatal(err)
	}
	asked.run("rollback", "1").wants(t, 1, "nothing was changed, since the audit log cannot be written")
	asked.run("history").wants(t, 0, "1*")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	asked.run("delete", "Route/hello").wants(t, 0)
	if code := server.interrupt(); code != 0 {
		t.Errorf("serve ends with %d", code)
	}
	w.run("audit-log", "verify", file+".1", file).wants(t, 0, "4 lines hold together, 1 to 4")
	w.run("audit-log", "verify", file).wants(t, 2, ":1: begins with line 3")
	w.run("audit-log", "verify", file, "--holds", "nonsense", "--after", hashOfLast(t, file+".1")).wants(t, 2, "is not there")
	w.run("audit-log", "verify", "none").wants(t, 1, "no such file")
	text := w.read("store.db.audit")
	w.write("store.db.audit", strings.Replace(text, "delete", "apply", 1)[:len(text)-30]+"\n")
	w.run("audit-log", "verify", file+".1", file).wants(t, 2, file)
	w.run("serve", "--store", "store.db", "--listen-xds", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0").wants(t, 1, "cut or changed")
	off, _ := w.serve("--audit-log", "off")
	off.run("apply", "-f", "p.yaml").wants(t, 0)
}

func hashOfLast(t *testing.T, file string) string {
	t.Helper()
	report, err := auditlog.Verify([]string{file}, auditlog.Known{})
	if err != nil {
		t.Fatal(err)
	}
	return report.Hash
}
