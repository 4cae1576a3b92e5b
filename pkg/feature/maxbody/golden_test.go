package maxbody_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/direct"
	"github.com/sluice-gateway/sluice/pkg/feature/maxbody"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
)

func TestGolden(t *testing.T) {
	featuretest.Golden(t, feature.NewSet(direct.Feature{}, maxbody.Feature{}))
}
