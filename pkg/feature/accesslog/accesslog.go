// Package accesslog writes a JSON line for each request.
package accesslog

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Feature is the block `accessLog`.
type Feature struct{}

// Info implements feature.Feature.
func (Feature) Info() feature.Info {
	return feature.Info{Name: "accessLog", Stage: feature.StageRoute, On: feature.Gateway,
		Summary: "A JSON line for each request."}
}

// New implements feature.Feature.
func (Feature) New() feature.Spec { return &Spec{} }

// Default implements feature.Defaulter: all requests, to standard output.
func (f Feature) Default() feature.Spec { return f.New() }

// Spec is the block: off, or the long form.
type Spec struct {
	Off    bool              `json:"off,omitempty" jsonschema_description:"Writes nothing."`
	File   string            `json:"file,omitempty" jsonschema_description:"A file on Envoy's host, by its full path; standard output when left out."`
	Only   *Only             `json:"only,omitempty" jsonschema_description:"Which requests are always written; all when neither only nor sample is given."`
	Sample *policy.Percent   `json:"sample,omitempty" jsonschema_description:"The share that is written of the requests that only leaves out."`
	Fields map[string]string `json:"fields,omitempty" jsonschema_description:"Further fields, each with a command of Envoy's access log: tenant: \"%REQ(x-tenant)%\"."`
}

// Only takes a request when one of its conditions holds.
type Only struct {
	Status     *Status         `json:"status,omitempty" jsonschema_description:"A status, or >=, <=, != and one."`
	SlowerThan policy.Duration `json:"slowerThan,omitempty" jsonschema_description:"Requests that took at least so long."`
}

// UnmarshalNode reads either form.
func (s *Spec) UnmarshalNode(at policy.At, p *policy.Problems) {
	if s.Off = policy.IsOff(at, p); s.Off {
		return
	}
	type plain Spec
	policy.Decode(at, (*plain)(s), p)
}

// JSONSchema describes both forms.
func (Spec) JSONSchema() *jsonschema.Schema {
	type plain Spec
	return policy.OrOff(plain{})
}

// Validate implements feature.Spec.
func (s *Spec) Validate(at policy.At, p *policy.Problems) {
	if why := badFile(s.File); why != "" {
		p.Suggestf(at.Field("file"), policy.CodeValue, "write for example /var/log/envoy/access.json", "%q %s", s.File, why)
	}
	if s.Only != nil && s.Only.Status == nil && s.Only.SlowerThan == 0 {
		p.Suggestf(at.Field("only"), policy.CodeRequired, `write for example only: {status: ">=400"}`, "only holds for no request")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Fields)) {
		s.checkField(name, at.Field("fields").Field(name), p)
	}
}

func (s *Spec) checkField(name string, at policy.At, p *policy.Problems) {
	format := s.Fields[name]
	switch {
	case !fieldName().MatchString(name):
		p.Errorf(at, policy.CodeValue, "%q is not a field's name: a letter, then letters, digits, _ and -", name)
	case lines()[name] != "":
		p.Suggestf(at, policy.CodeDuplicate, "give it another name", "%s is a field of every line already", name)
	case secretIn(format) != "":
		p.Errorf(at, policy.CodeValue, "%q would write secrets into the log: %s", format, secretIn(format))
	case strings.Count(format, "%") < 2:
		p.Suggestf(at, policy.CodeValue, "write for example %REQ(x-tenant)%", "%q has no command between percent signs", format)
	}
}

func fieldName() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`) }

// secretIn is what a format would give away: credentials, and queries, which hold them all too often.
func secretIn(format string) string {
	lower := strings.ToLower(format)
	for _, secret := range []struct{ word, why string }{
		{"authorization", "that header holds credentials"},
		{"cookie", "cookies are credentials"},
		{"api-key", "keys are credentials"},
		{"apikey", "keys are credentials"},
		{":path", "the path with its query; the field path has it without"},
		{"original-path", "the path with its query; the field path has it without"},
		{"request.path", "the path with its query; request.url_path has it without"},
		{"query", "queries hold tokens all too often"},
		{"path(wq", "queries hold tokens all too often"},
		{"path()", "the path with its query; the field path has it without"},
		{"%path%", "the path with its query; the field path has it without"},
		{"referer", "it holds the query of the page before"},
		{"environment(", "environments hold secrets"},
		{"file_content(", "files hold secrets"},
		{"secret(", "it says so itself"},
	} {
		if strings.Contains(lower, secret.word) {
			return secret.why
		}
	}
	return ""
}

// badFile tells why a file cannot be a log, "" when it can. Whoever writes policies must not reach a device or the
// kernel's own files.
func badFile(file string) string {
	switch {
	case file == "":
		return ""
	case !path.IsAbs(file):
		return "is not a full path, and Envoy's working directory is anyone's guess"
	case path.Clean(file) != file || strings.ContainsFunc(file, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "is not a plain path: no //, /./, /../, no slash at the end and no control characters"
	}
	for _, tree := range []string{"/proc", "/sys", "/dev", "/etc", "/boot", "/run/secrets"} {
		if file == tree || strings.HasPrefix(file, tree+"/") {
			return "is below " + tree + ", where no log belongs"
		}
	}
	return ""
}
