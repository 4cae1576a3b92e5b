package control

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/secrets"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/vault"
)

// writePair puts a new certificate and its key into dir, and gives the key.
func writePair(t *testing.T, dir string) (key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{"api.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, form, form, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for name, text := range map[string][]byte{"a.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), "a.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

// tlsSite is two gateways, of which one names a certificate.
func tlsSite(t *testing.T, dir string) []policy.Object {
	return []policy.Object{
		object(t, "apiVersion: sluice/v1\nkind: Certificate\nmetadata: {name: cert}\nspec: {certificate: {file: "+dir+"/a.crt}, key: {file: "+dir+"/a.key}}\n"),
		object(t, "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {listeners: [{name: https, port: 8443, tls: {certificate: cert}}]}\n"),
		object(t, "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: inner}\nspec: {listeners: [{name: http, port: 8080}]}\n"),
	}
}

func withSecrets(t *testing.T, s store.Store, log *slog.Logger) *Controller {
	c := newController(t, s)
	c.Secrets, c.Log = secrets.New(secrets.Config{Getenv: os.Getenv, Log: log}), log
	return c
}

func TestSecrets_OnlyGatewaysThatNameThemGetThem(t *testing.T) {
	dir := t.TempDir()
	key := writePair(t, dir)
	c := withSecrets(t, store.NewMemory(store.Options{}), slog.New(slog.DiscardHandler))
	b := apply(t, c, Request{Set: tlsSite(t, dir)}).Build
	if body := b.Snapshots["edge"].Table(resource.SecretType).Body("cert"); !bytes.Contains(body, key) {
		t.Error("the gateway that names it does not get it")
	}
	if n := b.Snapshots["inner"].Table(resource.SecretType).Len(); n != 0 {
		t.Errorf("another gateway gets %d", n)
	}
	for _, url := range b.Snapshots["edge"].Types() {
		for _, name := range b.Snapshots["edge"].Table(url).Names() {
			if url != resource.SecretType && bytes.Contains(b.Snapshots["edge"].Table(url).Body(name), []byte("PRIVATE KEY")) {
				t.Errorf("%s %s holds a key", url, name)
			}
		}
	}
}

func TestSecrets_ARotationPublishesTheSecretAlone(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir)
	c := withSecrets(t, store.NewMemory(store.Options{}), slog.New(slog.DiscardHandler))
	before := apply(t, c, Request{Set: tlsSite(t, dir)}).Build.Snapshots
	c.rotated()
	if c.Serving().Snapshots["edge"] != before["edge"] {
		t.Error("published although nothing changed")
	}
	key := writePair(t, dir)
	c.keepSecrets(c.Serving().Config) // reads, as following does
	c.rotated()
	after := c.Serving().Snapshots
	if !bytes.Contains(after["edge"].Table(resource.SecretType).Body("cert"), key) || after["inner"] != before["inner"] {
		t.Error("not the secret alone was published")
	}
	for _, url := range before["edge"].Types() {
		if url != resource.SecretType && after["edge"].Table(url) != before["edge"].Table(url) {
			t.Errorf("%s changed", url)
		}
	}
}

