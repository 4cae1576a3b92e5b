package authorize

import (
	"net/url"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

// paramsVariable is the variable that holds the parameters of the path.
const paramsVariable = "request.params"

// input is what an expression sees of one request. What cannot be told is an error where an expression asks for it.
type input struct {
	request  *feature.Request
	identity *feature.Identity
	// pattern is the path of the rule's match.
	pattern string
}

// Parent implements cel.Activation.
func (*input) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (i *input) ResolveName(name string) (any, bool) {
	switch name {
	case "identity.user":
		return i.identity.User, true
	case "identity.plan":
		return i.identity.Plan, true
	case "identity.issuer":
		return i.identity.Issuer, true
	case "identity.permissions":
		return i.identity.Permissions, true
	case "identity.scopes":
		return i.identity.Scopes, true
	case "identity.roles":
		return i.identity.Roles, true
	case "identity.claims":
		return i.identity.Claims, true
	}
	return i.ofRequest(name)
}

func (i *input) ofRequest(name string) (any, bool) {
	switch name {
	case "request.method":
		return i.request.Method, true
	case "request.host":
		return i.request.Host, true
	case "request.path":
		path, _, _ := strings.Cut(i.request.Path, "?")
		return path, true
	case "request.query":
		return orError(url.ParseQuery(i.request.Query()))
	case "request.headers":
		return i.request.Headers, true
	case paramsVariable:
		return orError(pathParams(i.pattern, i.request.Path))
	case "request.time":
		return i.request.Now, true
	case "request.clientAddress":
		if !i.request.Client.IsValid() {
			return types.NewErr("the client's address is not known"), true
		}
		return i.request.Client, true
	}
	return nil, false
}

func orError[T ~map[string]V, V any](values T, err error) (any, bool) {
	if err != nil {
		return types.WrapErr(err), true
	}
	return map[string]V(values), true
}

// pathParams are the parameters of a path that a pattern such as /users/{id}/* takes, decoded.
func pathParams(pattern, path string) (map[string]string, error) {
	path, _, _ = strings.Cut(path, "?")
	values, out := strings.Split(path, "/"), map[string]string{}
	for i, segment := range strings.Split(pattern, "/") {
		name, ok := strings.CutPrefix(segment, "{")
		if !ok || i >= len(values) {
			continue
		}
		value, err := url.PathUnescape(values[i])
		if err != nil {
			return nil, err
		}
		out[strings.TrimSuffix(name, "}")] = value
	}
	return out, nil
}
