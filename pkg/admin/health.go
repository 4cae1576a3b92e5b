package admin

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"github.com/sluice-gateway/sluice/pkg/secrets"
)

// livez says that the program answers.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") }

// readyPattern is that of requests for readyz. With ?verbose it says more, and is not for everybody.
const readyPattern = "GET /readyz"

// readyz says whether every input was read and is served; with ?verbose, which is not.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	status, answer := http.StatusOK, "ok\n"
	err := s.Controller.Ready()
	if err != nil {
		status, answer = http.StatusServiceUnavailable, "not ready\n"
	}
	if r.URL.Query().Has("verbose") {
		answer = s.checks(err) + answer
	}
	text(w, status, answer)
}

func (s *Server) checks(ready error) string {
	var b strings.Builder
	check := func(name string, err error) {
		if err != nil {
			fmt.Fprintf(&b, "[-] %s: %v\n", name, err)
			return
		}
		fmt.Fprintf(&b, "[+] %s\n", name)
	}
	check("policies", ready)
	if build := s.Controller.Serving(); build != nil {
		fmt.Fprintf(&b, "[+] published: revision %d, %s\n", build.Revision.Number, build.Proof.State)
	} else {
		check("published", errStarting)
	}
	if err := s.Audit.Err(); err != nil {
		fmt.Fprintf(&b, "[!] %v: changes are refused\n", err)
	}
	if s.Catalog != nil {
		b.WriteString(catalogCheck(s.Catalog.Summary()))
	}
	for _, c := range s.Controller.Certificates() {
		b.WriteString(certificateCheck(c))
	}
	return b.String()
}

// certificateCheck is what there is to say of a certificate. One that cannot be read does not make the server unready:
// its last good form is served, and all else is well.
func certificateCheck(c secrets.Status) string {
	switch {
	case c.Problem != "" && c.Serial == "":
		return fmt.Sprintf("[!] certificate %s: %s: handshakes that need it fail\n", c.Name, c.Problem)
	case c.Problem != "":
		return fmt.Sprintf("[!] certificate %s: %s: the last good one is served, which expires %s UTC\n", c.Name, c.Problem, clock(c.Expires))
	case len(c.Warnings) > 0:
		return fmt.Sprintf("[!] certificate %s: %s\n", c.Name, strings.Join(c.Warnings, "; "))
	}
	return fmt.Sprintf("[+] certificate %s: expires %s UTC\n", c.Name, clock(c.Expires))
}

// catalogCheck is what there is to say of the catalog. What is stale or held is served all the same: it is marked, but
// does not make the server unready.
func catalogCheck(sum consul.Summary) string {
	var b strings.Builder
	warn := func(format string, args ...any) { fmt.Fprintf(&b, "[!] consul: "+format+"\n", args...) }
	if note := staleNote(sum); note != "" {
		warn("%s", note)
	} else {
		fmt.Fprintf(&b, "[+] consul: %s, %d services watched\n", sum.Address, sum.Services)
	}
	if sum.OptInsError != "" {
		warn("it cannot be found out who opts in: %s", sum.OptInsError)
	}
	if sum.Cure != "" {
		warn("%s", sum.Cure)
	}
	if !sum.FrozenUntil.IsZero() {
		warn("removals are frozen until %s: %s; `sluice catalog release --all` ends it", clock(sum.FrozenUntil), sum.FrozenWhy)
	}
	return b.String()
}

// staleNote says that what is known may be old, and what to do; "" when it is not.
func staleNote(sum consul.Summary) string {
	switch {
	case sum.Error != "" && sum.Seen.IsZero():
		return fmt.Sprintf("%s never answered: %s; the last known endpoints are served: see that the agent runs, or correct --consul", sum.Address, sum.Error)
	case sum.Error != "":
		return fmt.Sprintf("%s stale since %s UTC: %s; the last known endpoints are served: see that the agent runs and has a leader",
			sum.Address, clock(sum.Seen), sum.Error)
	case sum.Stale > 0:
		return fmt.Sprintf("%s: %d of %d services are stale and served as last known: `sluice catalog` says why", sum.Address, sum.Stale, sum.Services)
	}
	return ""
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("content-type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // a client that is gone needs no answer
}