func TestSecrets_MissingOnesStopAnApplyButNotAStart(t *testing.T) {
	dir, kept := t.TempDir(), store.NewMemory(store.Options{})
	c := withSecrets(t, kept, slog.New(slog.DiscardHandler))
	_, err := c.Apply(context.Background(), Request{Set: tlsSite(t, dir)})
	var problems *Problems
	if !errors.As(err, &problems) || len(problems.List) != 1 || !strings.Contains(err.Error(), dir+"/a.crt") || problems.List[0].Line != 1 {
		t.Fatalf("error %v", err)
	}
	writePair(t, dir)
	apply(t, c, Request{Set: tlsSite(t, dir)})
	if err := os.Remove(dir + "/a.key"); err != nil {
		t.Fatal(err)
	}
	more := object(t, "apiVersion: sluice/v1\nkind: Policy\nmetadata: {name: p}\nspec: {timeout: 1s}\n")
	again := apply(t, c, Request{Set: []policy.Object{more}}) // what was read stays good
	if list := again.Build.Problems.List(); len(list) == 0 || list[0].Severity != policy.Warning || !strings.Contains(list[0].Message, "the last good one is served") {
		t.Errorf("problems %v", list)
	}
	var log bytes.Buffer
	fresh := withSecrets(t, kept, slog.New(slog.NewTextHandler(&log, nil)))
	if err := fresh.sync(context.Background()); err != nil || fresh.Ready() != nil {
		t.Fatalf("start: %v, ready %v", err, fresh.Ready())
	}
	if !strings.Contains(log.String(), "a.key") || fresh.Certificates()[0].Problem == "" {
		t.Errorf("nothing is said of it: %s", &log)
	}
	key := writePair(t, dir)
	fresh.keepSecrets(fresh.Serving().Config)
	fresh.rotated()
	if !bytes.Contains(fresh.Serving().Snapshots["edge"].Table(resource.SecretType).Body("cert"), key) {
		t.Error("it is not served once it is there")
	}
	if j, err := fresh.Why(context.Background(), policy.Ref{Kind: "Certificate", Name: "cert"}); err != nil || j.Certificate == nil || j.Certificate.Subject != "api.example" {
		t.Errorf("why: %+v %v", j, err)
	}
	if strings.Contains(log.String(), "PRIVATE") {
		t.Error("a key is in the log")
	}
}

func TestStoreSecrets_MissingOnesAreNamedWhereTheyStand(t *testing.T) {
	kept := store.NewMemory(store.Options{})
	key, err := vault.ParseKey([]byte(vault.NewKeyText()))
	if err != nil {
		t.Fatal(err)
	}
	safe := vault.New(kept, key)
	inVault := func(log *slog.Logger) *Controller {
		c := newController(t, kept)
		c.Secrets, c.StoreSecrets, c.Log = secrets.New(secrets.Config{Store: safe, Log: log}), safe, log
		return c
	}
	site := tlsSite(t, "/nowhere")
	for i := range site {
		site[i].Text = strings.NewReplacer("{file: /nowhere/a.crt}", "{secret: api}", "{file: /nowhere/a.key}", "{secret: api}").Replace(site[i].Text)
	}
	site = append(site, object(t, "apiVersion: sluice/v1\nkind: Issuer\nmetadata: {name: idp}\nspec:\n  issuer: https://idp.test\n  audiences: [a]\n  jwks: {secret: idp-keys}\n"))
	c := inVault(slog.New(slog.DiscardHandler))
	_, err = c.Apply(context.Background(), Request{Set: site})
	var problems *Problems
	if !errors.As(err, &problems) || len(problems.List) != 2 || !strings.Contains(err.Error(), `secret "api"`) || !strings.Contains(err.Error(), ":7:1: error: secret \"idp-keys\"") {
		t.Fatalf("error %v", err)
	}
	dir := t.TempDir()
	private := writePair(t, dir)
	pair := slices.Concat(read(t, dir+"/a.crt"), read(t, dir+"/a.key"))
	for name, value := range map[string][]byte{"api": pair, "idp-keys": []byte("{}")} {
		if err := safe.Set(t.Context(), name, value); err != nil {
			t.Fatal(err)
		}
	}
	b := apply(t, c, Request{Set: site}).Build
	if body := b.Snapshots["edge"].Table(resource.SecretType).Body("cert"); !bytes.Contains(body, private) {
		t.Error("the certificate is not served")
	}
	if err := safe.Delete(t.Context(), "api"); err != nil {
		t.Fatal(err)
	}
	more := object(t, "apiVersion: sluice/v1\nkind: Policy\nmetadata: {name: p}\nspec: {timeout: 1s}\n")
	again := apply(t, c, Request{Set: []policy.Object{more}}) // what is gone holds up nothing else
	if list := again.Build.Problems.List(); len(list) != 1 || list[0].Severity != policy.Warning || !strings.Contains(list[0].Message, "no such secret") {
		t.Errorf("problems %v", list)
	}
	var log bytes.Buffer
	fresh := inVault(slog.New(slog.NewTextHandler(&log, nil)))
	if err := fresh.sync(context.Background()); err != nil || !strings.Contains(log.String(), "no such secret") {
		t.Errorf("start: %v, log %s", err, &log)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
