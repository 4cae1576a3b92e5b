package explain

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// normalised is a request in the form in which Envoy matches it.
type normalised struct {
	model.Request
	port   uint32
	query  string
	notes  []string
	status int // Envoy answers before any route is looked for
	reason string
}

// maxURL is what Envoy takes by default, headers and all.
const maxURL = 60 << 10

func normalise(r Request) (normalised, error) {
	authority, target, port, err := split(r.URL)
	if err != nil {
		return normalised{}, err
	}
	if h := r.Headers.Get("host"); h != "" {
		authority = h
	}
	n := normalised{port: port}
	n.Method, n.Headers = strings.ToUpper(r.Method), r.Headers
	n.Host, err = hostName(authority)
	if err != nil {
		return normalised{}, err
	}
	n.Path, n.query, _ = strings.Cut(target, "?")
	n.Query = queryOf(n.query)
	if n.Method == "" || strings.ContainsAny(n.Method, " /:\t") {
		return normalised{}, fmt.Errorf("%q is not an HTTP method: write for example GET", r.Method)
	}
	for name := range r.Headers {
		if strings.Contains(name, "_") {
			n.status, n.reason = http.StatusBadRequest, fmt.Sprintf("header %s: names with an underscore are refused", strings.ToLower(name))
		}
	}
	n.normalisePath()
	return n, nil
}

// split takes a URL apart without reading its path: that is done as Envoy does it.
func split(raw string) (authority, target string, port uint32, err error) {
	if len(raw) > maxURL {
		return "", "", 0, fmt.Errorf("the URL is longer than %d KiB, which no Envoy takes", maxURL>>10)
	}
	if i := strings.IndexFunc(raw, func(c rune) bool { return c <= ' ' || c == 0x7f }); i >= 0 {
		return "", "", 0, fmt.Errorf("the URL has a blank or control character at position %d: percent-encode it", i+1)
	}
	raw, _, _ = strings.Cut(raw, "#") // no client sends it
	if strings.HasPrefix(raw, "/") {
		return "", raw, 0, nil
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return "", "", 0, fmt.Errorf("%q is not a URL: write http://host/path, https://host/path or /path", raw)
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority, target = rest[:end], rest[end:]
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	if authority == "" {
		return "", "", 0, errors.New("the URL has no host: write http://host/path, or /path alone")
	}
	return authority, target, portOf(scheme, authority), nil
}

func portOf(scheme, authority string) uint32 {
	if _, port, err := net.SplitHostPort(authority); err == nil {
		n, _ := strconv.ParseUint(port, 10, 16) // what is no number is no listener's port
		return uint32(n)
	}
	if scheme == "https" {
		return 443
	}
	return 80
}

// hostName is the authority as virtual hosts see it: lower case, without port and trailing dot.
func hostName(authority string) (string, error) {
	if strings.ContainsAny(authority, "@/\\") {
		return "", fmt.Errorf("%q is not a host: user names are not taken", authority)
	}
	host := authority
	if name, port, err := net.SplitHostPort(authority); err == nil && strings.Trim(port, "0123456789") == "" {
		host = name
		if strings.Contains(name, ":") {
			host = "[" + name + "]"
		}
	}
	return strings.TrimSuffix(strings.ToLower(host), "."), nil
}

// queryOf splits a query as Envoy's matchers see it: nothing in it is decoded.
func queryOf(query string) url.Values {
	out := url.Values{}
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		out.Add(name, value)
	}
	return out
}

// normalisePath does what the listeners ask Envoy for: escaped slashes are undone by a redirect, then the path gets
// its one form, then slashes are merged.
func (n *normalised) normalisePath() {
	path := n.Path
	if plain := unescapeSlashes(path); plain != path {
		path = plain
		defer func() {
			n.notes = append(n.notes, "the path holds an escaped slash: the client is first redirected (307) to "+n.Path)
		}()
	}
	if strings.Contains(path, "%00") {
		n.status, n.reason = http.StatusBadRequest, "the path holds a zero byte"
	}
	n.Path = mergeSlashes(canonical(path))
}

func unescapeSlashes(path string) string {
	return strings.NewReplacer("%2F", "/", "%2f", "/", "%5C", "\\", "%5c", "\\").Replace(path)
}

// canonical is the one form of a path: needless escapes undone, needed ones made, backslashes turned, dots resolved.
func canonical(path string) string {
	return resolveDots(recode(path))
}

func recode(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '\\':
			b.WriteByte('/')
		case c == '%' && i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2]):
			code, _ := strconv.ParseUint(path[i+1:i+3], 16, 8) // two hexadecimal digits
			if isUnreserved(byte(code)) {
				b.WriteByte(byte(code))
			} else {
				b.WriteString(path[i : i+3])
			}
			i += 2
		case c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>^`{|}", c) >= 0:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isUnreserved(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-._~", c) >= 0
}

// resolveDots follows . and .. segments. An empty segment is one that .. takes back.
func resolveDots(path string) string {
	var out []string
	parts := strings.Split(path, "/")[1:]
	for i, part := range parts {
		last := i == len(parts)-1
		switch part {
		case ".":
			if last {
				out = append(out, "")
			}
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, part)
		}
	}
	return "/" + strings.Join(out, "/")
}

func mergeSlashes(path string) string {
	var b strings.Builder
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}
