package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The names under which a registration opts in, as metadata keys or, with "=" and a value, as tags.
const (
	// OptInTag marks a service that has only tags.
	OptInTag       = "sluice"
	MetaTemplate   = "sluice-template"
	MetaPath       = "sluice-path"
	MetaHost       = "sluice-host"
	optInPrefix    = "sluice-"
	maxOptInPath   = 200
	maxOptInHost   = 253
	maxName        = 63
	maxService     = 128
	maxQuotedValue = 40
	maxProblemIDs  = 5
)

// OptIn is what a service's instances ask for together. Its values hold only what their forms allow; whether the
// template exists and permits them is not decided here.
type OptIn struct {
	// Service is the registered name.
	Service string `json:"service"`
	// Template names a RouteTemplate; empty if every instance was refused.
	Template string `json:"template,omitempty"`
	// Path is a prefix of whole segments, without a slash at its end except "/" itself; empty if not said.
	Path string `json:"path,omitempty"`
	// Host is lower case, without port; empty if not said.
	Host string `json:"host,omitempty"`
	// Since is from when the service has asked for exactly this, as an index that only grows; 0 if nobody tells.
	Since uint64 `json:"since,omitempty"`
	// Instances is how many of them ask for exactly this.
	Instances int `json:"instances,omitempty"`
	// Problems are the requests that were refused, in a fixed order.
	Problems []OptInProblem `json:"problems,omitempty"`
}

// OptInProblem is one reason, and the instances that it concerns.
type OptInProblem struct {
	// Reason says what is wrong and what would be right; values in it are cut and quoted.
	Reason string `json:"reason"`
	// Instances are sorted; a few, if there are many.
	Instances []string `json:"instances"`
	// Count is how many there are.
	Count int `json:"count"`
}

// Follows takes over since when the same was asked for before, by instances that may be gone by now.
func (o *OptIn) Follows(before *OptIn) {
	if before != nil && before.Since > 0 && o.Template == before.Template && o.Host == before.Host && o.Path == before.Path {
		o.Since = before.Since
	}
}

// request is what one instance asks for.
type request struct{ template, host, path string }

func (r request) compare(other request) int {
	return cmp.Or(cmp.Compare(r.template, other.template), cmp.Compare(r.host, other.host), cmp.Compare(r.path, other.path))
}

// ReadOptIn is what the instances of a service ask for; nil if none asks. Where they disagree, what most of them say
// holds, and of equally many the alphabetically first; the others are reported.
func ReadOptIn(service string, instances []Instance) *OptIn {
	votes, refused := map[request][]string{}, map[string][]string{}
	since := map[request]uint64{}
	for _, i := range instances {
		r, asks, err := readRequest(i)
		if asks && err == nil {
			err = checkService(service, r)
		}
		switch {
		case !asks:
		case err != nil:
			refused[err.Error()] = append(refused[err.Error()], i.ID)
		default:
			votes[r] = append(votes[r], i.ID)
			if first := since[r]; first == 0 || i.Registered < first {
				since[r] = i.Registered
			}
		}
	}
	if len(votes)+len(refused) == 0 {
		return nil
	}
	o, chosen := decide(service, votes, refused)
	o.Since = since[chosen]
	return o
}

func decide(service string, votes map[request][]string, refused map[string][]string) (o *OptIn, chosen request) {
	o = &OptIn{Service: service}
	order := slices.SortedFunc(maps.Keys(votes), func(a, b request) int {
		return cmp.Or(cmp.Compare(len(votes[b]), len(votes[a])), a.compare(b))
	})
	for n, r := range order {
		if n == 0 {
			chosen = r
			o.Template, o.Path, o.Host, o.Instances = r.template, r.path, r.host, len(votes[r])
			continue
		}
		reason := fmt.Sprintf("instances disagree: %s, but %d others ask for %s", r, o.Instances, order[0])
		refused[reason] = votes[r]
	}
	for _, reason := range slices.Sorted(maps.Keys(refused)) {
		ids := slices.Sorted(slices.Values(refused[reason]))
		o.Problems = append(o.Problems, OptInProblem{reason, ids[:min(len(ids), maxProblemIDs)], len(ids)})
	}
	return o, chosen
}

// String names a request in reasons.
func (r request) String() string {
	return fmt.Sprintf("template %q, host %q, path %q", r.template, r.host, r.path)
}

