package gateway

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/sluice-gateway/sluice/envoy"
	"github.com/sluice-gateway/sluice/integration/ca"
	"github.com/sluice-gateway/sluice/pkg/certs"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// Door has the control plane, the Envoy and the agent prove themselves to each other, with certificates from files of a
// folder of its own, which a test may put others into.
type Door struct {
	// Folder is the authority's, Dir that of everybody's files: ca.crt, ca.crl, server.crt, test.crt and their keys.
	Folder certs.Folder
	Dir    string
	// Log takes what the control plane logs of it.
	Log *Buffer

	t testing.TB
}

// NewDoor makes an authority and certificates that are good for an hour.
func NewDoor(t testing.TB) *Door {
	t.Helper()
	d := &Door{t: t, Dir: t.TempDir(), Log: &Buffer{}}
	d.NewAuthority("one")
	d.Trust()
	d.Issue("server", time.Hour)
	d.Issue("test", time.Hour)
	return d
}

// Behind lets nobody in but through a door.
func Behind(d *Door) Option { return func(o *options) { o.door = d } }

func (d *Door) path(name string) string { return filepath.Join(d.Dir, name) }

// NewAuthority signs with a new authority from now on; who trusts it is another question.
func (d *Door) NewAuthority(name string) {
	d.t.Helper()
	d.Folder = certs.Folder(d.path("authority-" + name))
	if _, err := d.Folder.Init(name, 24*time.Hour); err != nil {
		d.t.Fatal(err)
	}
}

// Trust makes the authorities that everybody trusts those of the folders, or that of the present one when none is named.
func (d *Door) Trust(folders ...certs.Folder) {
	d.t.Helper()
	if len(folders) == 0 {
		folders = []certs.Folder{d.Folder}
	}
	for _, name := range []string{certs.AuthorityFile, certs.RevocationsFile} {
		var text []byte
		for _, f := range folders {
			part, err := os.ReadFile(filepath.Join(string(f), name))
			if err != nil {
				d.t.Fatal(err)
			}
			text = append(text, part...)
		}
		ca.Write(d.t, d.path(name), text)
	}
}

// Issue puts a new certificate in place: the server's, or that of a node of the gateway edge, by its name.
func (d *Door) Issue(name string, lifetime time.Duration) certs.Pair {
	d.t.Helper()
	r := certs.Request{Node: &certs.Node{Gateway: "edge", Node: name}, Lifetime: lifetime}
	if name == "server" {
		r.Node, r.Hosts = nil, []string{"127.0.0.1"}
	}
	pair, err := d.Folder.Issue(r)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := pair.Write(d.path(name), true); err != nil {
		d.t.Fatal(err)
	}
	return pair
}

// Revoke takes a certificate back.
func (d *Door) Revoke(p certs.Pair) {
	d.t.Helper()
	if err := d.Folder.Revoke(p.Certificate.SerialNumber); err != nil {
		d.t.Fatal(err)
	}
	d.Trust()
}

func (d *Door) open(name, own string) *certs.Credentials {
	d.t.Helper()
	files := certs.Files{Certificate: d.path(own + ".crt"), Key: d.path(own + ".key"), CA: d.path(certs.AuthorityFile)}
	if own == "server" {
		files.CRL = d.path(certs.RevocationsFile)
	}
	c, err := certs.Open(name, files, slog.New(slog.NewTextHandler(d.Log, nil)))
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// server is the control plane's side; a nil door secures nothing.
func (d *Door) server() xds.Config {
	if d == nil {
		return xds.Config{}
	}
	return xds.Config{
		Credentials: d.open("xds", "server"), CheckEvery: 100 * time.Millisecond, Log: slog.New(slog.NewTextHandler(d.Log, nil)),
	}
}

// envoy is Envoy's side.
func (d *Door) envoy() envoy.TLS {
	if d == nil {
		return envoy.TLS{}
	}
	out := envoy.TLS{CA: d.path(certs.AuthorityFile), Certificate: d.path("test.crt"), Key: d.path("test.key"), SecretsDir: d.Dir}
	files, err := out.Secrets()
	if err != nil {
		d.t.Fatal(err)
	}
	for name, text := range files {
		ca.Write(d.t, name, text)
	}
	return out
}

// agent is the agent's side.
func (d *Door) agent() func() credentials.TransportCredentials {
	if d == nil {
		return nil
	}
	known := d.open("control-plane", "test")
	return func() credentials.TransportCredentials { return credentials.NewTLS(known.ClientConfig("")) }
}
