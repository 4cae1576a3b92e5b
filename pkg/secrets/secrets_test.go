package secrets_test

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/secrets"
)

// patience is how long an expected event is waited for: far longer than it ever takes.
const patience = 20 * time.Second

func TestParsePair(t *testing.T) {
	root := issue(t, form{name: "root", ca: true}, nil)
	middle := issue(t, form{name: "middle", ca: true}, &root)
	leaf := issue(t, form{name: "api.example"}, &middle)
	other := issue(t, form{name: "other.example"}, &root)
	weak := issue(t, form{name: "weak", rsaBits: 1024}, &root)
	edwards := issue(t, form{name: "edwards", ed25519: true}, &root)
	small := issue(t, form{name: "small", curve: elliptic.P224()}, &root)
	nameless := issue(t, form{}, &root)
	tests := []struct {
		name              string
		certificate, key  []byte
		problem, warnings string
		chain             int
	}{
		{"alone", leaf.pem, leaf.key, "", "", 1},
		{"chain", join(leaf.pem, middle.pem), leaf.key, "", "", 2},
		{"key beside certificate", join(leaf.key, leaf.pem), join(leaf.pem, leaf.key), "", "", 1},
		{"SEC 1", leaf.pem, leaf.sec1, "", "", 1},
		{"wrong order", join(middle.pem, leaf.pem), leaf.key, "number 2 in its file", "", 0},
		{"chain without the middle", join(leaf.pem, root.pem), leaf.key, "", "did not sign", 2},
		{"names no host", nameless.pem, nameless.key, "", "names no host", 1},
		{"another key", leaf.pem, other.key, "not that of the certificate", "", 0},
		{"no certificate", leaf.key, leaf.key, "no certificate in PEM", "", 0},
		{"no key", leaf.pem, leaf.pem, "no private key in PEM", "", 0},
		{"nothing", nil, nil, "no certificate in PEM", "", 0},
		{"cut off", leaf.pem[:len(leaf.pem)/2], leaf.key, "no certificate in PEM", "", 0},
		{"encrypted", leaf.pem, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), "encrypted", "", 0},
		{"garbage key", leaf.pem, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "cannot be read", "", 0},
		{"RSA of 1024 bits", weak.pem, weak.key, "1024 bits", "", 0},
		{"ed25519", edwards.pem, edwards.key, "RSA and ECDSA only", "", 0},
		{"P-224", small.pem, small.key, "224 bits", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pair, err := secrets.ParsePair(tt.certificate, tt.key)
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("got %v, want %q", err, tt.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(pair.Chain) != tt.chain || !strings.Contains(strings.Join(pair.Warnings, ";"), tt.warnings) || (tt.warnings == "") != (len(pair.Warnings) == 0) {
				t.Errorf("chain of %d, warnings %q", len(pair.Chain), pair.Warnings)
			}
			if bytes.Contains(pair.CertificatePEM, []byte("PRIVATE KEY")) || bytes.Count(pair.KeyPEM, []byte("BEGIN")) != 1 {
				t.Error("the parts hold more than they should")
			}
		})
	}
}

func TestParseAuthorities(t *testing.T) {
	root := issue(t, form{name: "root", ca: true}, nil)
	leaf := issue(t, form{name: "leaf"}, &root)
	if list, err := secrets.ParseAuthorities(join(root.pem, root.pem)); err != nil || len(list) != 2 {
		t.Errorf("%d %v", len(list), err)
	}
	if _, err := secrets.ParseAuthorities(leaf.pem); err == nil || !strings.Contains(err.Error(), "not an authority") {
		t.Errorf("got %v", err)
	}
}

