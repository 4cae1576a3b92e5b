package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecrets goes through what docs/tasks/secrets.md tells: a key, a secret, its use, another key, and a lost one.
func TestSecrets(t *testing.T) {
	const value = `{"keys": []}`
	w := newWorld(t).withEnvoy()
	w.run("secrets", "init-key", "one.key").wants(t, 0, "--secrets-key one.key")
	w.run("secrets", "init-key", "one.key").wants(t, 1, "not replaced")
	w.run("secrets", "init-key", "two.key").wants(t, 0)
	if info, err := os.Stat(filepath.Join(w.dir, "one.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", info.Mode(), err)
	}
	w.write("p/a.yaml", "apiVersion: sluice/v1\nkind: Issuer\nmetadata: {name: idp}\nspec: {issuer: https://idp.test, audiences: [a], jwks: {secret: idp-keys}}\n")

	asked, server := w.serve()
	asked.run("secrets").wants(t, 0, "there are no secrets")
	asked.runIn(value, "secrets", "set", "idp-keys").wants(t, 1, "init-key", "--secrets-key")
	server.interrupt()

	asked, server = w.serve("--secrets-key", "one.key")
	asked.run("apply", "-f", "p").wants(t, 1, "a.yaml:4:", `secret "idp-keys"`, "sluice secrets set")
	asked.runIn(value, "secrets", "set", "idp-keys").wants(t, 0, "secret idp-keys is set")
	asked.runIn(value, "secrets", "set", "Idp").wants(t, 1, "not a name")
	asked.runIn("", "secrets", "set", "idp-keys").wants(t, 1, "no value")
	asked.run("secrets", "set", "idp-keys", "--file", "nowhere").wants(t, 1, "nowhere")
	asked.run("apply", "-f", "p").wants(t, 0, "revision 1")
	asked.runIn(`{"keys": [{}]}`, "secrets", "set", "idp-keys").wants(t, 0, "Issuer/idp takes it now")
	asked.run("secrets", "list").wants(t, 0, "idp-keys", "Issuer/idp")
	asked.run("secrets", "delete", "idp-keys").wants(t, 1, "in use", "Issuer/idp", "--force")
	for _, shown := range []result{asked.run("get", "issuer/idp"), asked.run("secrets", "-o", "json"), asked.run("export"), asked.run("why", "issuer/idp")} {
		if strings.Contains(shown.stdout, `"keys"`) {
			t.Errorf("the value is shown: %s", shown.stdout)
		}
	}
	server.interrupt()

	asked, server = w.serve("--secrets-key", "two.key", "--secrets-key", "one.key")
	asked.run("secrets").wants(t, 0, "under an old key")
	asked.run("secrets", "rotate-key").wants(t, 0, "1 secret put")
	asked.run("secrets", "rotate-key").wants(t, 0, "0 secrets put")
	server.interrupt()

	asked, server = w.with("SLUICE_SECRETS_KEY=one.key").serve()
	asked.run("secrets").wants(t, 0, "this server has not the key")
	asked.run("secrets", "rotate-key").wants(t, 1, "this server has not the key")
	asked.run("secrets", "delete", "idp-keys", "--force").wants(t, 0, "deleted")
	asked.run("secrets", "delete", "idp-keys", "--force").wants(t, 1, "no such secret")
	server.interrupt()
}

func TestSecrets_BadKeys(t *testing.T) {
	w := newWorld(t)
	w.write("short", "slmk_AAAA")
	w.write("other", "-----BEGIN PRIVATE KEY-----")
	w.run("secrets", "init-key", "open").wants(t, 0)
	w.run("secrets", "init-key", "nowhere/key").wants(t, 1, "nowhere/key")
	for name, mode := range map[string]os.FileMode{"short": 0o600, "other": 0o600, "open": 0o644} {
		if err := os.Chmod(filepath.Join(w.dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ place, says string }{
		{"short", "no key"}, {"other", "no key"}, {"open", "chmod 600"}, {"missing", "init-key"}, {"env:NOT_SET", "NOT_SET is not set"},
	} {
		w.run("serve", "--store", "s.db", "--secrets-key", tt.place).wants(t, 1, "--secrets-key", tt.says)
	}
	for _, place := range []string{"slmk_value", "env:slmk_value", "file:slmk_value"} {
		shown := w.run("serve", "--store", "s.db", "--secrets-key", place)
		shown.wants(t, 1, "a key itself stands there")
		if strings.Contains(shown.stderr, "slmk_value") {
			t.Errorf("the key is shown: %s", shown.stderr)
		}
	}
}
