package all_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/feature/all"
)

// A block's canonical JSON is its digest, and what an agent decodes: nothing may get lost in it.
func TestBlocks_KeepTheirDefaultsInJSON(t *testing.T) {
	for _, f := range all.Features().All() {
		written, err := json.Marshal(f.New())
		if err != nil {
			t.Fatalf("%s: %v", f.Info().Name, err)
		}
		read := f.New()
		if err := json.Unmarshal(written, read); err != nil {
			t.Fatalf("%s: %v in %s", f.Info().Name, err, written)
		}
		again, err := json.Marshal(read)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(written), string(again)); diff != "" {
			t.Errorf("%s (-written +read):\n%s", f.Info().Name, diff)
		}
	}
}
