package headers

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// placeholders are what a value may take from its request, each as Envoy writes it.
var placeholders = map[string]string{
	"{requestId}":     "%REQ(x-request-id)%",
	"{clientAddress}": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
	"{host}":          "%REQ(:authority)%",
	"{path}":          "%PATH(NQ)%",
	"{method}":        "%REQ(:method)%",
	"{route}":         "%ROUTE_NAME%",
}

func placeholderNames() []string { return slices.Sorted(maps.Keys(placeholders)) }

var braces = regexp.MustCompile(`\{\{[A-Za-z]+\}\}|\{[A-Za-z]+\}`)

// format is a value as Envoy's formatter takes it: what is written is what is sent, but for the placeholders.
func format(value string) (string, error) {
	var unknown error
	out := braces.ReplaceAllStringFunc(strings.ReplaceAll(value, "%", "%%"), func(s string) string {
		if strings.HasPrefix(s, "{{") {
			return s[1 : len(s)-1]
		}
		operator, ok := placeholders[s]
		if !ok {
			unknown = fmt.Errorf("%s is not known", s)
		}
		return operator
	})
	return out, unknown
}
