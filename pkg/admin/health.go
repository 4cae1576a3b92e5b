package admin

import (
	"fmt"
	"net/http"
	"strings"
)

// livez says that the program answers.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") }

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
	return b.String()
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("content-type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // a client that is gone needs no answer
}
