package admin_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/credentials"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/revocation"
	"github.com/sluice-gateway/sluice/pkg/store"
)

func keeps(c *admin.Config) {
	c.Keeper = credentials.New(credentials.Config{Records: store.NewMemory(store.Options{}), Log: slog.New(slog.DiscardHandler)})
}

func TestKeys_FromCreateToDelete(t *testing.T) {
	ctx, g := context.Background(), newGuarded(t, keeps)
	c := g.as(t, "secrets")
	made, err := c.CreateKey(ctx, admin.NewKeyRequest{Owner: "acme", Plan: "gold", Scopes: []string{"read"}, Expires: policy.Duration(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := apikey.Parse(made.Secret); err != nil || made.State != "active" || made.By != "token secrets" {
		t.Fatalf("%+v", made)
	}
	again, err := c.RotateKey(ctx, admin.RotateKeyRequest{ID: made.ID, Grace: policy.Duration(time.Hour)})
	if err != nil || again.Secret == made.Secret || again.State != "rotating" || len(again.Secrets) != 2 {
		t.Fatalf("%+v %v", again, err)
	}
	for _, step := range []struct{ what, state string }{{"disable", "disabled"}, {"enable", "rotating"}} {
		if r, err := c.ChangeKey(ctx, step.what, made.ID); err != nil || r.Key.State != step.state {
			t.Errorf("%s: %+v %v", step.what, r, err)
		}
	}
	if all, err := c.Keys(ctx, "acme"); err != nil || len(all.Keys) != 1 {
		t.Errorf("%+v %v", all, err)
	}
	if none, err := c.Keys(ctx, "other"); err != nil || len(none.Keys) != 0 {
		t.Errorf("%+v %v", none, err)
	}
	if _, err := c.ChangeKey(ctx, "delete", made.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.Key(ctx, made.ID); codeOf(err) != admin.CodeNotFound {
		t.Error(err)
	}
	if _, err := c.RotateKey(ctx, admin.RotateKeyRequest{ID: made.ID}); codeOf(err) != admin.CodeNotFound {
		t.Error(err)
	}
	if _, err := c.CreateKey(ctx, admin.NewKeyRequest{}); codeOf(err) != admin.CodeBadRequest {
		t.Error(err)
	}
}

func TestRevocations_FromRevokeToUndo(t *testing.T) {
	ctx, g := context.Background(), newGuarded(t, keeps)
	c := g.as(t, "secrets")
	made, err := c.Revoke(ctx, admin.RevokeRequest{Kind: revocation.Subject, Value: "alice", For: policy.Duration(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := c.Revocations(ctx); err != nil || len(all.Revocations) != 1 {
		t.Errorf("%+v %v", all, err)
	}
	if _, err := c.UndoRevocation(ctx, made.Revocation.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.UndoRevocation(ctx, made.Revocation.ID); codeOf(err) != admin.CodeNotFound {
		t.Error(err)
	}
	if _, err := c.Revoke(ctx, admin.RevokeRequest{Kind: "everything", Value: "x"}); codeOf(err) != admin.CodeBadRequest {
		t.Error(err)
	}
}

func TestKeys_AreNowhereInTheAuditLogAndOnlyForWhoMay(t *testing.T) {
	ctx, g := context.Background(), newGuarded(t, keeps)
	c := g.as(t, "secrets")
	made, err := c.CreateKey(ctx, admin.NewKeyRequest{Owner: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	token := "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln"
	for _, attempt := range []func() error{
		func() error { _, err := c.CreateKey(ctx, admin.NewKeyRequest{Owner: made.Secret}); return err },
		func() error { _, err := c.ChangeKey(ctx, "disable", made.Secret); return err },
		func() error { _, err := c.RotateKey(ctx, admin.RotateKeyRequest{ID: made.Secret}); return err },
		func() error {
			_, err := c.Revoke(ctx, admin.RevokeRequest{Kind: revocation.Key, Value: made.Secret})
			return err
		},
		func() error {
			_, err := c.Revoke(ctx, admin.RevokeRequest{Kind: revocation.Token, Value: token})
			return err
		},
		func() error { _, err := c.UndoRevocation(ctx, made.Secret); return err },
	} {
		if err := attempt(); err == nil {
			t.Error("a secret was taken in the place of a name")
		}
	}
	text, err := os.ReadFile(g.audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{made.Secret, made.Secret[4:], token} {
		if strings.Contains(string(text), secret) {
			t.Error("the audit log has a secret")
		}
	}
	if !strings.Contains(string(text), "owner acme") {
		t.Error("the audit log does not say whose key was made")
	}
	for _, who := range []string{"read", "apply"} {
		c := g.as(t, who)
		if _, err := c.CreateKey(ctx, admin.NewKeyRequest{Owner: "acme"}); codeOf(err) != admin.CodeForbidden {
			t.Errorf("%s: %v", who, err)
		}
		if _, err := c.Revoke(ctx, admin.RevokeRequest{Kind: revocation.Subject, Value: "a"}); codeOf(err) != admin.CodeForbidden {
			t.Errorf("%s: %v", who, err)
		}
		if _, err := c.Keys(ctx, ""); codeOf(err) != admin.CodeForbidden {
			t.Errorf("%s: %v", who, err)
		}
	}
}
