package agent

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

// TestDisk_HoldsWhatIsHeldWheneverItIsRead: also when the process has ended in the middle of a write.
func TestDisk_HoldsWhatIsHeldWheneverItIsRead(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(folder, "")
		if err != nil {
			t.Fatal(err)
		}
		d := &disk{file: filepath.Join(dir, "copy")}
		held, before := map[key]Resource{}, map[key]Resource{}
		change := func() {
			before = maps.Clone(held)
			var lines []line
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				r := Resource{Type: feature.DataType, Name: strconv.Itoa(rapid.IntRange(0, 20).Draw(t, "name"))}
				l := line{Resource: r, Removed: rapid.Bool().Draw(t, "removed")}
				if !l.Removed {
					l.Body, l.Version = rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "body"), "1"
				}
				put(held, l)
				lines = append(lines, l)
			}
			if err := d.write(lines, held); err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"change": func(*rapid.T) { change() },
			"restart": func(t *rapid.T) {
				d = &disk{file: d.file}
				got, err := d.read()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(held, got, cmpopts.EquateEmpty(), cmp.AllowUnexported(key{})); diff != "" {
					t.Fatal(diff)
				}
			},
			"crash": func(t *rapid.T) {
				if len(held) == 0 || !d.good {
					t.Skip("nothing is written")
				}
				change()
				text, err := os.ReadFile(d.file)
				if err != nil {
					t.Fatal(err)
				}
				last := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
				if err := os.WriteFile(d.file, text[:last+rapid.IntRange(0, len(text)-last-1).Draw(t, "cut")], 0o600); err != nil {
					t.Fatal(err)
				}
				d = &disk{file: d.file}
				if _, err := d.read(); err != nil {
					t.Fatal(err)
				}
				held = before
				if err := d.rewrite(held); err != nil { // the control plane sends again what was not acknowledged
					t.Fatal(err)
				}
			},
		})
	})
}

func TestDisk_AChangeIsAppendedAndTheFileDoesNotGrowForEver(t *testing.T) {
	d := &disk{file: filepath.Join(t.TempDir(), "copy")}
	held := map[key]Resource{}
	size := func() int64 {
		info, err := os.Stat(d.file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for i := range 100 {
		r := Resource{Type: feature.DataType, Name: strconv.Itoa(i), Body: make([]byte, 10_000)}
		held[r.key()] = r
	}
	if err := d.write(nil, held); err != nil {
		t.Fatal(err)
	}
	whole := size()
	for i := range 450 {
		r := Resource{Type: feature.DataType, Name: "1", Version: strconv.Itoa(i), Body: make([]byte, 10_000)}
		held[r.key()] = r
		was := size()
		if err := d.write([]line{{Resource: r}}, held); err != nil {
			t.Fatal(err)
		}
		if i == 0 && size()-was > 20_000 {
			t.Errorf("a change of 10,000 bytes writes %d", size()-was)
		}
	}
	if size() > whole+5<<20 {
		t.Errorf("%d bytes for %d", size(), whole)
	}
	if info, _ := os.Stat(d.file); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
}

func TestDisk_DamageIsAnError(t *testing.T) {
	d := &disk{file: filepath.Join(t.TempDir(), "copy")}
	held := map[key]Resource{}
	for _, name := range []string{"a", "b", "c"} {
		r := Resource{Type: feature.DataType, Name: name, Body: []byte("body")}
		held[r.key()] = r
	}
	if err := d.write(nil, held); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{
		strings.Replace(string(text), "Data", "Date", 1), strings.Replace(string(text), "\n", "\n\n", 1), string(text[1:]), string(text) + "x\n", "sluice-agent 1 abc\n[]",
	} {
		if err := os.WriteFile(d.file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := d.read(); err == nil {
			t.Errorf("%q was taken: %v", damaged, got)
		}
	}
}
