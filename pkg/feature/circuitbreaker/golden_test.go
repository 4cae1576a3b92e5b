package circuitbreaker_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/circuitbreaker"
	"github.com/sluice-gateway/sluice/pkg/feature/healthcheck"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
)

func TestGolden(t *testing.T) {
	featuretest.Golden(t, feature.NewSet(circuitbreaker.Feature{}, healthcheck.Feature{}))
}
