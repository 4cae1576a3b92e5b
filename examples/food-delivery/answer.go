package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// reply answers with JSON. A client that is gone is nobody to tell about it.
func reply(w http.ResponseWriter, status int, body any) {
	answer(w, status, "application/json", body)
}

// problem answers with an RFC 9457 problem.
func problem(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, "application/problem+json", map[string]any{
		"type":   "about:blank",
		"title":  http.StatusText(status),
		"status": status,
		"detail": fmt.Sprintf(format, args...),
	})
}

func answer(w http.ResponseWriter, status int, contentType string, body any) {
	w.Header().Set("content-type", contentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// read decodes the request's JSON body into v, or answers what is wrong with it.
func read(w http.ResponseWriter, r *http.Request, v any) bool {
	err := json.NewDecoder(r.Body).Decode(v)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return true
	case errors.As(err, &tooLarge):
		problem(w, http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	default:
		problem(w, http.StatusBadRequest, "the body is not the JSON expected here: %v", err)
	}
	return false
}

// notFound answers every path a service does not know.
func notFound(w http.ResponseWriter, r *http.Request) {
	problem(w, http.StatusNotFound, "nothing here answers %s %s", r.Method, r.URL.Path)
}
