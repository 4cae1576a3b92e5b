package xds

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRefusedNames(t *testing.T) {
	tests := []struct {
		name    string
		sent    []string
		removed string
		message string
		want    []string
	}{
		{"one named", []string{"a", "b"}, "", "Error adding/updating cluster(s) b: no", []string{"b"}},
		{"none named", []string{"a", "b"}, "", "missing ): (x", []string{"a", "b"}},
		{"inside a longer one", []string{"edge", "edge-http", "edge.v2"}, "", "listener(s) edge-http: x, edge.v2: y", []string{"edge-http", "edge.v2"}},
		{"inside a word", []string{"a", "error"}, "", "Error adding error: a", []string{"a", "error"}},
		{"only as part", []string{"us"}, "", "status: bus.us-east x.us", []string{"us"}},
		{"with a path", []string{"orders", "orders/1f"}, "", "cluster(s) orders/1f: no", []string{"orders/1f"}},
		{"at the end of a sentence", []string{"a", "b"}, "", "cannot take b.", []string{"b"}},
		{"removed ones are not refused", []string{"a"}, "b", "b: no", []string{"a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			versions := map[string]string{}
			for _, name := range tt.sent {
				versions[name] = "1"
			}
			if tt.removed != "" {
				versions[tt.removed] = ""
			}
			got := refusedNames(versions, tt.message)
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadableReason(t *testing.T) {
	tests := []struct{ name, message, want string }{
		{"junk first", "goo.gle/debugonly xyz\nError adding listener\n  bad port \n", "Error adding listener bad port"},
		{"repeated", "a: no\na: no", "a: no"},
		{"only junk", "goo.gle/debugonly", "goo.gle/debugonly"},
		{"empty", "", "no reason given"},
		{"cut within a letter", strings.Repeat("a", longestReason-1) + "é", strings.Repeat("a", longestReason-1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := readableReason(tt.message); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzRefusedNames(f *testing.F) {
	f.Add("a", "ab", "ab: no")
	f.Add("", "\xff", "\xff")
	f.Fuzz(func(t *testing.T, a, b, message string) {
		got := refusedNames(map[string]string{a: "1", b: "2"}, message)
		if len(got) == 0 {
			t.Error("nothing is refused")
		}
		_ = readableReason(message)
	})
}
