package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
)

// serve starts a server on sockets of its own; what is run in the world it gives asks that server.
func (w *world) serve(args ...string) (*world, *process) {
	w.t.Helper()
	socket := filepath.Join(w.t.TempDir(), "admin.sock")
	p := w.start(append([]string{"serve", "--store", filepath.Join(w.dir, "store.db"), "--listen-xds", "unix:" + w.xds(), "--listen-admin", "unix:" + socket}, args...)...)
	p.await(0, "serving")
	return w.with("SLUICE_SERVER=unix://" + socket), p
}

func (w *world) xds() string { return filepath.Join(w.dir, "xds.sock") }

func TestServeFromFirstApplyToImport(t *testing.T) {
	w := newWorld(t).withEnvoy()
	w, server := w.serve()
	w.write("p/a.yaml", policies(8080, "hello"))
	w.run("get").wants(t, 0, "nothing is stored")
	w.run("history").wants(t, 0, "nothing was ever applied")
	w.run("plan", "-f", "p", "--out", "plan.json").wants(t, 2, "+ Route/hello", "    + ", "2 to add", "proven")
	w.run("apply", "--plan", "plan.json", "-m", "first").wants(t, 0, "revision 1: 2 objects set", "proven", "no Envoy is connected")
	w.run("apply", "--plan", "plan.json").wants(t, 4, "conflict", "revision 1")
	w.run("plan", "-f", "p").wants(t, 0, "no changes")
	w.run("apply", "-f", "p").wants(t, 0, "nothing to change")
	w.write("p/a.yaml", policies(8080, "bye"))
	w.run("plan", "-f", "p").wants(t, 2, "- spec: {match: GET /hello, direct: {status: 200, body: hello}}", "+ spec:", "1 to change")
	w.run("apply", "-f", "p").wants(t, 0, "~ Route/hello", "revision 2")
	w.run("rollback", "1").wants(t, 0, "revision 3")
	w.run("rollback", "99").wants(t, 1, "no such revision")
	w.run("get", "Route", "hello").wants(t, 0, "body: hello")
	w.run("get", "routes", "-o", "json").wants(t, 0, `"kind": "Route"`)
	w.run("get", "route/none").wants(t, 1, "no such object")
	w.run("history").wants(t, 0, "3*", "rollback to revision 1", "first", "tester@")
	w.run("why", "route/hello").wants(t, 0, "stored    in revision 3", "hello/hello", "no Envoy of its gateway")
	w.run("explain", "GET", "http://x/hello").wants(t, 0, "hello/hello  (a.yaml:9)")
	w.run("envoys").wants(t, 0, "no Envoy has connected")
	w.write("p/bad.yaml", "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: bad}\nspec: {match: /bad, to: nobody}\n")
	w.run("apply", "-f", "p").wants(t, 1, "bad.yaml:4:", "nobody", "nothing was applied")
	w.run("plan", "-f", "p").wants(t, 1, "nobody")
	if err := os.Remove(filepath.Join(w.dir, "p/bad.yaml")); err != nil {
		t.Fatal(err)
	}
	w.run("delete", "route/hello").wants(t, 0, "- Route/hello", "1 object deleted")
	w.run("delete", "route/hello").wants(t, 1, "no such object")
	w.run("export", "x.jsonl").wants(t, 0)
	w.run("apply", "-f", "p").wants(t, 0, "revision 5")
	w.run("import", "x.jsonl").wants(t, 1, "--replace")
	w.run("import", "x.jsonl", "--replace").wants(t, 0, "imported: revision 4")
	piped := w.run("export", "--head-only")
	w.runIn(piped.stdout, "import", "-", "--replace").wants(t, 0, "imported: revision 4")
	if code := server.interrupt(); code != 0 {
		t.Errorf("serve ends with %d", code)
	}
	again, _ := w.serve()
	again.awaitPublished(t)
	again.run("history").wants(t, 0, "4*")
}

// awaitPublished waits until the server has read its store and published it.
func (w *world) awaitPublished(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if got := w.run("history", "-o", "json"); !strings.Contains(got.stdout, `"serving": 0`) {
			return
		}
	}
	t.Fatal("nothing is published")
}

