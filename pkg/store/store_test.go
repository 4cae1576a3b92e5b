package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	storetest.Run(t, storetest.Opener{Open: func(_ string, o store.Options) (store.Store, error) {
		return store.NewMemory(o), nil
	}})
}