func FuzzParsePair(f *testing.F) {
	leaf := issue(f, form{name: "api.example"}, nil)
	f.Add(leaf.pem, leaf.key)
	f.Add(leaf.key, leaf.pem)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n"), []byte("-----BEGIN PRIVATE KEY-----\nDEK-Info: x\n\nAAAA\n-----END PRIVATE KEY-----"))
	f.Fuzz(func(t *testing.T, certificate, key []byte) {
		pair, err := secrets.ParsePair(certificate, key)
		if err != nil {
			if len(key) > 64 && strings.Contains(err.Error(), string(key[32:64])) {
				t.Error("the error holds a part of the key")
			}
			return
		}
		again, err := secrets.ParsePair(pair.CertificatePEM, pair.KeyPEM)
		if err != nil || !bytes.Equal(again.KeyPEM, pair.KeyPEM) || len(again.Chain) != len(pair.Chain) {
			t.Errorf("what was read is not read again: %v", err)
		}
		_, _ = secrets.ParseAuthorities(certificate)
	})
}

// files is a folder with a certificate and a source that follows it.
type files struct {
	t    *testing.T
	dir  string
	want model.Secret
	src  *secrets.Source
	log  *bytes.Buffer
}

func follow(t *testing.T, first issued) (*files, <-chan struct{}) {
	f := &files{t: t, dir: t.TempDir(), log: &bytes.Buffer{}}
	f.put(first)
	f.want = model.Secret{Name: "edge", Certificate: model.SecretPlace{File: f.dir + "/edge.crt"}, Key: model.SecretPlace{File: f.dir + "/edge.key"}}
	f.src = secrets.New(secrets.Config{Getenv: os.Getenv, Log: slog.New(slog.NewTextHandler(f.log, nil)), Every: time.Hour})
	f.src.Keep([]model.Secret{f.want})
	looked := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.src.Run(ctx, func() { looked <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-looked
	return f, looked
}

func (f *files) put(c issued) {
	f.t.Helper()
	for name, text := range map[string][]byte{"edge.crt": c.pem, "edge.key": c.key} {
		if err := os.WriteFile(filepath.Join(f.dir, name), text, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *files) await(looked <-chan struct{}, what string, holds func() bool) {
	f.t.Helper()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-looked:
		case <-deadline:
			f.t.Fatalf("never happened: %s", what)
		}
	}
}

func TestSource_FollowsRotations(t *testing.T) {
	one, two := issue(t, form{name: "one.example"}, nil), issue(t, form{name: "two.example"}, nil)
	f, looked := follow(t, one)
	if got := f.src.Status()[0]; got.Subject != "one.example" || got.Problem != "" || got.Expires.IsZero() {
		t.Fatalf("%+v", got)
	}
	before := f.src.Resource(f.want)
	f.put(two)
	f.await(looked, "the new one is read", func() bool { return f.src.Status()[0].Subject == "two.example" })
	m := &tlsv3.Secret{}
	if err := proto.Unmarshal(f.src.Resource(f.want), m); err != nil || bytes.Equal(before, f.src.Resource(f.want)) {
		t.Fatal(err)
	}
	if got := m.GetTlsCertificate().GetPrivateKey().GetInlineBytes(); !bytes.Equal(got, two.key) {
		t.Error("the key is not the new one")
	}
	if strings.Contains(f.log.String(), "PRIVATE") {
		t.Error("a key is in the log")
	}
}

func TestSource_KeepsTheLastGood(t *testing.T) {
	one := issue(t, form{name: "one.example"}, nil)
	f, looked := follow(t, one)
	good := f.src.Resource(f.want)
	if err := os.Remove(f.want.Key.File); err != nil {
		t.Fatal(err)
	}
	f.await(looked, "the problem is seen", func() bool { return f.src.Status()[0].Problem != "" })
	if !bytes.Equal(good, f.src.Resource(f.want)) {
		t.Error("the last good one is gone")
	}
	if body, _, err := f.src.Read(f.want); err == nil || !bytes.Equal(body, good) {
		t.Errorf("read: %v", err)
	}
	if got := gauge(t, f.src, "sluice_certificate_problem"); got != 1 {
		t.Errorf("sluice_certificate_problem is %v", got)
	}
	if got := gauge(t, f.src, "sluice_certificate_expiry_seconds"); got < 89*24*3600 || got > 90*24*3600 {
		t.Errorf("sluice_certificate_expiry_seconds is %v", got)
	}
	f.put(one)
	f.await(looked, "it is good again", func() bool { return f.src.Status()[0].Problem == "" })
}

func gauge(t *testing.T, c prometheus.Collector, name string) float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

func TestSource_Read(t *testing.T) {
	dir := t.TempDir()
	root := issue(t, form{name: "root", ca: true}, nil)
	late := issue(t, form{name: "late.example", after: -time.Hour}, &root)
	soon := issue(t, form{name: "soon.example", after: 24 * time.Hour}, &root)
	for name, text := range map[string][]byte{"late.crt": late.pem, "soon.crt": soon.pem, "root.pem": root.pem, "big": make([]byte, 2<<20)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "open.key"), soon.key, 0o644); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"LATE": string(late.key), "SOON": string(soon.key)}
	src := secrets.New(secrets.Config{Getenv: func(name string) string { return env[name] }, Log: slog.New(slog.DiscardHandler)})
	at := func(name string) model.SecretPlace { return model.SecretPlace{File: filepath.Join(dir, name)} }
	tests := []struct {
		name    string
		want    model.Secret
		problem string
		warning string
	}{
		{"authorities", model.Secret{Name: "ca", CA: at("root.pem")}, "", ""},
		{"expired", model.Secret{Name: "late", Certificate: at("late.crt"), Key: model.SecretPlace{Env: "LATE"}}, "", "expired on"},
		{"expires soon", model.Secret{Name: "soon", Certificate: at("soon.crt"), Key: model.SecretPlace{Env: "SOON"}}, "", "expires on"},
		{"open key", model.Secret{Name: "open", Certificate: at("soon.crt"), Key: at("open.key")}, "", "readable by everyone"},
		{"no variable", model.Secret{Name: "x", Certificate: at("soon.crt"), Key: model.SecretPlace{Env: "NONE"}}, "NONE is not set", ""},
		{"no file", model.Secret{Name: "x", CA: at("gone.pem")}, "gone.pem", ""},
		{"a folder", model.Secret{Name: "x", CA: model.SecretPlace{File: dir}}, "not a file", ""},
		{"large", model.Secret{Name: "x", CA: at("big")}, "larger than 1 MiB", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, warnings, err := src.Read(tt.want)
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) || body != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || body == nil {
				t.Fatal(err)
			}
			if tt.warning != "" && !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, tt.warning) }) {
				t.Errorf("warnings %q", warnings)
			}
			if tt.warning == "" && len(warnings) > 0 {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

// TestSource_FollowsAFoldersLink rotates as Kubernetes does: the files are links through one that is switched.
func TestSource_FollowsAFoldersLink(t *testing.T) {
	dir := t.TempDir()
	version := func(name string, c issued) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string][]byte{"edge.crt": c.pem, "edge.key": c.key} {
			if err := os.WriteFile(filepath.Join(dir, name, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(name, filepath.Join(dir, "data.new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "data.new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("v1", issue(t, form{name: "one.example"}, nil))
	for _, file := range []string{"edge.crt", "edge.key"} {
		if err := os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	src := secrets.New(secrets.Config{Getenv: os.Getenv, Log: slog.New(slog.DiscardHandler), Every: time.Hour})
	src.Keep([]model.Secret{{Name: "edge", Certificate: model.SecretPlace{File: dir + "/edge.crt"}, Key: model.SecretPlace{File: dir + "/edge.key"}}})
	looked := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx, func() { looked <- struct{}{} }) }()
	t.Cleanup(func() { cancel(); <-done })
	<-looked
	version("v2", issue(t, form{name: "two.example"}, nil))
	f := &files{t: t}
	f.await(looked, "the other folder is read", func() bool { return src.Status()[0].Subject == "two.example" })
}