func TestPruneAndRemovals(t *testing.T) {
	w, _ := newWorld(t).serve()
	text := policies(8080, "hello")
	for i := range 12 {
		w.write(fmt.Sprintf("p/r%d.yaml", i), fmt.Sprintf("apiVersion: sluice/v1\nkind: Route\nmetadata: {name: r%d}\nspec: {match: /r%d, direct: {}}\n", i, i))
	}
	w.write("p/a.yaml", text)
	w.run("apply", "-f", "p").wants(t, 0, "14 objects set", "unproven")
	w.write("q/a.yaml", text)
	w.run("plan", "-f", "q", "--prune", "--source", "p").wants(t, 1, "12 to delete", "apply would refuse this")
	w.run("apply", "-f", "q", "--prune", "--source", "p").wants(t, 1, "--allow-removals")
	w.run("apply", "-f", "q", "--prune", "--source", "p", "--allow-removals").wants(t, 0, "12 objects deleted")
}

func TestWhatServeNeedsIsTaken(t *testing.T) {
	w := newWorld(t)
	used, _ := w.serve()
	w.run("serve", "--store", "store.db", "--listen-xds", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0").wants(t, 1, "--store", "another `sluice serve`")
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	w.run("serve", "--store", "other.db", "--listen-xds", lis.Addr().String(), "--listen-admin", "127.0.0.1:0").wants(t, 1, "--listen-xds: "+lis.Addr().String()+" is in use")
	w.run("serve", "--store", "other.db", "--listen-xds", "127.0.0.1:0", "--listen-admin", lis.Addr().String()).wants(t, 1, "--listen-admin: "+lis.Addr().String()+" is in use")
	used.run("envoys").wants(t, 0)
}

// startEnvoy runs the real Envoy on what sluice bootstrap prints.
func (w *world) startEnvoy(t *testing.T, gateway string) {
	t.Helper()
	adminSocket := filepath.Join(t.TempDir(), "envoy.sock")
	got := w.run("bootstrap", "--gateway", gateway, "--node", "e1", "--xds", "unix:"+w.xds(), "--admin", "unix:"+adminSocket)
	got.wants(t, 0)
	file := w.write("envoy.yaml", got.stdout)
	cmd := exec.Command(featuretest.Envoy(t), "-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--drain-time-s", "1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	w.awaitEnvoy(t)
}

func (w *world) awaitEnvoy(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		var list admin.Envoys
		got := w.run("envoys", "-o", "json")
		if err := json.Unmarshal([]byte(got.stdout), &list); err == nil && len(list.Envoys) > 0 && list.Envoys[0].Connected {
			return
		}
	}
	t.Fatal("the Envoy does not connect")
}

// TestAnEnvoyThatRefuses gives a listener a port that is taken: the proof cannot know, the Envoy refuses it.
func TestAnEnvoyThatRefuses(t *testing.T) {
	w := newWorld(t).withEnvoy()
	w, _ = w.serve()
	port := freePort(t)
	w.write("p/a.yaml", policies(port, "hello"))
	w.run("apply", "-f", "p").wants(t, 0, "revision 1")
	w.startEnvoy(t, "edge")
	w.write("p/a.yaml", policies(port, "hi"))
	w.run("apply", "-f", "p").wants(t, 0, "acknowledged by 1 of 1 Envoy")
	if status, body := ask(t, port); status != 200 || body != "hi" {
		t.Errorf("the gateway answers %d %q", status, body)
	}
	w.run("envoys").wants(t, 0, "e1", "synced", "1.40.0")
	w.run("why", "Route/hello").wants(t, 0, "serving")
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	w.write("p/a.yaml", policies(lis.Addr().(*net.TCPAddr).Port, "hi"))
	w.run("apply", "-f", "p", "--undo-on-refusal").wants(t, 3, "refused:", "edge/http", "Address already in use", "taken back: revision 4")
	w.run("apply", "-f", "p").wants(t, 3, "e1 refuses listener edge/http")
	w.run("envoys").wants(t, 0, "refused")
	if status, body := ask(t, port); status != 200 || body != "hi" {
		t.Errorf("after the refusal the gateway answers %d %q", status, body)
	}
}

func TestDev(t *testing.T) {
	w := newWorld(t).withEnvoy()
	port := freePort(t)
	w.write("p/a.yaml", policies(port, "hello"))
	sockets := t.TempDir()
	adminSocket := "unix:" + filepath.Join(sockets, "admin.sock")
	envoyAdmin := "unix:" + filepath.Join(sockets, "envoy.sock")
	p := w.start("dev", "p", "--listen-xds", "127.0.0.1:0", "--listen-admin", adminSocket, "--envoy-admin", envoyAdmin)
	at := p.await(0, "revision 1 live")
	at = p.await(at, "http://127.0.0.1:"+strconv.Itoa(port))
	if status, body := ask(t, port); status != 200 || body != "hello" {
		t.Fatalf("the gateway answers %d %q", status, body)
	}
	w.write("p/a.yaml", policies(port, "bye"))
	at = p.await(at, "~Route/hello")
	if _, body := ask(t, port); body != "bye" {
		t.Errorf("after a good edit the gateway answers %q", body)
	}
	w.write("p/a.yaml", strings.Replace(policies(port, "bad"), "match:", "mach:", 1))
	at = p.await(at, "not applied")
	at = p.await(at, "did you mean match?")
	at = p.await(at, "revision 2 goes on serving")
	if _, body := ask(t, port); body != "bye" {
		t.Errorf("after a bad edit the gateway answers %q", body)
	}
	w.write("p/new.yaml.tmp", policies(port, "mended"))
	if err := os.Rename(filepath.Join(w.dir, "p/new.yaml.tmp"), filepath.Join(w.dir, "p/a.yaml")); err != nil {
		t.Fatal(err)
	}
	p.await(at, "revision 3 live")
	if _, body := ask(t, port); body != "mended" {
		t.Errorf("after the mending the gateway answers %q", body)
	}
	reader := w.with("SLUICE_SERVER=" + adminSocket)
	reader.run("get").wants(t, 0, "Route", "hello")
	reader.run("envoys").wants(t, 0, "dev-edge", "synced")
	for _, words := range [][]string{{"apply", "-f", "p"}, {"delete", "Route/hello"}, {"rollback", "1"}} {
		reader.run(words...).wants(t, 1, "the folder is the truth")
	}
	if code := p.interrupt(); code != 0 {
		all, _ := p.said()
		t.Errorf("dev ends with %d:\n%s", code, all)
	}
	if resp, err := envoy.AdminClient(envoyAdmin).Get("http://envoy/ready"); err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		t.Error("its Envoy is still there")
	}
}

