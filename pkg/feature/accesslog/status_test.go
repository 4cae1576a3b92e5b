package accesslog_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/pkg/feature/accesslog"
)

func FuzzStatus(f *testing.F) {
	for _, seed := range []string{"404", ">=400", "<= 299", "!=200", "", ">=", "4044", "099", ">=+40", " 500 "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var first, second accesslog.Status
		if first.UnmarshalText([]byte(text)) != nil {
			return
		}
		if first.Value < 100 || first.Value > 599 {
			t.Fatalf("%q gives %d", text, first.Value)
		}
		written, err := first.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := second.UnmarshalText(written); err != nil || second != first {
			t.Fatalf("%q becomes %q, which reads as %+v: %v", text, written, second, err)
		}
	})
}
