package retry

import (
	"encoding/json"
	"testing"
)

func FuzzCondition(f *testing.F) {
	for _, seed := range []string{"5xx", "connectFailure", "503", "99", "600", "", "0503"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c, again Condition
		if c.UnmarshalText([]byte(text)) != nil {
			return
		}
		if name, statuses := conditions([]Condition{c}); name == "" || (c.status() != 0) != (len(statuses) == 1) {
			t.Fatalf("%q became %q and %v", text, name, statuses)
		}
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(written, &again); err != nil || again != c {
			t.Fatalf("%q was written as %s, which reads as %q: %v", text, written, again, err)
		}
	})
}
