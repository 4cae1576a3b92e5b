package login_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/authenticate"
	"github.com/sluice-gateway/sluice/pkg/feature/login"
	"github.com/sluice-gateway/sluice/pkg/featuretest"
)

func TestGolden(t *testing.T) {
	featuretest.Golden(t, feature.NewSet(login.Feature{}, authenticate.Feature{}))
}
