package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// guarded lets through what may come from outside: requests for the API's own hosts, from no foreign page, of bounded
// size. Whoever gets further gets no page that may be framed or sniffed.
func (s *Server) guarded(next *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("x-content-type-options", "nosniff")
		h.Set("referrer-policy", "no-referrer")
		h.Set("cache-control", "no-store")
		h.Set("content-security-policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		if err := s.admit(r); err != nil {
			s.refuse(w, r, err)
			return
		}
		if _, pattern := next.Handler(r); pattern == "" {
			s.refuse(w, r, unknownPath(next, r))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxRequestBytes)
		next.ServeHTTP(w, r)
	})
}

// unknownPath is 405 for a path that takes another method, else 404.
func unknownPath(mux *http.ServeMux, r *http.Request) error {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "" {
			return &refusal{http.StatusMethodNotAllowed, CodeMethod, fmt.Sprintf("%s takes %s", r.URL.Path, method)}
		}
	}
	return &refusal{http.StatusNotFound, CodeNotFound, "there is nothing at " + r.URL.Path + ": /openapi.json says what there is"}
}

// admit refuses what a page of another site could make a browser send.
func (s *Server) admit(r *http.Request) error {
	if !overUnix(r) && !s.isOwn(r.Host) {
		return &refusal{http.StatusMisdirectedRequest, CodeForeign,
			fmt.Sprintf("host %q is not one of this server's: use localhost or 127.0.0.1, or start it with --admin-host", r.Host)}
	}
	if site := r.Header.Get("sec-fetch-site"); site != "" && site != "same-origin" && site != "none" {
		return &refusal{http.StatusForbidden, CodeForeign, "requests of foreign pages are refused"}
	}
	if origin := r.Header.Get("origin"); origin != "" && !sameOrigin(origin, r.Host) {
		return &refusal{http.StatusForbidden, CodeForeign, fmt.Sprintf("origin %q is foreign", origin)}
	}
	return nil
}

// overUnix tells whether a request came by a unix socket, which no browser reaches.
func overUnix(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && local.Network() == "unix"
}

func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "http" && strings.EqualFold(u.Host, host)
}

// isOwn tells whether a Host header names loopback, or a host that was configured.
func (s *Server) isOwn(host string) bool {
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.IsLoopback()
	}
	return name == "localhost" || slices.ContainsFunc(s.Hosts, func(h string) bool { return strings.EqualFold(h, name) })
}
