package main

import (
	"net/http"
	"sync"
	"time"
)

// faults is what an instance was told to suffer from.
type faults struct {
	mu        sync.Mutex
	failUntil time.Time
	slowBy    time.Duration
}

// setFail answers POST /debug/fail?for=10s: until then every other request gets 503; 0s ends it.
func (f *faults) setFail(w http.ResponseWriter, r *http.Request) {
	d, ok := duration(w, r, "for")
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failUntil = time.Now().Add(d)
	reply(w, http.StatusOK, map[string]string{"failing for": d.String()})
}

// setSlow answers POST /debug/slow?by=2s: from now on every other request waits that long; 0s ends it.
func (f *faults) setSlow(w http.ResponseWriter, r *http.Request) {
	d, ok := duration(w, r, "by")
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slowBy = d
	reply(w, http.StatusOK, map[string]string{"slower by": d.String()})
}

func duration(w http.ResponseWriter, r *http.Request, name string) (time.Duration, bool) {
	text := r.URL.Query().Get(name)
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		problem(w, http.StatusBadRequest, "%s=%q is not a duration: say ?%s=2s, or 0s to end it", name, text, name)
		return 0, false
	}
	return d, true
}

func (f *faults) now() (failing bool, slowBy time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Before(f.failUntil), f.slowBy
}

// suffer lets next answer, but for what the instance suffers from at this moment.
func (f *faults) suffer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		failing, slowBy := f.now()
		if slowBy > 0 {
			select {
			case <-time.After(slowBy):
			case <-r.Context().Done():
				return
			}
		}
		if failing {
			problem(w, http.StatusServiceUnavailable, "this instance was told to fail")
			return
		}
		next.ServeHTTP(w, r)
	})
}