func TestDevSaysThatAPortIsTaken(t *testing.T) {
	w := newWorld(t).withEnvoy()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	w.write("p/a.yaml", policies(lis.Addr().(*net.TCPAddr).Port, "hello"))
	p := w.start("dev", "p", "--listen-xds", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0", "--envoy-admin", "unix:"+filepath.Join(t.TempDir(), "e.sock"))
	at := p.await(0, "help: another program listens there")
	p.await(at, "revision 1 refused in part")
	if code := p.interrupt(); code != 0 {
		t.Errorf("dev ends with %d", code)
	}
}

func TestDevStartsOnABadFolder(t *testing.T) {
	w := newWorld(t)
	w.write("p/a.yaml", "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {}\n")
	p := w.start("dev", "p", "--no-envoy", "--listen-xds", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0")
	at := p.await(0, "nothing is served yet")
	w.write("p/a.yaml", policies(freePort(t), "hello"))
	p.await(at, "revision 1 live")
	if code := p.interrupt(); code != 0 {
		t.Errorf("dev ends with %d", code)
	}
}

func TestDevKeepsKeysRevocationsAndSecrets(t *testing.T) {
	w := newWorld(t)
	w.run("certs", "init", "--dir", "authority").wants(t, 0)
	w.write("p/a.yaml", policies(freePort(t), "hello")+"---\napiVersion: sluice/v1\nkind: Certificate\nmetadata: {name: partners}\nspec: {ca: {secret: partners}}\n")
	admin := "unix:" + filepath.Join(t.TempDir(), "admin.sock")
	p := w.start("dev", "p", "--no-envoy", "--listen-xds", "127.0.0.1:0", "--listen-admin", admin)
	at := p.await(0, `secret "partners": there is no such secret`)
	at = p.await(at, "nothing is served yet")
	asking := w.with("SLUICE_SERVER=" + admin)
	asking.run("secrets", "set", "partners", "--file", "authority/ca.crt").wants(t, 0, "secret partners is set")
	p.await(at, "revision 1 live") // without an edit
	asking.run("keys", "create", "--owner", "acme").wants(t, 0, "of acme")
	asking.run("keys", "list").wants(t, 0, "acme", "active")
	asking.run("revoke", "--subject", "alice").wants(t, 0, "alice")
	if code := p.interrupt(); code != 0 {
		t.Errorf("dev ends with %d", code)
	}
}

func TestAdminAnswersOnlyToItsOwnNames(t *testing.T) {
	w := newWorld(t)
	port := freePort(t)
	p := w.start("serve", "--store", "s.db", "--listen-xds", "unix:"+w.xds(), "--listen-admin", fmt.Sprintf("127.0.0.1:%d", port), "--admin-host", "sluice.internal")
	p.await(0, "serving")
	for host, want := range map[string]int{"localhost": 200, "sluice.internal": 200, "evil.example": 421} {
		r, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d/livez", port), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("host %s: %d", host, resp.StatusCode)
		}
	}
}
