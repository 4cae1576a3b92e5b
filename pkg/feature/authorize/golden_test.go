package authorize_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/authorize"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
)

func TestGolden(t *testing.T) { featuretest.Golden(t, feature.NewSet(authorize.Feature{})) }
