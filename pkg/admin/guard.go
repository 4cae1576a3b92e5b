package admin

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/auditlog"
)

// guarded lets through what may come from outside: requests for the API's own hosts, from no foreign page, by callers who
// may, of bounded size. Whoever gets further gets no page that may be framed or sniffed.
func (s *Server) guarded(next *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("x-content-type-options", "nosniff")
		h.Set("referrer-policy", "no-referrer")
		h.Set("cache-control", "no-store")
		h.Set("content-security-policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		_, pattern := next.Handler(r)
		caller, err := s.enter(r, pattern)
		switch {
		case err != nil:
			s.deny(w, r, pattern, caller, err)
			return
		case pattern == "":
			s.refuse(w, r, unknownPath(next, r))
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, caller))
		r.Body = http.MaxBytesReader(w, r.Body, MaxRequestBytes)
		next.ServeHTTP(w, r)
	})
}

type callerKey struct{}

// callerOf is who sent a request that was let through.
func callerOf(ctx context.Context) access.Caller {
	caller, _ := ctx.Value(callerKey{}).(access.Caller)
	return caller
}

// enter tells who sends a request, and whether they may. The caller is known also when it may not.
func (s *Server) enter(r *http.Request, pattern string) (access.Caller, error) {
	if err := s.admit(r); err != nil {
		return access.Caller{}, err
	}
	needed := s.needed(r, pattern)
	if needed == access.Open {
		return access.Caller{}, nil
	}
	caller, err := s.Access.Caller(r)
	if err != nil {
		return caller, err
	}
	if !caller.Roles.May(needed) {
		return caller, &access.RefusedError{Reason: access.TooSmall,
			Detail: fmt.Sprintf("%s needs the role %s, and %s has %s", s.name(r, pattern), cmp.Or(needed, "of nobody"), caller.Name, caller.Roles)}
	}
	return caller, nil
}

// needed is the role that a request needs: where nothing is, that of looking, so that strangers are not told.
func (s *Server) needed(r *http.Request, pattern string) access.Role {
	switch {
	case pattern == "", pattern == readyPattern && r.URL.Query().Has("verbose"):
		return access.Read
	}
	return s.needs[pattern]
}

// name is what a request asks for, as the audit log calls it.
func (s *Server) name(r *http.Request, pattern string) string {
	if name := s.names[pattern]; name != "" {
		return name
	}
	return r.Method + " " + r.URL.Path
}

// deny refuses a request, and remembers it.
func (s *Server) deny(w http.ResponseWriter, r *http.Request, pattern string, caller access.Caller, err error) {
	code := problemOf(err).Code
	s.denied.WithLabelValues(string(code)).Inc()
	s.Audit.Denied(auditlog.Event{Who: caller.Name, From: addressOf(r), Operation: s.name(r, pattern), Reason: string(code) + ": " + err.Error()})
	switch code {
	case CodeUnauthenticated:
		w.Header().Set("www-authenticate", `Bearer realm="sluice"`)
		w.Header().Set("connection", "close") // a stranger's connections are not kept
	case CodeTooOften:
		w.Header().Set("retry-after", "10")
		w.Header().Set("connection", "close")
	}
	s.refuse(w, r, err)
}

// addressOf is where a request comes from.
func addressOf(r *http.Request) string {
	if overUnix(r) {
		return "unix socket"
	}
	return r.RemoteAddr
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
	if origin := r.Header.Get("origin"); origin != "" && !sameOrigin(origin, r) {
		return &refusal{http.StatusForbidden, CodeForeign, fmt.Sprintf("origin %q is foreign", origin)}
	}
	return nil
}

// overUnix tells whether a request came by a unix socket, which no browser reaches.
func overUnix(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && local.Network() == "unix"
}

func sameOrigin(origin string, r *http.Request) bool {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == scheme && strings.EqualFold(u.Host, r.Host)
}

// isOwn tells whether a Host header names loopback, a host of the certificate, or one that was configured.
func (s *Server) isOwn(host string) bool {
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	if s.Credentials != nil {
		if own := s.Credentials.Own(); own != nil && own.VerifyHostname(name) == nil {
			return true
		}
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.IsLoopback()
	}
	return name == "localhost" || slices.ContainsFunc(s.Hosts, func(h string) bool { return strings.EqualFold(h, name) })
}
