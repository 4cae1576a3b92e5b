// Package all is the list of features: adding one is a folder and a line here.
package all

import (
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/feature/direct"
	"github.com/sluice-gateway/sluice/pkg/feature/timeout"
)

// Features are all features of the program.
func Features() feature.Set {
	return feature.NewSet(
		direct.Feature{},
		timeout.Feature{},
	)
}
