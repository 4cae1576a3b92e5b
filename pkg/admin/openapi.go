package admin

import (
	"encoding/json"
	"net/http"
	"path"
	"reflect"
	"regexp"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/access"
)

// openapi serves the description of the API.
func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, "application/json", OpenAPI(s.Version))
}

// OpenAPI describes the API, from the same table that serves it.
func OpenAPI(version string) map[string]any {
	d := describer{schemas: jsonschema.Definitions{}}
	paths := map[string]map[string]any{
		"/livez":   {"get": plain("livez", "Whether the program answers.", access.Open)},
		"/readyz":  {"get": plain("readyz", "Whether every input was read and is served; with ?verbose, which is not, for those who may read.", access.Open)},
		"/metrics": {"get": plain("metrics", "Metrics for Prometheus.", access.Read)},
	}
	for _, o := range operations() {
		if paths[o.path] == nil {
			paths[o.path] = map[string]any{}
		}
		paths[o.path][strings.ToLower(o.method)] = d.operation(o)
	}
	return map[string]any{
		"openapi":    "3.1.0",
		"info":       map[string]any{"title": "Sluice admin API", "version": version, "description": description},
		"paths":      paths,
		"components": map[string]any{"schemas": d.components(), "securitySchemes": securitySchemes()},
	}
}

const description = "Errors are application/problem+json. Each operation names the role that its caller needs: read, apply " +
	"(which includes read) or secrets (which includes read). By loopback without a token file, and by a unix socket, callers have them all."

// securitySchemes are the ways to prove oneself.
func securitySchemes() map[string]any {
	return map[string]any{
		"token":       map[string]any{"type": "http", "scheme": "bearer", "bearerFormat": access.TokenPrefix + "…", "description": "A token of `sluice tokens create`."},
		"certificate": map[string]any{"type": "mutualTLS", "description": "A client certificate of `sluice certs` that names a role."},
	}
}

// security is what a caller needs: the role, by one of the ways.
func security(needs access.Role) []any {
	if needs == access.Open {
		return []any{}
	}
	return []any{map[string]any{"token": []any{needs}}, map[string]any{"certificate": []any{needs}}}
}

func plain(id, summary string, needs access.Role) map[string]any {
	return map[string]any{"operationId": id, "summary": summary, "security": security(needs), "responses": map[string]any{
		"200": map[string]any{"description": "text", "content": map[string]any{"text/plain": map[string]any{}}},
	}}
}

// describer gathers the types that operations name.
type describer struct {
	schemas jsonschema.Definitions
}

func (d describer) operation(o operation) map[string]any {
	out := map[string]any{"operationId": o.id, "summary": o.summary, "security": security(o.needs)}
	if p := parameters(o); len(p) > 0 {
		out["parameters"] = p
	}
	if o.request != nil {
		out["requestBody"] = map[string]any{"required": true, "content": d.content("application/json", o.request)}
	}
	fine := map[string]any{"description": "It was done."}
	if o.response != nil {
		fine["content"] = d.content("application/json", o.response)
	} else {
		fine["content"] = map[string]any{"application/jsonl": map[string]any{}}
	}
	out["responses"] = map[string]any{
		"200":     fine,
		"default": map[string]any{"description": "It was not done.", "content": d.content("application/problem+json", Problem{})},
	}
	return out
}

var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

func parameters(o operation) []any {
	var out []any
	for _, m := range pathParameter.FindAllStringSubmatch(o.path, -1) {
		out = append(out, map[string]any{"name": m[1], "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
	}
	for _, q := range o.query {
		out = append(out, map[string]any{"name": q.name, "in": "query", "description": q.description, "schema": map[string]any{"type": q.kind}})
	}
	return out
}

func (d describer) content(media string, of any) map[string]any {
	return map[string]any{media: map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/" + d.define(of)}}}
}

// define adds a type, with all it is made of, and gives its name.
func (d describer) define(of any) string {
	r := jsonschema.Reflector{Anonymous: true, Namer: schemaName}
	for name, s := range r.Reflect(of).Definitions {
		d.schemas[name] = s
	}
	return schemaName(reflect.TypeOf(of))
}

// schemaName tells types of one name apart by their package.
func schemaName(t reflect.Type) string {
	pkg := path.Base(t.PkgPath())
	if pkg == "admin" || pkg == "." {
		return t.Name()
	}
	return strings.ToUpper(pkg[:1]) + pkg[1:] + t.Name()
}

// components are the schemas with their references as OpenAPI writes them.
func (d describer) components() any {
	body, err := json.Marshal(d.schemas)
	if err != nil {
		panic("admin: the API's types have no schema: " + err.Error()) // a mistake in the program
	}
	var out any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(body), `"#/$defs/`, `"#/components/schemas/`)), &out); err != nil {
		panic("admin: the API's types have no schema: " + err.Error())
	}
	return out
}
