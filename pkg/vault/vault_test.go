package vault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey(t testing.TB) vault.Key {
	t.Helper()
	k, err := vault.ParseKey([]byte(vault.NewKeyText() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func set(t testing.TB, v *vault.Vault, name, value string) {
	t.Helper()
	if err := v.Set(t.Context(), name, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, v *vault.Vault, name, want string) {
	t.Helper()
	if got, err := v.Get(t.Context(), name); err != nil || string(got) != want {
		t.Errorf("%s: %v, as wanted %t", name, err, string(got) == want)
	}
}

func TestVault_KeepsSecrets(t *testing.T) {
	s := store.NewMemory(store.Options{})
	v := vault.New(s, newKey(t))
	set(t, v, "edge-key", "a value that nobody sees")
	expect(t, v, "edge-key", "a value that nobody sees")
	set(t, v, "edge-key", "another")
	expect(t, v, "edge-key", "another")
	r, err := s.Record(t.Context(), store.TableSecrets, "edge-key")
	if err != nil || bytes.Contains(r.Value, []byte("another")) {
		t.Errorf("what is stored: %v", err)
	}
	var export bytes.Buffer
	if err := store.Export(t.Context(), s, &export, store.ExportOptions{}); err != nil || strings.Contains(export.String(), "another") {
		t.Errorf("the export: %v", err)
	}
	list, err := v.List(t.Context())
	if err != nil || len(list) != 1 || !list[0].Current || list[0].Problem != "" || time.Since(list[0].Changed) > time.Minute {
		t.Errorf("list %+v, %v", list, err)
	}
	if err := v.Delete(t.Context(), "edge-key"); err != nil {
		t.Error(err)
	}
	for _, err := range []error{v.Delete(t.Context(), "edge-key"), second(v.Get(t.Context(), "edge-key")), second(v.Get(t.Context(), "\xff"))} {
		if !errors.Is(err, vault.ErrNoSecret) {
			t.Errorf("one that is gone: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestSet_Refuses(t *testing.T) {
	s := store.NewMemory(store.Options{})
	v := vault.New(s, newKey(t))
	for _, tt := range []struct {
		name, secret, value string
		vault               *vault.Vault
		want                error
	}{
		{"no name", "", "x", v, vault.ErrInvalid},
		{"a path", "a/b", "x", v, vault.ErrInvalid},
		{"capitals", "EDGE", "x", v, vault.ErrInvalid},
		{"no value", "a", "", v, vault.ErrInvalid},
		{"too large", "a", strings.Repeat("x", vault.MaxValue+1), v, vault.ErrInvalid},
		{"no key", "a", "x", vault.New(s), vault.ErrNoKeys},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.vault.Set(t.Context(), tt.secret, []byte(tt.value)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	set(t, v, "largest", strings.Repeat("x", vault.MaxValue))
}

func TestRotate(t *testing.T) {
	s := store.NewMemory(store.Options{})
	old, fresh, third := newKey(t), newKey(t), newKey(t)
	set(t, vault.New(s, old), "a", "1")
	set(t, vault.New(s, old), "b", "2")
	set(t, vault.New(s, third), "lost", "3")
	both := vault.New(s, fresh, old)
	expect(t, both, "a", "1")
	set(t, both, "c", "4")
	n, err := both.Rotate(t.Context())
	if n != 2 || !errors.Is(err, vault.ErrNoKey) || !strings.Contains(err.Error(), third.ID()) {
		t.Errorf("rotated %d, %v", n, err)
	}
	alone := vault.New(s, fresh)
	for name, want := range map[string]string{"a": "1", "b": "2", "c": "4"} {
		expect(t, alone, name, want)
	}
	if _, err := vault.New(s, old).Get(t.Context(), "a"); !errors.Is(err, vault.ErrNoKey) {
		t.Errorf("by the old key: %v", err)
	}
	if n, err := vault.New(s, fresh, third).Rotate(t.Context()); n != 1 || err != nil {
		t.Errorf("rotated %d, %v", n, err)
	}
	if _, err := vault.New(s).Rotate(t.Context()); !errors.Is(err, vault.ErrNoKeys) {
		t.Errorf("without a key: %v", err)
	}
}

// TestGet_Altered changes every part of what is stored, and puts it in another's place.
func TestGet_Altered(t *testing.T) {
	k := newKey(t)
	rapid.Check(t, func(r *rapid.T) {
		s := store.NewMemory(store.Options{})
		v := vault.New(s, k)
		if err := v.Set(r.Context(), "a", []byte("the value")); err != nil {
			r.Fatal(err)
		}
		good, err := s.Record(r.Context(), store.TableSecrets, "a")
		if err != nil {
			r.Fatal(err)
		}
		var parts map[string]any
		if err := json.Unmarshal(good.Value, &parts); err != nil {
			r.Fatal(err)
		}
		name := "a"
		if part := rapid.SampledFrom([]string{"key", "sealed", "name", "text"}).Draw(r, "part"); part == "name" {
			name = "b"
		} else if part == "text" {
			good.Value = rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(r, "text")
		} else {
			text := []byte(parts[part].(string))
			at := rapid.IntRange(0, len(text)-5).Draw(r, "at") // before the padding, where some bits mean nothing
			if text[at] = 'A'; parts[part] == string(text) {
				text[at] = 'B'
			}
			parts[part] = string(text)
			good.Value, _ = json.Marshal(parts)
		}
		was, _ := s.Record(r.Context(), store.TableSecrets, name)
		if _, err := s.WriteRecords(r.Context(), store.TableSecrets, store.RecordChange{Record: store.Record{Key: name, Value: good.Value, Version: was.Version}}); err != nil {
			r.Fatal(err)
		}
		if value, err := v.Get(r.Context(), name); !errors.Is(err, vault.ErrAltered) || value != nil {
			r.Errorf("%v", err)
		}
		if list, err := v.List(r.Context()); err != nil || list[len(list)-1].Problem == "" {
			r.Errorf("list %+v, %v", list, err)
		}
	})
}

func TestParseKey(t *testing.T) {
	raw := bytes.Repeat([]byte{7}, 32)
	for _, tt := range []struct {
		name string
		text []byte
		good bool
	}{
		{"32 bytes", raw, true},
		{"text", []byte(vault.NewKeyText()), true},
		{"text with ends of lines", []byte("\n" + vault.NewKeyText() + "\r\n"), true},
		{"nothing", nil, false},
		{"31 bytes", raw[1:], false},
		{"a text cut off", []byte(vault.NewKeyText()[:40]), false},
		{"another text", []byte("-----BEGIN PRIVATE KEY-----"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := vault.ParseKey(tt.text)
			if (err == nil) != tt.good || err != nil && !errors.Is(err, vault.ErrBadKey) {
				t.Errorf("got %v", err)
			}
			if shown := fmt.Sprintf("%v %+v %s", k, k, err); len(tt.text) > 8 && strings.Contains(shown, string(tt.text[:8])) {
				t.Errorf("it shows %s", shown)
			}
		})
	}
}

func TestWatch(t *testing.T) {
	v := vault.New(store.NewMemory(store.Options{}), newKey(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := v.Watch(ctx)
	for n := range 3 { // the first is told of what there is
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatal("nothing was told")
		}
		set(t, v, "a", fmt.Sprint(n))
	}
}