// readRequest is what one instance asks for, and whether it asks at all. Metadata wins over tags as a whole.
func readRequest(i Instance) (r request, asks bool, err error) {
	if _, ok := i.Meta[MetaTemplate]; ok {
		r, err = parseRequest(fromMeta(i.Meta))
		return r, true, err
	}
	if slices.Contains(i.Tags, OptInTag) {
		values, err := fromTags(i.Tags)
		if err != nil {
			return request{}, true, err
		}
		r, err = parseRequest(values)
		return r, true, err
	}
	return request{}, false, nil
}

func fromMeta(meta map[string]string) map[string]string {
	values := map[string]string{}
	for name, value := range meta {
		if strings.HasPrefix(name, optInPrefix) {
			values[name] = value
		}
	}
	return values
}

func fromTags(tags []string) (map[string]string, error) {
	values := map[string]string{}
	for _, tag := range tags {
		name, value, _ := strings.Cut(tag, "=")
		if !strings.HasPrefix(name, optInPrefix) {
			continue
		}
		if old, twice := values[name]; twice && old != value {
			return nil, fmt.Errorf("tag %s is given twice with different values", quoted(name))
		}
		values[name] = value
	}
	return values, nil
}

func parseRequest(values map[string]string) (request, error) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if name != MetaTemplate && name != MetaPath && name != MetaHost {
			return request{}, fmt.Errorf("%s is not known: use %s, %s and %s", quoted(name), MetaTemplate, MetaPath, MetaHost)
		}
	}
	r := request{values[MetaTemplate], values[MetaHost], values[MetaPath]}
	if r.template == "" {
		return request{}, fmt.Errorf("%s is missing: name the RouteTemplate to use", MetaTemplate)
	}
	if err := checkName(r.template); err != nil {
		return request{}, fmt.Errorf("%s %s: %w", MetaTemplate, quoted(r.template), err)
	}
	if _, given := values[MetaHost]; given {
		if err := checkHost(r.host); err != nil {
			return request{}, fmt.Errorf("%s %s: %w", MetaHost, quoted(r.host), err)
		}
	}
	if _, given := values[MetaPath]; given {
		if err := checkPath(r.path); err != nil {
			return request{}, fmt.Errorf("%s %s: %w", MetaPath, quoted(r.path), err)
		}
		r.path = "/" + strings.Trim(r.path, "/")
	}
	return r, nil
}

// quoted is a value as it may stand in a message: cut, and with anything unprintable escaped.
func quoted(value string) string {
	if len(value) > maxQuotedValue {
		return fmt.Sprintf("%+q (%d characters)", value[:maxQuotedValue], len(value))
	}
	return fmt.Sprintf("%+q", value)
}

var (
	errName    = errors.New("a name has 1 to 63 lower-case letters, digits and -, and begins and ends with a letter or digit")
	errService = fmt.Errorf("the name of a service that opts in has at most %d letters, digits and -._", maxService)
	errHost    = errors.New("a host is a name in lower case, such as orders.example, without port, wildcard or scheme")
	errPath    = errors.New("a path begins with / and has lower-case letters, digits and -._~ between single slashes")
	errDots    = errors.New("a path has no segments . and ..")
	errLong    = fmt.Errorf("a path has at most %d characters", maxOptInPath)
	errSlash   = errors.New("a path begins with /")
)

// checkService says whether a service's name may name a route, and its path where none is asked for.
func checkService(service string, r request) error {
	if len(service) > maxService || !only(strings.ToLower(service), "-._") {
		return fmt.Errorf("service %s: %w", quoted(service), errService)
	}
	if err := checkPath("/" + service); r.path == "" && err != nil {
		return fmt.Errorf("%s is missing, and /%s cannot stand for it: %w", MetaPath, service, err)
	}
	return nil
}

func checkName(name string) error {
	if len(name) > maxName || !label(name) {
		return errName
	}
	return nil
}

func checkHost(host string) error {
	if len(host) > maxOptInHost {
		return errHost
	}
	for _, l := range strings.Split(host, ".") {
		if len(l) > maxName || !label(l) {
			return errHost
		}
	}
	return nil
}

func checkPath(path string) error {
	switch {
	case len(path) > maxOptInPath:
		return errLong
	case !strings.HasPrefix(path, "/"):
		return errSlash
	case path == "/":
		return nil
	}
	for _, segment := range strings.Split(strings.TrimSuffix(path[1:], "/"), "/") {
		switch {
		case segment == "." || segment == "..":
			return errDots
		case segment == "" || !only(segment, "-._~"):
			return errPath
		}
	}
	return nil
}

// label says whether the text is a name as DNS and the policies know them.
func label(text string) bool {
	return text != "" && only(text, "-") && text[0] != '-' && text[len(text)-1] != '-'
}

// only says whether the text has lower-case letters, digits and the others alone.
func only(text, others string) bool {
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}
