package bolt

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Opener{Durable: true, Open: func(place string, o store.Options) (store.Store, error) {
		if err := os.MkdirAll(place, 0o700); err != nil {
			return nil, err
		}
		return Open(filepath.Join(place, "sluice.db"), o)
	}})
}
