package authenticate_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/authenticate"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
)

func TestGolden(t *testing.T) { featuretest.Golden(t, feature.NewSet(authenticate.Feature{})) }
