package admin_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/vault"
)

const namesASecret = `apiVersion: sluice/v1
kind: Issuer
metadata: {name: idp}
spec: {issuer: https://idp.test, audiences: [a], jwks: {secret: idp-keys}}
`

func refusedAs(t *testing.T, err error, want admin.Code) {
	t.Helper()
	if refused, ok := errors.AsType[*admin.Error](err); !ok || refused.Code != want {
		t.Errorf("refused as %v, want %s", err, want)
	}
}

// TestSecrets goes through the life of a secret, and looks for its value wherever it could show.
func TestSecrets(t *testing.T) {
	const value = "a-value-that-shows-nowhere"
	var log bytes.Buffer
	g := newGuarded(t, func(c *admin.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	ctx, keeper, author := context.Background(), g.as(t, "secrets"), g.as(t, "apply")

	_, err := author.Apply(ctx, admin.ApplyRequest{Request: control.Request{Set: objects(t, namesASecret), Source: "test"}})
	refusedAs(t, err, admin.CodeProblems)
	_, err = author.SetSecret(ctx, admin.SetSecretRequest{Name: "idp-keys", Value: []byte(value)})
	refusedAs(t, err, admin.CodeForbidden)
	for _, bad := range []admin.SetSecretRequest{{Name: "", Value: []byte(value)}, {Name: value + "/", Value: []byte(value)}, {Name: "a"}} {
		_, err = keeper.SetSecret(ctx, bad)
		refusedAs(t, err, admin.CodeBadRequest)
	}
	for range 2 {
		if _, err := keeper.SetSecret(ctx, admin.SetSecretRequest{Name: "idp-keys", Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := author.Apply(ctx, admin.ApplyRequest{Request: control.Request{Set: objects(t, namesASecret), Source: "test"}}); err != nil {
		t.Fatal(err)
	}
	list, err := g.as(t, "read").Secrets(ctx)
	if err != nil || len(list.Secrets) != 1 || !list.Secrets[0].Current || list.Secrets[0].Problem != "" ||
		len(list.Secrets[0].UsedBy) != 1 || list.Secrets[0].UsedBy[0] != (policy.Ref{Kind: "Issuer", Name: "idp"}) {
		t.Errorf("list %+v, %v", list, err)
	}
	var export bytes.Buffer
	refusedAs(t, g.as(t, "read").Export(ctx, false, &export), admin.CodeForbidden)
	if err := keeper.Export(ctx, false, &export); err != nil || !strings.Contains(export.String(), `"table":"secrets"`) {
		t.Errorf("export: %v", err)
	}
	if n, err := keeper.RotateSecrets(ctx); err != nil || n.Rotated != 0 {
		t.Errorf("rotated %+v, %v", n, err)
	}
	_, err = keeper.DeleteSecret(ctx, admin.DeleteSecretRequest{Name: "idp-keys"})
	refusedAs(t, err, admin.CodeInUse)
	_, err = author.DeleteSecret(ctx, admin.DeleteSecretRequest{Name: "idp-keys", Force: true})
	refusedAs(t, err, admin.CodeForbidden)
	if _, err := keeper.DeleteSecret(ctx, admin.DeleteSecretRequest{Name: "idp-keys", Force: true}); err != nil {
		t.Error(err)
	}
	_, err = keeper.DeleteSecret(ctx, admin.DeleteSecretRequest{Name: "idp-keys", Force: true})
	refusedAs(t, err, admin.CodeNotFound)

	audit, err := os.ReadFile(g.audit)
	if err != nil || !strings.Contains(string(audit), `"setSecret","object":"idp-keys"`) {
		t.Errorf("the audit log does not tell of it: %s %v", audit, err)
	}
	for name, text := range map[string]string{"the log": log.String(), "the audit log": string(audit), "the export": export.String()} {
		if strings.Contains(text, value) {
			t.Errorf("%s shows the value:\n%s", name, text)
		}
	}
}

func TestSecrets_NoKey(t *testing.T) {
	s := newSite(t, func(c *admin.Config) { c.Vault = vault.New(c.Store) })
	_, err := s.client.SetSecret(context.Background(), admin.SetSecretRequest{Name: "a", Value: []byte("x")})
	refusedAs(t, err, admin.CodeNoKey)
	_, err = s.client.RotateSecrets(context.Background())
	refusedAs(t, err, admin.CodeNoKey)
	if list, err := s.client.Secrets(context.Background()); err != nil || len(list.Secrets) != 0 {
		t.Errorf("list %+v, %v", list, err)
	}
}
