package integration

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// page is a backend whose answers the request's query makes.
func page(t *testing.T) string {
	return gateway.Backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		for _, name := range []string{"content-type", "content-encoding", "etag", "cache-control"} {
			if v := q.Get(name); v != "" {
				w.Header().Set(name, v)
			}
		}
		w.Header().Set("x-accepted", r.Header.Get("accept-encoding"))
		if q.Get("status") == "206" {
			w.WriteHeader(http.StatusPartialContent)
		}
		size := 4096
		if q.Get("size") == "small" {
			size = 100
		}
		_, _ = io.WriteString(w, strings.Repeat("a", size))
	}))
}

func TestCompression_WithWhatBothSidesLike(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("compression: {}") + service("pages", page(t), "") +
		routeTo("{match: /p, to: pages}", "{match: /off, to: pages, compression: off}", "{match: /gzip, to: pages, compression: {algorithms: [gzip]}}",
			"{match: /own, to: pages, compression: {algorithms: [gzip, zstd], minBytes: 10B, contentTypes: [text/*]}}")})
	const json = "content-type=application/json%3B+charset=utf-8"
	for _, c := range []struct{ name, path, accept, want string }{
		{"a browser's list", "/p?" + json, "gzip, deflate, br, zstd", "zstd"},
		{"an older browser's list", "/p?" + json, "gzip, deflate, br", "br"},
		{"gzip alone", "/p?" + json, "gzip", "gzip"},
		{"the client's weights win", "/p?" + json, "zstd;q=0.5, gzip", "gzip"},
		{"anything", "/p?" + json, "*", "zstd"},
		{"nothing", "/p?" + json, "identity", ""},
		{"refused", "/p?" + json, "gzip;q=0", ""},
		{"small", "/p?size=small&" + json, "gzip", ""},
		{"an image", "/p?content-type=image/png", "gzip", ""},
		{"an event stream", "/p?content-type=text/event-stream", "gzip", ""},
		{"compressed by the service", "/p?content-encoding=br&" + json, "gzip, br", "br"},
		{"not to be changed", "/p?cache-control=no-transform&" + json, "gzip", ""},
		{"a part", "/p?status=206&" + json, "gzip", ""},
		{"switched off", "/off?" + json, "gzip", ""},
		{"only gzip here", "/gzip?" + json, "gzip, br, zstd", "gzip"},
		{"only gzip here, and not taken", "/gzip?" + json, "zstd", ""},
		{"own filters: order", "/own?content-type=text/x", "zstd, gzip", "gzip"},
		{"own filters: size", "/own?size=small&content-type=text/x", "zstd", "zstd"},
		{"own filters: type", "/own?" + json, "gzip", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, header := g.Get(c.path, "accept-encoding", c.accept)
			if got := header.Get("content-encoding"); got != c.want {
				t.Errorf("content-encoding %q, want %q", got, c.want)
			}
		})
	}
}

func TestCompression_IsSeenByCachesAndNotByServices(t *testing.T) {
	g := gateway.Start(t, map[string]string{"policy.yaml": edge("compression: {}") + service("pages", page(t), "") +
		routeTo("{match: /p, to: pages}", "{match: /own, to: pages, compression: {minBytes: 10B}}", "{match: /one, to: pages, compression: {algorithms: [zstd, gzip]}}")})
	for _, path := range []string{"/p", "/own", "/one"} {
		_, body, header := g.Get(path+"?content-type=text/plain&etag=%22v1%22", "accept-encoding", "gzip")
		zipped, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if plain, err := io.ReadAll(zipped); err != nil || string(plain) != strings.Repeat("a", 4096) {
			t.Errorf("%s: %v, %d bytes", path, err, len(plain))
		}
		if header.Get("etag") != `W/"v1"` || header.Get("vary") != "Accept-Encoding" || header.Get("x-accepted") != "" {
			t.Errorf("%s: etag %q, vary %q, the service was told %q", path, header.Get("etag"), header.Get("vary"), header.Get("x-accepted"))
		}
	}
	if _, _, header := g.Get("/p?content-type=text/plain&etag=%22v1%22", "accept-encoding", "identity"); header.Get("etag") != `"v1"` {
		t.Errorf("plain: etag %q", header.Get("etag"))
	}
}
