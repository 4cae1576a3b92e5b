package store_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

// site is the export of a small site with some history, one that was cut when keep is small.
func site(t testing.TB, keep int) string {
	t.Helper()
	m := store.NewMemory(store.Options{Keep: keep})
	a, b := storetest.Object("a", 1), storetest.Object("b", 1)
	for n, c := range []store.Change{{Set: []policy.Object{a, b}}, {Set: []policy.Object{storetest.Object("a", 2)}}, {Delete: []policy.Ref{b.Ref}}} {
		c.Base = uint64(n)
		if _, err := m.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	var text bytes.Buffer
	if err := store.Export(t.Context(), m, &text, store.ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestImportRefuses(t *testing.T) {
	whole := site(t, 2)
	lines := strings.SplitAfter(whole, "\n")
	without := func(n int) string { return strings.Join(lines[:n], "") + strings.Join(lines[n+1:], "") }
	for _, test := range []struct {
		name, text string
		want       error
		says       string
	}{
		{"nothing", "", store.ErrBadExport, "end line is missing"},
		{"something else", "kind: Route\n", store.ErrBadExport, "line 1"},
		{"other JSON", `{"object":{"kind":"Route","name":"x","text":"","file":"","line":1}}`, store.ErrBadExport, "header"},
		{"a newer format", `{"export":{"format":3,"shape":"other"}}` + "\n" + `{"whatever":1}`, store.ErrNewerExport, "format 3"},
		{"a format that never was", `{"export":{"format":0,"floor":0,"head":0}}`, store.ErrBadExport, "header"},
		{"the header twice", lines[0] + whole, store.ErrBadExport, "line 2"},
		{"the end is missing", strings.Join(lines[:len(lines)-2], ""), store.ErrBadExport, "cut short"},
		{"the last byte but one is missing", whole[:len(whole)-2], store.ErrBadExport, ""},
		{"an object is missing", without(1), store.ErrBadExport, "not those of revision 2"},
		{"a revision is missing", without(3), store.ErrBadExport, ""},
		{"who did it was altered", strings.Replace(whole, `"parent":1`, `"parent":1,"who":"eve"`, 1), store.ErrBadExport, "altered"},
		{"a text was altered", strings.Replace(whole, "version: 2", "version: 3", 1), store.ErrBadExport, "not those of revision"},
		{"something follows", whole + lines[1], store.ErrBadExport, "follows the end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := store.NewMemory(store.Options{})
			_, err := store.Import(t.Context(), m, strings.NewReader(test.text), store.ImportOptions{})
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want %v, saying %q", err, test.want, test.says)
			}
			if head, _, _ := m.Head(t.Context()); head.Number != 0 {
				t.Errorf("head %d: something was imported", head.Number)
			}
		})
	}
}

// TestImportEveryCut takes every beginning of an export but the whole: none may be taken for one.
func TestImportEveryCut(t *testing.T) {
	for _, keep := range []int{2, 10} {
		whole := site(t, keep)
		for n := range len(whole) - 1 { // the last byte is the end of the line
			if _, err := store.ReadArchive(strings.NewReader(whole[:n])); !errors.Is(err, store.ErrBadExport) {
				t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
			}
		}
	}
}

func FuzzReadArchive(f *testing.F) {
	f.Add(site(f, 2))
	f.Add(site(f, 10))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := store.ReadArchive(strings.NewReader(text))
		if err != nil {
			return
		}
		m := store.NewMemory(store.Options{})
		if err := m.Restore(t.Context(), a, false); err != nil {
			t.Fatalf("what was read cannot be restored: %v", err)
		}
		for _, rev := range a.Revisions() {
			if _, _, err := m.At(t.Context(), rev.Number); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestBetween(t *testing.T) {
	a, b, c := storetest.Object("a", 1), storetest.Object("b", 1), storetest.Object("c", 1)
	newer := storetest.Object("b", 2)
	set, remove := store.Between([]policy.Object{a, newer, c}, []policy.Object{a, b})
	if d := cmp.Diff([]policy.Object{b}, set); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]policy.Ref{c.Ref}, remove); d != "" {
		t.Error(d)
	}
}
