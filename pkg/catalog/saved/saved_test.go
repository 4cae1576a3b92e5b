package saved_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sluice-gateway/sluice/pkg/catalog"
	"github.com/sluice-gateway/sluice/pkg/catalog/saved"
)

func services() []catalog.Service {
	return []catalog.Service{{
		Key:       catalog.Key{Service: "orders", Tags: catalog.TagsOf("v2", "eu")},
		Instances: []catalog.Instance{{ID: "n/1", Address: "10.0.0.1", Port: 80, Weight: 1, Health: catalog.Passing, Meta: map[string]string{"a": "<&>\u2028"}}},
		OptIn:     &catalog.OptIn{Service: "orders", Template: "team", Path: "/orders"},
		Answered:  time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
	}}
}

func TestFile_GivesBackWhatWasSaved(t *testing.T) {
	f := saved.NewFile(filepath.Join(t.TempDir(), "services.json"))
	if got, err := f.Load(); got != nil || err != nil {
		t.Fatalf("before the first save: %v, %v", got, err)
	}
	for range 2 {
		if err := f.Save(services()); err != nil {
			t.Fatal(err)
		}
		got, err := f.Load()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(services(), got); d != "" {
			t.Error(d)
		}
	}
}

func TestFile_RefusesEveryDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "services.json")
	f := saved.NewFile(path)
	if err := f.Save(services()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		for name, damaged := range map[string][]byte{"cut": whole[:n], "flipped": append(append([]byte{}, whole[:n]...), append([]byte{whole[n] ^ 1}, whole[n+1:]...)...)} {
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := f.Load()
			if err == nil && cmp.Diff(services(), got) != "" {
				t.Fatalf("%s at %d: loaded something else: %v", name, n, got)
			}
		}
	}
}

func TestFile_LeavesNothingBehindWhenItCannotSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "taken")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := saved.NewFile(path).Save(services()); err == nil {
		t.Fatal("saved over a folder")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
