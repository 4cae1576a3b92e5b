package authenticate

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// From is where a token is; at most one field is set.
type From struct {
	Header string `json:"header,omitempty" jsonschema_description:"A header that holds the token and nothing else."`
	Cookie string `json:"cookie,omitempty" jsonschema_description:"A cookie."`
	Query  string `json:"query,omitempty" jsonschema_description:"A parameter of the query. It ends up in logs and histories: prefer the others."`
}

func (f From) validate(at policy.At, p *policy.Problems) {
	said := 0
	for _, name := range []string{f.Header, f.Cookie, f.Query} {
		if name != "" {
			said++
		}
	}
	token := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	switch {
	case said > 1:
		p.Errorf(at, policy.CodeConflict, "the token is in one of header, cookie and query")
	case said == 1 && !token.MatchString(f.Header+f.Cookie+f.Query):
		p.Errorf(at, policy.CodeValue, "%q is not a name of letters, digits, dots, dashes and underscores", f.Header+f.Cookie+f.Query)
	case strings.Contains(f.Header, "_"):
		p.Errorf(at.Field("header"), policy.CodeValue, "headers with underscores are refused by the gateway")
	case strings.HasPrefix(strings.ToLower(f.Header), "x-sluice-") || strings.HasPrefix(strings.ToLower(f.Header), "x-envoy-"):
		p.Errorf(at.Field("header"), policy.CodeValue, "no client can send the header %s", f.Header)
	}
}

// missing is the fault of a request that carries no token.
func missing() *fault { return &fault{reasonMissing, "A token is needed."} }

func refused(f *fault) feature.Decision {
	challenge := `Bearer realm="sluice"`
	if f.reason != reasonMissing {
		challenge += `, error="invalid_token", error_description="` + f.detail + `"`
	}
	return feature.Decision{Status: http.StatusUnauthorized, Reason: f.reason, Detail: f.detail, Challenge: challenge}
}

// find is the one token of a request.
func (f From) find(r *feature.Request) (string, *fault) {
	switch {
	case f.Query != "":
		return one(queryValues(r.Query(), f.Query))
	case f.Cookie != "":
		return one(cookieValues(r.Headers["cookie"], f.Cookie))
	case f.Header != "":
		v, ok := r.Headers[strings.ToLower(f.Header)]
		if !ok {
			return "", missing()
		}
		return single(v)
	}
	v, ok := r.Headers["authorization"]
	if !ok {
		return "", missing()
	}
	if len(v) > maxTokenBytes+len("Bearer ") {
		return "", &fault{"too_large", "The token is larger than allowed."}
	}
	scheme, token, ok := strings.Cut(v, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return "", missing()
	}
	return single(strings.TrimLeft(token, " "))
}

// single refuses what was sent several times: Envoy joins such headers with commas, which no token has.
func single(v string) (string, *fault) {
	switch {
	case strings.Contains(v, ","):
		return "", &fault{"several", "The request carries more than one token."}
	case v == "":
		return "", missing()
	}
	return v, nil
}

func one(values []string) (string, *fault) {
	switch len(values) {
	case 0:
		return "", missing()
	case 1:
		return single(values[0])
	}
	return "", &fault{"several", "The request carries more than one token."}
}

func queryValues(query, name string) (out []string) {
	if len(query) > 2*maxTokenBytes {
		return nil
	}
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if k, err := url.QueryUnescape(key); err != nil || k != name {
			continue
		}
		v, err := url.QueryUnescape(value)
		if err != nil {
			v = "%"
		}
		out = append(out, v)
	}
	return out
}

func cookieValues(header, name string) (out []string) {
	for pair := range strings.FieldsFuncSeq(header, func(r rune) bool { return r == ';' || r == ',' }) {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if ok && key == name {
			out = append(out, value)
		}
	}
	return out
}
